"""Random programs over all verbs of a store, and how one is run beside the model."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from pair import ORDERING_KEYS, Pair

from eventbus.classify import Kind
from eventbus_dlq.letter import DeadLetterState, Verb
from eventbus_dlq.store import DeadLetterStore

Program = list[tuple[Any, ...]]

EXAMPLES = int(os.environ.get("EVENTBUS_TEST_PROGRAMS", "0"))
"""How many programs each store has to run in the long form; 0 for the short one, which is always the same."""

handlers = st.sampled_from(["charge", "audit"])
keys = st.tuples(st.sampled_from(sorted(ORDERING_KEYS)), handlers)
kinds = st.sampled_from([Kind.TIMEOUT, Kind.BUG, Kind.UNKNOWN])
tenants = st.sampled_from(["acme", "globex", None])
numbers = st.integers(0, 5)
ends = st.sampled_from([DeadLetterState.RESOLVED, DeadLetterState.PENDING, DeadLetterState.EXHAUSTED])
failed_states = st.sampled_from([DeadLetterState.PENDING, DeadLetterState.EXHAUSTED, DeadLetterState.RUNNING])
unordered = sorted(event for event, ordering_key in ORDERING_KEYS.items() if ordering_key is None)
failures = st.one_of(
    st.tuples(keys, failed_states, tenants, kinds, st.integers(0, 3)),
    # What no publisher stores, but an import of old letters might: it is in no sequence.
    st.tuples(
        st.tuples(st.sampled_from(unordered), handlers),
        st.sampled_from(DeadLetterState), tenants, kinds, st.integers(0, 3),
    ),
)  # fmt: skip
deliveries = st.tuples(keys, tenants)
few = {"min_size": 1, "max_size": 4}
due_states = st.sets(st.sampled_from([DeadLetterState.ACCEPTED, DeadLetterState.PENDING]), min_size=1)

steps = st.one_of(
    st.tuples(st.just("accept"), st.lists(deliveries, **few)),
    st.tuples(st.just("accept"), st.lists(deliveries, **few)),
    st.tuples(st.just("add"), st.lists(failures, **few)),
    st.tuples(st.just("spool"), st.lists(st.one_of(deliveries, failures), **few), st.sampled_from([0, 0, 5])),
    st.tuples(st.just("claim"), st.lists(keys, **few)),
    st.tuples(
        st.just("claim_due"), st.dictionaries(handlers, st.integers(0, 3)), due_states, st.integers(1, 4)
    ),
    st.tuples(st.just("work"), ends, kinds),
    st.tuples(st.just("crash"), keys, st.integers(1, 3)),
    st.tuples(st.just("heartbeat"), numbers),
    st.tuples(st.just("settle"), numbers, ends, st.one_of(st.none(), kinds), st.booleans(), st.booleans()),
    st.tuples(st.just("release"), numbers),
    st.tuples(st.just("rescue"), numbers, st.integers(1, 3), st.booleans()),
    st.tuples(st.just("change"), keys, st.sampled_from(sorted(set(Verb) - {Verb.DELETE}))),
    st.tuples(st.just("delete"), keys),
    st.tuples(st.just("announce"), handlers),
    st.tuples(st.just("exhaust_unhandled")),
    st.tuples(st.just("tick"), st.sampled_from([0.5, 20.0, 31.0, 70_000.0])),
)
programs = st.lists(steps, min_size=20, max_size=40)

reproducible = settings(
    max_examples=EXAMPLES or 12,
    phases=[Phase.generate, Phase.shrink],
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
"""Each store runs the same programs, unless a long run was asked for."""


async def run(store: DeadLetterStore, program: Program, *, every: int = 1) -> None:
    """Run a program on an open store and its model; compare both after ``every`` so many steps."""
    pair = Pair(store)
    for number, (verb, *arguments) in enumerate(program, start=1):
        await getattr(pair, verb)(*arguments)
        pair.model.check()
        if number % every == 0:
            await pair.compare()
    await pair.compare()
