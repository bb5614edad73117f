"""Turning a live exception into a bounded record, whatever the exception does meanwhile."""

from __future__ import annotations

import functools
import linecache
import os
import re
from collections.abc import Hashable, Iterator
from types import TracebackType
from typing import Any, TypeAlias, cast

import pydantic_core

from eventbus.classify import CATEGORY_OF, ROUTE_OF, Classification, code_of
from eventbus.failure import CauseRecord, ErrorRecord, Relation
from eventbus.groups import cause_of, context_of, is_a, members, traceback_of
from eventbus.storable import clean

MAX_MESSAGE = 8_192
MAX_TRACEBACK = 32_768
MAX_CAUSES = 16
_MAX_CAUSE_TRACEBACK = 8_192
_MAX_FRAMES = 100
_QUALNAME = type.__dict__["__qualname__"].__get__  # a metaclass may have another
_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep


def snapshot(error: BaseException, classification: Classification) -> ErrorRecord:
    """Return what is kept of ``error``. Never raises, whatever the exception's own code does."""
    try:
        return _full(error, classification)
    except BaseException as broken:  # a KeyboardInterrupt out of __str__ included: the failure must be kept
        kind = classification.kind
        name = clean(_QUALNAME(type(error)))[:256]
        text = f"<the exception cannot be read: {_QUALNAME(type(broken))}>"
        return ErrorRecord(name, text, "", None, kind, CATEGORY_OF[kind], ROUTE_OF[kind], ())


def _full(error: BaseException, classification: Classification) -> ErrorRecord:
    """Return what is kept of an exception that can be read."""
    kind = classification.kind
    return ErrorRecord(
        type_name(error),
        message_of(error),
        traceback_text(error, MAX_TRACEBACK),
        code_of(error),
        kind,
        CATEGORY_OF[kind],
        ROUTE_OF[kind],
        tuple(_causes(error)) if _has_causes(error) else (),
    )


def type_name(error: BaseException) -> str:
    """Return the qualified name of the error's class; builtins go without their module."""
    try:
        return _class_name(cast("Hashable", type(error)))
    except Exception:  # a class is anybody's code too: its metaclass may have no hash, or no module
        return clean(_QUALNAME(type(error)))[:256]


@functools.lru_cache(maxsize=2_048)
def _class_name(cls: Hashable) -> str:
    assert isinstance(cls, type)
    name = clean(str(cls.__qualname__))[:256]
    return name if cls.__module__ == "builtins" else clean(f"{cls.__module__}.{name}")[:512]


def _bounded(text: str, limit: int) -> str:
    cleaned = clean(text[:limit])  # which may be longer, as escapes are
    if len(text) <= limit and len(cleaned) <= limit:
        return cleaned
    kept = cleaned[: limit - 64]
    return f"{kept}... [{max(len(text), len(cleaned)) - len(kept):,} more characters]"


def message_of(error: BaseException) -> str:
    """Return the error's text, bounded, without the inputs that validation and SQL errors quote."""
    try:
        text = _quoteless(error)
        return _bounded(text if type(text) is str else str.__str__(text), MAX_MESSAGE)
    except BaseException as broken:  # the text of an exception is anybody's code
        return f"<the message cannot be read: its __str__ raised {type_name(broken)}>"


def _quoteless(error: BaseException) -> str:
    if is_a(error, pydantic_core.ValidationError):
        return _validation_text(cast("pydantic_core.ValidationError", error))
    if hasattr(error, "statement") and hasattr(error, "orig") and hasattr(error, "hide_parameters"):
        return _sql_text(error)
    if hasattr(error, "sqlstate"):  # PostgreSQL quotes the row in lines of their own
        return _DETAIL.sub("", str(error)).strip()
    return str(error)


def _validation_text(error: pydantic_core.ValidationError) -> str:
    lines = [f"{error.error_count()} validation error(s) for {error.title}"]
    for item in error.errors(include_url=False, include_context=False, include_input=False)[:50]:
        place = ".".join(str(part) for part in item["loc"])
        lines.append(f"{place or '(whole)'}: {item['msg']} [type={item['type']}]")
    return "\n".join(lines)


_DETAIL = re.compile(r"^(DETAIL|CONTEXT|HINT):.*$", re.MULTILINE | re.IGNORECASE)


def _sql_text(error: Any) -> str:
    cause = error.orig
    text = f"({type_name(cause)}) {_DETAIL.sub('', str(cause)).strip()}" if cause is not None else ""
    statement = error.statement
    return f"{text}\n[SQL: {statement}]" if statement else text or type(error).__name__


def _has_causes(error: BaseException) -> bool:
    return cause_of(error) is not None or context_of(error) is not None or is_a(error, BaseExceptionGroup)


def _causes(error: BaseException) -> Iterator[CauseRecord]:
    """Walk causes, contexts and members breadth first; each exception once, at most MAX_CAUSES."""
    seen = {id(error)}
    queue: list[tuple[Relation, BaseException]] = list(_next_causes(error))
    count = 0
    while queue and count < MAX_CAUSES:
        relation, cause = queue.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        count += 1
        yield CauseRecord(
            relation, type_name(cause), message_of(cause), traceback_text(cause, _MAX_CAUSE_TRACEBACK)
        )
        queue.extend(_next_causes(cause))


def _next_causes(error: BaseException) -> Iterator[tuple[Relation, BaseException]]:
    cause, context = cause_of(error), context_of(error)
    if cause is not None:
        yield "cause", cause
    elif context is not None:
        yield "context", context
    for member in members(error)[:MAX_CAUSES]:
        yield "member", member


def traceback_text(error: BaseException, limit: int) -> str:
    """Return the frames of the error's traceback, outermost first, without the bus's own.

    Too long a text loses its middle: where it began and where it broke are what is read.
    """
    frames = _frames(traceback_of(error))
    half = _MAX_FRAMES // 2
    left_out = len(frames) - 2 * half
    return _text_of(tuple(frames) if left_out <= 0 else (*frames[:half], *frames[-half:]), left_out, limit)


def drop_own_frames(error: BaseException) -> None:
    """Let the error's traceback begin outside of the bus, if it ever leaves it.

    The bus's frames hold the delivery, which holds the error: with them every failure would be a cycle
    that only the garbage collector can free.
    """
    traceback = traceback_of(error)
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
        traceback = traceback.tb_next
    if traceback is not None:
        BaseException.with_traceback(error, traceback)  # its own method is anybody's code


_Frame: TypeAlias = tuple[str, int, str]
"""File, line, and qualified name of the function."""


def _frames(traceback: TracebackType | None) -> list[_Frame]:
    frames: list[_Frame] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        filename = code.co_filename
        if not filename.startswith(_OWN_FOLDER):
            frames.append((filename, traceback.tb_lineno, code.co_qualname))
        traceback = traceback.tb_next
    return frames


@functools.lru_cache(maxsize=256)
def _text_of(frames: tuple[_Frame, ...], left_out: int, limit: int) -> str:
    """Format frames; cached, because failures come in floods of the same."""
    lines = [_frame_text(*frame) for frame in frames]
    if left_out > 0:
        lines.insert(len(lines) // 2, f"  ... {left_out} frames ...\n")
    text = "".join(lines)
    if len(text) > limit:
        half = limit // 2 - 16
        text = f"{text[:half]}\n  ...\n{text[-half:]}"
    return text


@functools.lru_cache(maxsize=4_096)
def _frame_text(filename: str, line: int, name: str) -> str:
    """Format one frame as Python does; cached, because reading the source line costs 50 times the rest."""
    source = _source_line(filename, line)
    text = f'  File "{filename}", line {line}, in {name}\n'
    return clean(f"{text}    {source}\n" if source else text)


def _source_line(filename: str, line: int) -> str:
    try:
        return linecache.getline(filename, line).strip()
    except ValueError:  # code that was compiled under a name that no file can have
        return ""


def fingerprint(handler_id: str, error: BaseException) -> str:
    """Return what groups failures of one origin: handler, exception type, innermost own frame.

    Line numbers and message texts do not count, so that it survives edits above the line and
    differing values in the message. The application's own code is what lies neither in the standard
    library nor in an installed package; without such a frame the innermost one counts.
    """
    try:
        return _digest(handler_id, type_name(error), _innermost_frame(error))
    except Exception:  # a class is anybody's code too
        return _digest(handler_id, clean(_QUALNAME(type(error))), "")


def _innermost_frame(error: BaseException) -> str:
    """Return module and function of the innermost frame, of the application's own code if there is one."""
    own = innermost = ""
    traceback = traceback_of(error)
    while traceback is not None:
        frame = traceback.tb_frame
        code = frame.f_code
        filename = code.co_filename
        if not filename.startswith(_OWN_FOLDER):
            innermost = f"{frame.f_globals.get('__name__', '')}:{code.co_qualname}"
            if _is_own_code(filename):
                own = innermost
        traceback = traceback.tb_next
    return own or innermost


@functools.lru_cache(maxsize=4_096)
def _digest(*parts: str) -> str:
    import hashlib  # needed only when something failed

    return hashlib.blake2b("\x00".join(parts).encode("utf-8", "replace"), digest_size=8).hexdigest()


@functools.lru_cache(maxsize=1)
def _libraries() -> tuple[str, ...]:
    """Return the folders of the standard library and of installed packages."""
    import sysconfig  # needed only when something failed

    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple({os.path.realpath(sysconfig.get_path(name)) + os.sep for name in names})


@functools.lru_cache(maxsize=4_096)
def _is_own_code(filename: str) -> bool:
    if filename.startswith("<"):
        return False
    try:
        path = os.path.realpath(filename)
    except ValueError:  # see _source_line
        return False
    return not path.startswith(_libraries()) and f"{os.sep}site-packages{os.sep}" not in path
