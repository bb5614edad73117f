"""Exceptions that lie about themselves, or raise when they are looked at, are failures like any other."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pydantic
import pytest

from eventbus import EventBus
from eventbus.classify import Classification, Kind, classify
from eventbus.groups import cause_of, context_of, holds, members
from eventbus.snapshots import fingerprint, snapshot
from eventbus_dlq import DeadLetterQueue, MemoryStore


class StrInterrupts(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class StrExits(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class StrEndsGenerators(Exception):
    def __str__(self) -> str:
        raise GeneratorExit


class SaysItIsAGroup(Exception):
    @property
    def __class__(self) -> Any:
        return ExceptionGroup


class SaysItIsInvalid(Exception):
    @property
    def __class__(self) -> Any:
        return pydantic.ValidationError


class SaysItIsAnInterrupt(Exception):
    @property
    def __class__(self) -> Any:
        return KeyboardInterrupt


class SaysItIsACancellation(Exception):
    @property
    def __class__(self) -> Any:
        return anyio.get_cancelled_exc_class()


class ClassRaises(Exception):
    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")


class ClassInterrupts(Exception):
    @property
    def __class__(self) -> Any:
        raise KeyboardInterrupt


class CauseRaises(Exception):
    @property
    def __cause__(self) -> Any:
        raise RuntimeError("no cause")


class CauseIsText(Exception):
    __cause__: Any = "a text"


class ContextRaises(Exception):
    @property
    def __context__(self) -> Any:
        raise RuntimeError("no context")


class TracebackRaises(Exception):
    @property
    def __traceback__(self) -> Any:
        raise RuntimeError("no traceback")


class TracebackIsText(Exception):
    __traceback__: Any = "a text"


class AttributesRaise(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class AttributesInterrupt(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise KeyboardInterrupt(name)


class StatusInterrupts(Exception):
    @property
    def status_code(self) -> int:
        raise KeyboardInterrupt


class MembersRaise(ExceptionGroup[Exception]):
    @property
    def exceptions(self) -> Any:
        raise RuntimeError("no members")


class NamelessClass(type):
    @property
    def __module__(cls) -> str:  # type: ignore[override]  # the point
        raise RuntimeError("no module")


class ClassHasNoModule(Exception, metaclass=NamelessClass):
    """An exception whose class cannot be named."""


class UnhashableClass(type):
    __hash__ = None  # type: ignore[assignment]  # the point

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("nothing to compare")


class ClassIsUnhashable(Exception, metaclass=UnhashableClass):
    """An exception whose class can be no key."""


class IsUnhashable(Exception):
    __hash__ = None  # type: ignore[assignment]  # the point

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("nothing to compare")


def group_without_members() -> Exception:
    return MembersRaise("group", [ValueError("member")])


def deep_group() -> Exception:
    error: Exception = ValueError("leaf")
    for _ in range(3_000):
        error = ExceptionGroup("deep", [error])
    return error


HOSTILE = [
    StrInterrupts,
    StrExits,
    StrEndsGenerators,
    SaysItIsAGroup,
    SaysItIsInvalid,
    SaysItIsAnInterrupt,
    SaysItIsACancellation,
    ClassRaises,
    ClassInterrupts,
    CauseRaises,
    CauseIsText,
    ContextRaises,
    TracebackRaises,
    TracebackIsText,
    AttributesRaise,
    AttributesInterrupt,
    StatusInterrupts,
    IsUnhashable,
    group_without_members,
    deep_group,
]

every_hostile_one = pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)


@pytest.mark.parametrize("make", [*HOSTILE, ClassHasNoModule], ids=lambda make: make.__name__)
@pytest.mark.parametrize("way", ["publish", "enqueue"])
@pytest.mark.parametrize("waits_first", [False, True])
@pytest.mark.parametrize("siblings", [0, 3])
async def test_the_failure_is_kept_as_the_handlers_own_and_nobody_else_hears_of_it(
    dlq: DeadLetterQueue, store: MemoryStore, make: Any, way: str, waits_first: bool, siblings: int
) -> None:
    bus = EventBus(dlq=dlq)
    ran: list[int] = []

    def sibling(number: int) -> Any:
        async def run(event: Any) -> None:
            await anyio.lowlevel.checkpoint()
            ran.append(number)

        return run

    @bus.on("job", id="hostile")
    async def hostile(event: Any) -> None:
        if waits_first:
            await anyio.lowlevel.checkpoint()
        raise make()

    for number in range(siblings):
        bus.subscribe("job", sibling(number), id=f"sibling-{number}")
    escaped, receipt = "nothing", None
    try:
        async with bus:
            receipt = await getattr(bus, way)("job", 1)
            with anyio.fail_after(10):
                await bus.wait_idle()
    except BaseException as error:  # what escaped cannot be shown: to look at it is what goes wrong
        escaped = type(error).__qualname__
    assert escaped == "nothing"
    assert receipt is not None
    assert sorted(ran) == list(range(siblings))
    assert receipt.failed == ("hostile",)
    result = receipt.deliveries["hostile"]
    assert (result.state, result.attempts) == ("dead_lettered", 1)
    letter = await store.get(str(result.dead_letter_id))
    assert (letter.attempts, len(letter.history)) == (1, 1)
    assert letter.reason != "interrupted"
    assert letter.error.type.endswith(type(make()).__qualname__)


@every_hostile_one
def test_a_hostile_exception_behind_another_is_kept_too(make: Any) -> None:
    error = RuntimeError("outer")
    vars(BaseException)["__cause__"].__set__(error, make())
    record = snapshot(error, classify(error))
    assert record.message == "outer"
    assert record.causes[0].type.endswith(type(make()).__qualname__)
    assert fingerprint("handler", error)


def test_what_an_exception_says_of_its_fields_is_not_asked() -> None:
    cause = ValueError("the real cause")
    for kind in (CauseRaises, CauseIsText, AttributesRaise, ContextRaises):
        error = kind()
        vars(BaseException)["__cause__"].__set__(error, cause)
        assert cause_of(error) is cause
        assert context_of(error) is None
    assert members(SaysItIsAGroup()) == ()
    assert [str(member) for member in members(group_without_members())] == ["member"]


def test_groups_are_looked_into_however_deep_they_are() -> None:
    assert holds(deep_group(), ValueError)
    assert not holds(deep_group(), KeyError)
    assert not holds(SaysItIsAnInterrupt(), KeyboardInterrupt)


@pytest.mark.parametrize("kind", [AttributesInterrupt, ClassHasNoModule, ClassIsUnhashable])
def test_what_can_hardly_be_read_is_kept_by_its_type(kind: Any) -> None:
    record = snapshot(kind(), Classification(Kind.BUG))
    assert record.type.endswith(kind.__qualname__)
    assert record.message.startswith("<the ") is (kind is AttributesInterrupt)
    assert record.kind is Kind.BUG
