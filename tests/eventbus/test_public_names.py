"""The face of the product: what is public is listed, importable and documented, and loads nothing else."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from types import ModuleType

import pytest

import eventbus
import eventbus.testing
import eventbus_dlq

FACES = [eventbus, eventbus_dlq, eventbus.testing]

ERRORS = [
    "BusClosed",
    "BusFull",
    "Paused",
    "NoDeadLetterQueue",
    "PayloadRedacted",
    "DuplicateHandler",
    "UnknownEvent",
    "InvalidEvent",
    "PayloadTooLarge",
    "CaptureFailed",
    "StoreUnavailable",
    "DeadLetterNotFound",
    "LeaseHeld",
    "LeaseLost",
    "InvalidTransition",
    "InvalidCursor",
    "NotSandboxed",
    "PermissionDenied",
]


@pytest.mark.parametrize("module", FACES, ids=lambda module: module.__name__)
def test_the_list_names_what_there_is_in_order_and_nothing_twice(module: ModuleType) -> None:
    names = module.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(module, name) for name in names)
    here = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert here == set(names)


def documented(value: object) -> bool:
    doc = inspect.getdoc(value)
    return bool(doc) and (not inspect.isclass(value) or value.__doc__ is not None)


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module in FACES for name in module.__all__], ids=str
)
def test_every_public_name_and_every_method_of_it_says_what_it_is(module: ModuleType, name: str) -> None:
    value = getattr(module, name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return  # an alias of a type or a constant: a string below it documents it
    assert documented(value), f"{module.__name__}.{name}"
    if inspect.isclass(value):
        for member, attribute in vars(value).items():
            function = attribute.fget if isinstance(attribute, property) else attribute
            if isinstance(function, (classmethod, staticmethod)):
                function = function.__func__
            if inspect.isfunction(function) and not member.startswith("_"):
                assert documented(function), f"{name}.{member}"


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_is_importable_from_whoever_owns_it_and_below_one_base(name: str) -> None:
    owners = [module for module in (eventbus, eventbus_dlq) if name in module.__all__]
    assert len(owners) == 1
    assert issubclass(getattr(owners[0], name), eventbus.EventBusError)


def test_every_error_is_in_the_tree_that_its_module_draws() -> None:
    for module_name in ("eventbus.errors", "eventbus_dlq.errors"):
        module = importlib.import_module(module_name)
        for name, value in vars(module).items():
            if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == module_name:
                assert name in (module.__doc__ or ""), name


def loaded_by(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_bus_loads_no_database_and_no_web_framework() -> None:
    loaded = loaded_by("import eventbus")
    assert not loaded & {
        "sqlalchemy",
        "aiosqlite",
        "starlette",
        "eventbus_dlq",
        "eventbus_adapters",
        "pytest",
    }
    assert "eventbus.testing" not in loaded


def test_importing_the_queue_loads_no_database_either() -> None:
    assert not loaded_by("import eventbus_dlq") & {"sqlalchemy", "aiosqlite", "starlette"}


def test_the_fixtures_of_the_plugin_load_neither_queue_nor_database() -> None:
    loaded = loaded_by("import eventbus.testing.plugin")
    assert not loaded & {"sqlalchemy", "aiosqlite", "starlette", "eventbus_dlq", "eventbus_adapters", "trio"}
