"""Whatever the verbs and their order: the letters are as the model says, and the statistics add up."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from model import CLOSED, Pair, seen
from steps import find_all
from subjects import Subject

from eventbus.classify import Kind
from eventbus.ids import new_id
from eventbus_dlq.letter import DeadLetterState, Verb
from eventbus_dlq.recount import recount
from eventbus_dlq.stats import Stats

keys = st.tuples(st.sampled_from(["order.placed", "order.paid"]), st.sampled_from(["charge", "audit"]))
kinds = st.sampled_from([Kind.TIMEOUT, Kind.BUG, Kind.UNKNOWN])
tenants = st.sampled_from(["acme", "globex", None])
numbers = st.integers(0, 7)
ends = st.sampled_from([DeadLetterState.RESOLVED, DeadLetterState.PENDING, DeadLetterState.EXHAUSTED])
states = st.one_of(st.just(DeadLetterState.RUNNING), st.sampled_from(DeadLetterState))
arrivals = st.tuples(keys, states, tenants, kinds, st.integers(0, 3))
steps = st.one_of(
    st.tuples(st.just("add"), st.lists(arrivals, min_size=1, max_size=4)),
    st.tuples(st.just("claim"), st.lists(keys, min_size=1, max_size=4)),
    st.tuples(st.just("crash"), keys),
    st.tuples(st.just("heartbeat"), numbers),
    st.tuples(st.just("settle"), numbers, ends, kinds, st.booleans()),
    st.tuples(st.just("release"), numbers),
    st.tuples(st.just("change"), keys, st.sampled_from(sorted(set(Verb) - {Verb.DELETE}))),
    st.tuples(st.just("delete"), keys),
    st.tuples(st.just("tick"), st.sampled_from([0.5, 20.0, 31.0, 70_000.0])),
)


@settings(
    max_examples=30,
    phases=[Phase.generate, Phase.shrink],
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(steps, min_size=20, max_size=40))
async def test_the_store_does_what_the_model_does(
    subject: Subject, tmp_path: Path, steps: list[tuple[Any, ...]]
) -> None:
    folder = tmp_path / new_id()
    folder.mkdir()
    store = subject.make(folder)
    await store.open()
    try:
        pair = Pair(store)
        for verb, *arguments in steps:
            await getattr(pair, verb)(*arguments)
        await compare(pair)
    finally:
        await store.close()


async def compare(pair: Pair) -> None:
    """Assert that every letter is as the model has it, and that the statistics are a recount."""
    letters = [await pair.store.get(row.id) for row in pair.rows.values()]
    assert [seen(letter) for letter in letters] == [row.seen() for row in pair.rows.values()]
    assert {item.id for item in await find_all(pair.store, limit=2)} == {letter.id for letter in letters}

    stats = await pair.store.stats(now=pair.now)
    assert stats.by_state == Counter(row.state for row in pair.rows.values())
    assert stats.recovery.pending == sum(row.state not in CLOSED for row in pair.rows.values())
    assert_same(stats, recount(letters, pair.now))
    for scope in ({"acme"}, {"globex", "acme"}, set[str]()):
        own = [letter for letter in letters if letter.tenant in scope]
        assert_same(await pair.store.stats(now=pair.now, tenants=scope), recount(own, pair.now))


def assert_same(stats: Stats, expected: Stats) -> None:
    """Assert that both say the same, with rounding allowed in the averages."""
    for field in fields(Stats):
        got, want = getattr(stats, field.name), getattr(expected, field.name)
        if isinstance(want, float):
            assert abs(got - want) < 1e-3, field.name
        else:
            assert got == want, field.name
