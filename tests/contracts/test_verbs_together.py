"""Whatever the verbs and their order: the letters are as the model says, and the statistics add up."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from programs import Program, operated_programs, programs, reproducible, run
from subjects import Subject

from eventbus.ids import new_id


@pytest.mark.repetitive
@reproducible
@given(program=programs)
async def test_the_store_does_what_the_model_does(subject: Subject, tmp_path: Path, program: Program) -> None:
    await run_on(subject, tmp_path, program)


@pytest.mark.repetitive
@reproducible
@given(program=operated_programs)
async def test_the_store_does_it_while_operators_close_and_open_scopes(
    subject: Subject, tmp_path: Path, program: Program
) -> None:
    await run_on(subject, tmp_path, program)


async def run_on(subject: Subject, tmp_path: Path, program: Program) -> None:
    """Run a program on a store of its own."""
    folder = tmp_path / new_id()
    folder.mkdir()
    store = subject.make(folder)
    await store.open()
    try:
        await run(store, program, every=8 if subject.durable else 1)
    finally:
        await store.close()
