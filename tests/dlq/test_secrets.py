"""Events with secrets: the store never sees them, and nothing runs with asterisks in their place."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from pydantic import BaseModel, Secret, SecretStr, field_serializer

from eventbus import EventBus
from eventbus_dlq import DeadLetterQuery, DeadLetterQueue, MemoryStore, PayloadRedacted


class Card(BaseModel):
    number: SecretStr


class Paid(BaseModel):
    order: int
    cards: list[Card] = []
    pin: Secret[int] | None = None


@dataclasses.dataclass
class SignedIn:
    password: SecretStr


class Shown(BaseModel):
    token: SecretStr

    @field_serializer("token")
    def reveal(self, token: SecretStr) -> str:
        return token.get_secret_value()


async def fail(event: Any) -> None:
    raise ConnectionError("the bank is down")


@pytest.mark.parametrize(
    "event",
    [
        Paid(order=1, cards=[Card(number=SecretStr("4111-1111"))]),
        Paid(order=1, pin=Secret(4711)),
        SignedIn(SecretStr("4711 hunter2")),
    ],
)
async def test_a_failure_of_an_event_with_secrets_waits_for_a_person(
    event: Any, dlq: DeadLetterQueue, store: MemoryStore
) -> None:
    bus = EventBus(dlq=dlq)
    bus.subscribe(type(event), fail, id="fail")
    async with bus:
        receipt = await bus.publish(event)
        letter_id = str(receipt.deliveries["fail"].dead_letter_id)
        letter = await bus.dead_letter(letter_id)
        assert (letter.state, letter.reason) == ("exhausted", "redacted")
        assert b"4711" not in letter.payload_json
        assert b"4111" not in letter.payload_json
        with pytest.raises(PayloadRedacted, match=letter_id):
            await bus.replay(letter_id)
        assert (await bus.dead_letter(letter_id)).attempts == letter.attempts
        operation = await bus.replay_all(DeadLetterQuery(handler="fail"))
    assert (operation.total, operation.skipped) == (1, 1)


@pytest.mark.parametrize("event", [Paid(order=1), Shown(token=SecretStr("shown on purpose"))])
async def test_a_payload_that_was_not_masked_is_run_again(event: Any, dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    bus.subscribe(type(event), fail, id="fail")
    async with bus:
        receipt = await bus.publish(event)
        outcome = await bus.replay(str(receipt.deliveries["fail"].dead_letter_id))
    assert (outcome.state, outcome.attempts) == ("pending", 2)
