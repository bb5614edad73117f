"""Telling of work in a session's transaction once its outermost commit is through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import event

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session, SessionTransaction


class AfterCommit:
    """Calls back once for each outermost commit of a transaction that work was put into.

    Work in a savepoint counts when the savepoint is released; work in one that is rolled back does not. A
    session that has joined a transaction of somebody else's ends in it: nothing is told then.

    Args:
        call: called without arguments in the thread of the commit.
    """

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def note(self, session: Session, connection: Connection) -> None:
        """Take note that work was put into the transaction that ``session`` is in, on ``connection``."""
        watched: _Watched | None = session.info.get(self)
        if watched is None:
            watched = session.info[self] = _Watched(self._call)
            # They stay with the session, and do nothing in a transaction without work: SQLAlchemy lets
            # nobody remove a listener while it is being called.
            event.listen(session, "after_commit", watched.committed)
            event.listen(session, "after_transaction_end", watched.ended)
        watched.transactions[_innermost(session)] = connection

    def has_work(self, session: Session) -> bool:
        """Tell whether work was put into the transaction of ``session`` outside of its savepoints."""
        watched: _Watched | None = session.info.get(self)
        if watched is None:
            return False
        outermost = _innermost(session)
        while outermost.parent is not None:
            outermost = outermost.parent
        return outermost in watched.transactions


class _Watched:
    """A session's transactions and savepoints that hold work.

    Attributes:
        transactions: those that have not ended, with their connections.
    """

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self.transactions: dict[SessionTransaction, Connection] = {}

    def committed(self, session: Session) -> None:
        """Hand the work of a savepoint to what it stands in; tell of it after the outermost commit."""
        if not self.transactions:
            return
        ending = _innermost(session)
        connection = self.transactions.pop(ending, None)
        if connection is None:
            return
        outer = ending.parent
        if outer is not None:
            self.transactions[outer] = connection
        elif not connection.in_transaction():  # else it has joined somebody else's
            self._call()

    def ended(self, _: Session, transaction: SessionTransaction) -> None:
        """Forget the work of what was rolled back."""
        self.transactions.pop(transaction, None)


def _innermost(session: Session) -> SessionTransaction:
    found = session.get_nested_transaction() or session.get_transaction()
    assert found is not None  # there is a connection, so there is a transaction
    return found
