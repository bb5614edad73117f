"""What the tests of outages share: how long one lasts, and what is to be seen of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from children import Child
from databases import Database
from invariants import DURABLE, Run

KEYS = ["acme", "globex", "initech"]

OUTAGE = float(os.environ.get("EVENTBUS_CHAOS_OUTAGE", "1.2"))
"""Seconds, longer than the shop's lease. ``make chaos`` has 10."""

SOON = 0.3
"""Seconds after which the shop takes a database that does not answer for one that is away."""
_FEW = 3
"""How often an outage may seem to be over and begin again, while a server stops or starts."""


def settings_of(database: Database, **settings: Any) -> dict[str, Any]:
    """Return the settings of a shop that is open until it is asked to leave, and then does what is left."""
    return {
        "url": database.address,
        "options": dict(database.impatient),
        "capture_timeout": SOON,
        "keys": KEYS,
        "idle_exit": True,
        "pace": 0.04,
        "work": 0.03,
        **settings,
    }


def goes_on(child: Child, *, orders: int = 10) -> None:
    """Wait until a process accepts orders again, and handles them."""
    child.until("accepted", "shop", times=child.times("accepted", "shop") + orders)
    child.until("ended", "ship", times=child.times("ended", "ship") + 1)


def leaves(child: Child) -> None:
    """Have a process do what is left, and end."""
    child.leave()
    assert child.wait() == 0, child.errors()


def check_told_briefly(child: Child) -> None:
    """Check that observers and the log were told of the outage and of its end, not by each who met it."""
    begun, over = child.times("store.unavailable", "bus"), child.times("store.available", "bus")
    assert 1 <= begun <= _FEW
    assert over == begun
    lines = child.ledger.path.with_name("errors.log").read_text().splitlines()
    about = ("store.", "heartbeat.", "spool.", "worker.", "rescue.", "process.", "sequences.")
    told = [line for line in lines if any(f"] {name}" in line for name in about)]
    assert 2 <= len(told) <= 20 * _FEW, "\n".join(told)


def answered(child: Child) -> set[tuple[str, int]]:
    """Return the orders of which the publishers have heard what became of them."""
    return {*child.ledger.said("accepted"), *child.ledger.said("refused")}


def tried_since(child: Child, answered: set[tuple[str, int]]) -> set[Run]:
    """Return the runs of the orders that were tried, and not answered when one looked."""
    tried = set(child.ledger.said("trying")) - answered
    return {(handler, order) for order in tried for handler in DURABLE}


def is_empty(folder: Path) -> bool:
    """Tell whether nothing is left in a spool's folder."""
    return not os.listdir(folder)
