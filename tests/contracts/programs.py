"""Random programs over all verbs of a store, and how one is run beside the model."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from pair import ORDERING_KEYS, Pair

from eventbus.classify import Kind
from eventbus.controls import Scope
from eventbus_dlq.letter import DeadLetterState, Reason, Verb
from eventbus_dlq.store import DeadLetterStore

Program = list[tuple[Any, ...]]

EXAMPLES = int(os.environ.get("EVENTBUS_TEST_PROGRAMS", "0"))
"""How many programs each store has to run in the long form, new ones each time; 0 for the short one, which is
always the same. ``make chaos`` runs 150."""

handlers = st.sampled_from(["charge", "audit"])
keys = st.tuples(st.sampled_from(sorted(ORDERING_KEYS)), handlers)
few_keys = st.tuples(st.sampled_from(["e1", "e3", "e5"]), handlers)
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
deliveries = st.tuples(keys, tenants, st.none())
held = st.sampled_from([None, None, Reason.PAUSED, Reason.DRAINING])
few_deliveries = st.tuples(few_keys, tenants, held)
few = {"min_size": 1, "max_size": 4}
due_states = st.sets(st.sampled_from([DeadLetterState.ACCEPTED, DeadLetterState.PENDING]), min_size=1)
scopes = st.sampled_from(
    [Scope(), Scope("acme"), Scope("acme", None, "charge"), Scope(None, None, "charge"), Scope(None, "e1"),
     Scope("globex", "e5", "audit")]
)  # fmt: skip
closings = st.sampled_from(["paused", "draining"])
lasting = st.sampled_from([None, None, 20.0, 60.0])
schedules = st.sampled_from([(None, None), ("charge", None), (None, "e1")])

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
"""What publishers, workers and people do to letters."""

operated_steps = st.one_of(
    st.tuples(st.just("accept"), st.lists(few_deliveries, min_size=2, max_size=6)),
    st.tuples(st.just("accept"), st.lists(few_deliveries, min_size=2, max_size=6)),
    st.tuples(st.just("add"), st.lists(failures, **few)),
    st.tuples(st.just("spool"), st.lists(st.one_of(few_deliveries, failures), **few), st.just(0)),
    st.tuples(st.just("claim"), st.lists(few_keys, **few)),
    st.tuples(st.just("work"), ends, kinds, st.booleans(), st.sampled_from([None, 3])),
    st.tuples(st.just("work"), ends, kinds, st.booleans(), st.sampled_from([None, 3])),
    st.tuples(st.just("settle"), numbers, ends, st.none(), st.booleans(), st.booleans(), st.booleans()),
    st.tuples(st.just("release"), numbers),
    st.tuples(st.just("crash"), few_keys, st.integers(1, 3)),
    st.tuples(st.just("change"), few_keys, st.sampled_from([Verb.REQUEUE, Verb.RESTORE, Verb.RESOLVE])),
    st.tuples(st.just("hold"), scopes, closings, lasting),
    st.tuples(st.just("hold"), scopes, closings, lasting),
    st.tuples(st.just("close"), scopes, closings, lasting),
    st.tuples(st.just("open"), st.one_of(st.none(), st.lists(scopes, **few))),
    st.tuples(st.just("open_one"), numbers),
    st.tuples(st.just("expire"), st.integers(1, 2)),
    st.tuples(st.just("unpark"), st.integers(1, 3)),
    st.tuples(st.just("come_back"), few_keys),
    st.tuples(st.just("fail_and_requeue"), few_keys),
    st.tuples(st.just("acknowledge"), handlers, st.sampled_from(["all", "all", "old", "none"])),
    st.tuples(st.just("drain"), scopes, handlers),
    st.tuples(st.just("claim_due"), st.just({"charge": 3, "audit": 3}), due_states, st.integers(1, 4)),
    st.tuples(
        st.just("configure"), schedules, st.sampled_from([None, 0, 3]), st.sampled_from([None, True, False])
    ),
    st.tuples(st.just("tell"), st.integers(1, 4), st.booleans()),
    st.tuples(st.just("reopen")),
    st.tuples(st.just("tick"), st.sampled_from([0.5, 20.0, 31.0])),
)
operated_programs = st.lists(operated_steps, min_size=20, max_size=40)
"""What they do while operators close and open scopes."""

reproducible = settings(
    max_examples=EXAMPLES or 20,
    phases=[Phase.generate, Phase.shrink],
    deadline=None,
    derandomize=not EXAMPLES,
    print_blob=bool(EXAMPLES),  # what repeats a failure
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
