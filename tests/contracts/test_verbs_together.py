"""Whatever the verbs and their order: the letters are as the model says, and the statistics add up."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from programs import Program, programs, reproducible, run
from subjects import Subject

from eventbus.ids import new_id


@reproducible
@given(program=programs)
async def test_the_store_does_what_the_model_does(subject: Subject, tmp_path: Path, program: Program) -> None:
    folder = tmp_path / new_id()
    folder.mkdir()
    store = subject.make(folder)
    await store.open()
    try:
        await run(store, program, every=8 if subject.durable else 1)
    finally:
        await store.close()
