"""Folding the counters from time to time, beside the writer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy.util import greenlet_spawn

from eventbus.log import Log
from eventbus_adapters.sql.folding import FOLDED, fold

if TYPE_CHECKING:
    from eventbus_adapters.sql.postgres.database import Transactions

_log = Log()

_SECONDS = 20.0
_ROWS = 2_000


class Upkeep:
    """Folds what was appended to the counters: when much has gathered, and else a few times a minute."""

    def __init__(self) -> None:
        self._appended = 0
        self._much = asyncio.Event()
        self._some = asyncio.Event()

    def note(self, appended: int) -> None:
        """Take note of rows that were appended. In the event loop of :meth:`run`."""
        if appended:
            self._appended += appended
            self._some.set()
            if self._appended >= _ROWS:
                self._much.set()

    async def run(self, transactions: Transactions) -> None:
        """Fold, for ever; what cannot be done now is done later."""
        while True:
            await self._some.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._much.wait(), _SECONDS)
            self._appended = 0
            self._some.clear()
            self._much.clear()
            try:
                while await greenlet_spawn(_fold, transactions) == FOLDED:
                    pass
            except Exception as error:
                _log.warning("store.upkeep_failed", error=str(transactions.unavailable(error)))
                self._some.set()
                await asyncio.sleep(_SECONDS)


def _fold(transactions: Transactions) -> int:
    with transactions.transaction() as connection:
        return fold(connection)
