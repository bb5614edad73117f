"""``get``: the letter as it was added, field by field."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from letters import after, build_attempt, build_error, build_letter, build_letter_in
from steps import stored

from eventbus.classify import Category, Kind, Route
from eventbus.failure import CauseRecord
from eventbus.ids import new_id
from eventbus.retry import RetryPolicy
from eventbus_dlq.errors import DeadLetterNotFound
from eventbus_dlq.letter import MAX_HISTORY, DeadLetter, DeadLetterState, Reason
from eventbus_dlq.store import DeadLetterStore

CAUSES = (
    CauseRecord("cause", "app.GatewayError", "502 überlastet", '  File "gateway.py", line 3\n'),
    CauseRecord("context", "builtins.KeyError", "'id'", ""),
    CauseRecord("member", "builtins.OSError", "[Errno 28] No space left on device", "…"),
)

LETTERS: dict[str, dict[str, Any]] = {
    "as it usually is": {},
    "with nothing that can be left out": {
        "tenant": None, "user_id": None, "source": None, "causation_id": None, "ordering_key": None,
        "headers": {}, "tags": (), "annotations": {}, "reason": None, "retry_at": None,
        "last_attempt_at": None, "history": (), "attempts": 0, "fingerprint": "", "payload_json": b"null",
    },
    "with everything": {
        "causation_id": new_id(), "ordering_key": "order-1017", "acted_by": "ann", "note": "asked the bank",
        "reason": Reason.INTERRUPTED, "attempts": 7, "retries": 3, "crashes": 2, "token": 9, "priority": 1,
        "event_version": 4, "occurred_at": after(-3600), "updated_at": after(12.000001),
    },
    "in every script": {
        "event_name": "commande.passée", "handler_id": "проверка.заказа", "tenant": "株式会社",
        "user_id": "Ἀριστοτέλης", "source": "ñandú", "ordering_key": "🗝️", "note": "\"quoted\" \\ 'text'\n\t",
        "headers": {"größe": "ß € 𝄞"}, "tags": ("naïve", "🚚"), "annotations": {"schlüssel": "wert ✓"},
        "payload_json": '{"city":"São Paulo","emoji":"🧾"}'.encode(),
    },
    "with an empty payload": {"payload_json": b""},
    "with a payload of 1 MiB": {"payload_json": b'"' + b"x" * (1_048_576 - 2) + b'"'},
    "with a payload that is not JSON": {"payload_json": b"\xff\xfe\x00 not json"},
    "with nested annotations": {
        "annotations": {
            "lines": [{"sku": "A-1", "qty": 2, "price": 9.5}, {"sku": "B", "qty": None}],
            "flags": {"gift": True, "express": False}, "empty": {}, "deep": [[[1]]],
        },
    },
    "with a history that has causes": {
        "attempts": 3,
        "history": (
            build_attempt(1, error=build_error(Kind.EXTERNAL_API, code="502", causes=CAUSES)),
            build_attempt(2, error=build_error(Kind.BUG, causes=())),
            build_attempt(3, started_at=after(0.000001), ended_at=after(0.000002)),
        ),
    },
    "with a run that succeeded in its history": {"history": (build_attempt(1), build_attempt(2, error=None))},
    "with a full history": {
        "attempts": MAX_HISTORY,
        "history": tuple(build_attempt(number) for number in range(1, MAX_HISTORY + 1)),
    },
    "with a long error": {
        "error": build_error(
            Kind.UNKNOWN, message="é" * 8_192, traceback="t" * 32_768, code="23505", causes=CAUSES
        ),
    },
    "with a category and a route that do not follow from the kind": {
        "error": build_error(Kind.TIMEOUT, category=Category.PERMANENT, route=Route.REVIEW),
    },
    "with another schedule": {
        "redelivery": RetryPolicy(
            attempts=0, backoff="linear", delay=0.25, multiplier=1.5, max_delay=1e6, jitter=False
        ),
    },
}  # fmt: skip


@pytest.mark.parametrize("overrides", LETTERS.values(), ids=LETTERS.keys())
async def test_a_letter_comes_back_as_it_was_added(store: DeadLetterStore, overrides: dict[str, Any]) -> None:
    letter = build_letter(**overrides)
    kept = await stored(store, letter)
    for field in fields(DeadLetter):
        if field.compare:
            assert getattr(kept, field.name) == getattr(letter, field.name), field.name
    assert kept == letter
    assert kept.payload == letter.payload


async def test_a_letter_comes_back_in_the_state_it_was_added_in(store: DeadLetterStore) -> None:
    letters = [build_letter_in(state) for state in DeadLetterState]
    await store.add(letters)
    assert [await store.get(letter.id) for letter in letters] == letters


async def test_values_come_back_in_their_own_types(store: DeadLetterStore) -> None:
    kept = await stored(store, build_letter(reason=Reason.INTERRUPTED))
    assert type(kept.state) is DeadLetterState
    assert type(kept.reason) is Reason
    assert (type(kept.error.kind), type(kept.error.category), type(kept.error.route)) == (
        Kind,
        Category,
        Route,
    )
    assert type(kept.payload_json) is bytes
    assert (type(kept.tags), type(kept.history), type(kept.error.causes)) == (tuple, tuple, tuple)
    assert type(kept.redelivery) is RetryPolicy
    for moment in (
        kept.created_at,
        kept.updated_at,
        kept.occurred_at,
        kept.retry_at,
        kept.history[0].started_at,
    ):
        assert moment is not None
        assert moment.utcoffset() is not None


async def test_what_a_reader_does_to_a_letter_stays_with_the_reader(store: DeadLetterStore) -> None:
    letter = build_letter(annotations={"steps": ["reserve"]})
    kept = await stored(store, letter)
    kept.payload["order_id"] = 0
    kept.annotations["steps"].append("charge")
    again = await store.get(letter.id)
    assert again.payload["order_id"] == 1017
    assert again.annotations == {"steps": ["reserve"]}


@pytest.mark.parametrize(
    "unknown",
    [new_id(), "", "no-uuid", "ü" * 600, "a'; DROP TABLE x; --", "%"],
    ids=["fresh", "empty", "word", "long", "quoted", "wildcard"],
)
async def test_an_unknown_id_is_not_found_and_named(store: DeadLetterStore, unknown: str) -> None:
    await store.add([build_letter()])
    with pytest.raises(DeadLetterNotFound) as caught:
        await store.get(unknown)
    assert caught.value.dead_letter_id == unknown
    assert repr(unknown) in str(caught.value)
