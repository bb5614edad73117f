"""Finding an application's bus by name, and saying what is in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventbus import EventBus
from eventbus_adapters.cli.loading import CannotLoad, load_bus


@pytest.mark.parametrize("name", ["shop:bus", "shop:Parts.inner"])
def test_a_bus_is_found_in_a_module_of_the_current_directory(shop: Path, name: str) -> None:
    assert isinstance(load_bus(name), EventBus)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("shop", "is not 'module:bus'"),
        ("shop:", "is not 'module:bus'"),
        (":bus", "is not 'module:bus'"),
        ("a..b:bus", "is not 'module:bus'"),
        ("shop:bus..x", "is not 'module:bus'"),
        ("nowhere:bus", "no module 'nowhere'"),
        ("shop.deeper:bus", "no module 'shop.deeper'"),
        ("shop:nothing", "shop has no 'nothing'"),
        ("shop:Parts.outer", "Parts has no 'outer'"),
        ("shop:number.x", "int has no 'x'"),
        ("shop:number", "is a int, not an EventBus"),
    ],
)
def test_what_is_not_there_is_named(shop: Path, name: str, says: str) -> None:
    with pytest.raises(CannotLoad, match=r"^.+$") as caught:
        load_bus(name)
    assert says in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("1 / 0", "raised ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "raised SystemExit: 3"),
        ("import not_installed_here", "needs 'not_installed_here'"),
        ("def (", "raised SyntaxError"),
    ],
)
def test_what_the_application_raises_is_the_cause(shop: Path, source: str, says: str) -> None:
    (shop / "broken.py").write_text(source)
    with pytest.raises(CannotLoad, match=r"^.+") as caught:
        load_bus("broken:bus")
    assert says in str(caught.value)
    assert caught.value.__cause__ is not None
