"""A store that tells the ledger of what it is handed and what it leases, with points behind its commits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ledger import Ledger
from points import Points, settling_what

from eventbus_adapters.sql import SqlStore
from eventbus_dlq.letter import DeadLetter
from eventbus_dlq.store import Claim, Lease, Spooled


class TellingStore(SqlStore):
    """Tells which tokens were granted and which settlements recorded, as their caller learns of it."""

    ledger: Ledger
    points: Points

    async def accept(self, deliveries: Sequence[Any]) -> Any:
        self._hand_over("handed", deliveries)
        kept = await super().accept(deliveries)
        claimed = [
            Lease(dead_letter_id=it.id, token=it.token)
            for it, (dead_letter_id, state) in zip(deliveries, kept, strict=True)
            if it.state == state == "running" and it.id == dead_letter_id
        ]
        self._tell("granted", claimed)
        return self._after("accept", kept)

    async def add(self, letters: Sequence[Any]) -> Any:
        return self._after("capture", await super().add(letters))

    async def rescue(self, leased: Sequence[Any], **options: Any) -> Any:
        return self._after("rescue", await super().rescue(leased, **options))

    async def import_spool(self, spool_id: str, writes: Sequence[Spooled], **options: Any) -> Any:
        self._hand_over("imported", [it.letter for it in writes if it.verb == "accept"])
        answer = await super().import_spool(spool_id, writes, **options)
        if self.points.point == "import.after_commit":
            await asyncio.sleep(0.5)  # some of it runs, and is forgotten
        return self._after("import", answer)

    async def claim(self, dead_letter_ids: Sequence[str], **options: Any) -> Any:
        return self._granted(await super().claim(dead_letter_ids, **options))

    async def claim_due(self, wanted: Mapping[str, int], **options: Any) -> Any:
        return self._granted(await super().claim_due(wanted, **options))

    async def settle(self, settlements: Sequence[Any], **options: Any) -> Any:
        leases = [it.lease for it in settlements]
        self._tell("settling", leases)
        lost = await super().settle(settlements, **options)
        self._tell("settled", [lease for lease in leases if lease not in lost])
        return self._after(settling_what(settlements), lost)

    def _granted(self, answers: Sequence[Claim | Exception]) -> Sequence[Claim | Exception]:
        self._tell("granted", [it.lease for it in answers if isinstance(it, Claim)])
        return answers

    def _hand_over(self, what: str, deliveries: Sequence[DeadLetter]) -> None:
        for delivery in deliveries:
            order = json.loads(delivery.payload_json)
            self.ledger.say(what, delivery.handler_id, order["key"], order["number"])

    def _tell(self, what: str, leases: Sequence[Lease]) -> None:
        for lease in leases:
            self.ledger.say(what, "store", lease.dead_letter_id, lease.token)

    def _after(self, what: str, answer: Any) -> Any:
        self.points.passing(f"{what}.after_commit")
        return answer
