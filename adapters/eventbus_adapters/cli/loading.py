"""Finding an application's bus by ``module:bus``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from eventbus import EventBus


class CannotLoad(Exception):
    """The application's bus was not found; ``__cause__`` is what its own code raised, if it did."""


def load_bus(name: str) -> EventBus:
    """Import a module, with the current directory on the path, and return the bus in it.

    Args:
        name: ``module:bus``, where both may be dotted, such as ``shop.main:app.bus``.

    Raises:
        CannotLoad: the name, the module or the bus is not there.
    """
    module_name, colon, attribute = name.partition(":")
    if not colon or not all(module_name.split(".")) or not all(attribute.split(".")):
        raise CannotLoad(f"{name!r} is not 'module:bus', such as 'shop.main:bus'")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found: object = _imported(module_name, name)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CannotLoad(f"{name!r}: {_described(found)} has no {part!r}") from None
    if not isinstance(found, EventBus):
        raise CannotLoad(f"{name!r} is a {type(found).__name__}, not an EventBus")
    return found


def _imported(module_name: str, name: str) -> object:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise CannotLoad(
                f"{name!r}: there is no module {error.name!r}, neither here nor installed"
            ) from None
        raise CannotLoad(f"{name!r}: {module_name} needs {error.name!r}, which is not there") from error
    except (Exception, SystemExit) as error:  # the application's own code
        raise CannotLoad(
            f"{name!r}: importing {module_name} raised {type(error).__name__}: {error}"
        ) from error


def _described(found: object) -> str:
    return getattr(found, "__name__", type(found).__name__)
