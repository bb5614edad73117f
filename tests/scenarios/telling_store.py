"""A store that tells the ledger of every lease, and has points behind its commits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from ledger import Ledger
from points import Points, settling_what

from eventbus_adapters.sql import SqlStore
from eventbus_dlq.store import Claim, Lease


class TellingStore(SqlStore):
    """Tells which tokens were granted and which settlements recorded, as their caller learns of it."""

    ledger: Ledger
    points: Points

    async def accept(self, deliveries: Sequence[Any]) -> Any:
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

    async def import_spool(self, *arguments: Any, **options: Any) -> Any:
        answer = await super().import_spool(*arguments, **options)
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

    def _tell(self, what: str, leases: Sequence[Lease]) -> None:
        for lease in leases:
            self.ledger.say(what, "store", lease.dead_letter_id, lease.token)

    def _after(self, what: str, answer: Any) -> Any:
        self.points.passing(f"{what}.after_commit")
        return answer
