"""Lines out of bytes: every way to cut them, in bounded memory, from files and from pipes."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus_adapters.cli.lines import Line, LineSplitter, Source


def split(chunks: list[bytes], max_line: int = 100) -> list[Line]:
    splitter = LineSplitter(max_line=max_line)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return [*lines, *splitter.finish()]


@given(st.lists(st.binary(max_size=12).map(lambda part: part.replace(b"x", b"\n"))))
def test_however_it_is_cut_the_lines_are_those_of_the_whole(chunks: list[bytes]) -> None:
    whole = b"".join(chunks).removeprefix(b"\xef\xbb\xbf")
    expected = [(n, line) for n, line in enumerate(whole.split(b"\n"), start=1) if line.strip()]
    assert [(line.number, line.content) for line in split(chunks, max_line=10_000)] == expected


def test_blank_lines_count_and_are_left_out() -> None:
    assert split([b"\n \r\n{}\r\n\n"]) == [Line(3, b"{}\r")]


def test_a_byte_order_mark_is_left_out_of_the_first_line_only() -> None:
    assert split([b"\xef\xbb", b"\xbf1\n\xef\xbb\xbf2"]) == [Line(1, b"1"), Line(2, b"\xef\xbb\xbf2")]


def test_a_line_of_the_limit_is_kept_and_one_more_byte_is_not() -> None:
    assert split([b"1234\n12345\n1"], max_line=4) == [Line(1, b"1234"), Line(2, None), Line(3, b"1")]


def test_a_line_too_long_is_not_gathered() -> None:
    splitter = LineSplitter(max_line=1_000)
    for _ in range(50):
        assert list(splitter.feed(b"x" * 100)) == []
    assert sum(map(len, splitter._parts)) <= 1_000
    assert list(splitter.feed(b"\n")) == [Line(1, None)]


async def chunks_of(source: Source) -> bytes:
    read = b""
    while chunk := await source.chunk():
        read += chunk
    return read


async def test_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"x" * 600_000)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert await chunks_of(Source(descriptor)) == b"x" * 600_000
    finally:
        os.close(descriptor)


async def test_what_a_pipe_has_is_given_at_once_and_waiting_for_more_can_be_cancelled() -> None:
    reader, writer = os.pipe()
    try:
        source = Source(reader)
        os.write(writer, b"part")
        assert await source.chunk() == b"part"
        with anyio.move_on_after(0.01) as scope:
            await source.chunk()
        assert scope.cancelled_caught
        os.write(writer, b"more")
        assert await source.chunk() == b"more"
    finally:
        os.close(reader)
        os.close(writer)


async def test_what_cannot_be_read_is_an_os_error(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(IsADirectoryError):
            await Source(descriptor).chunk()
    finally:
        os.close(descriptor)
