"""The entry point: what it says when its packages are not there."""

from __future__ import annotations

import builtins
import subprocess
import sys
from typing import Any

import pytest

from eventbus_adapters.cli import main


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Let ``package`` seem not to be installed."""
    real = builtins.__import__

    def imported(name: str, *args: Any, **options: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **options)

    for name in list(sys.modules):
        if name.startswith("eventbus_adapters.cli."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", imported)


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], package: str
) -> None:
    without(monkeypatch, package)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert f"'{package}" in said
    assert "pip install 'eventbus[cli]'" in said


def test_another_missing_module_is_not_blamed_on_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "eventbus_dlq")
    with pytest.raises(ModuleNotFoundError):
        main()


def test_the_module_alone_loads_neither_typer_nor_rich() -> None:
    code = "import sys, eventbus_adapters.cli; print(sorted({'typer', 'rich', 'uvicorn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_the_commands_that_exist_are_offered() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from eventbus_adapters.cli import main; main()", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    offered = done.stdout.partition("Commands:")[2].split("\n")
    assert [line.split()[0] for line in offered if line.startswith("  ") and line[2] != " "] == [
        "demo",
        "publish",
        "db",
    ]
