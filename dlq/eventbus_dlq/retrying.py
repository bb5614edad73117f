"""The verbs of a queue for what is tried again: schedules, the switch, and having it done now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus.controls import Scope
from eventbus.errors import UnknownEvent, UnknownHandler
from eventbus.retry import check_policy
from eventbus_dlq.letter import Verb
from eventbus_dlq.operations import check_meant, members_of, requeue_members
from eventbus_dlq.scoping import Known, check_words, checked_scope

if TYPE_CHECKING:
    from datetime import datetime

    from eventbus.ports import Redeliverer
    from eventbus.retry import RetryPolicy
    from eventbus_dlq.control_store import Configuration
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.operations import Operation
    from eventbus_dlq.processing import Processed
    from eventbus_dlq.query import DeadLetterQuery
    from eventbus_dlq.running import RunningQueue
    from eventbus_dlq.store import DeadLetterStore


class RetryVerbs:
    """What can be asked of a dead-letter queue about trying again."""

    _store: DeadLetterStore
    _bus: Redeliverer | None

    def _require_running(self) -> RunningQueue:
        raise NotImplementedError

    def _now(self) -> datetime:
        raise NotImplementedError

    async def _change(
        self,
        dead_letter_id: str,
        verb: Verb,
        *,
        by: str | None,
        note: str | None,
        until: datetime | None = None,
    ) -> DeadLetter:
        raise NotImplementedError

    async def process_due(self, limit: int = 100) -> Processed:
        """Run what is due now, once each, and return the account.

        Deliveries that were accepted and failures whose time has come, the most urgent first, of the handlers
        that are subscribed here. It runs them whether or not this process has a worker, and whatever the
        switch for automatic retries says; not what is paused.

        Args:
            limit: at most so many, 1 to 1,000.

        Raises:
            ValueError: the limit is out of range.
            BusClosed: the bus is not running.
            StoreUnavailable: the store cannot be reached.
        """
        return await self._require_running().processor.process(limit)

    async def requeue(
        self, dead_letter_id: str, *, by: str | None = None, note: str | None = None
    ) -> DeadLetter:
        """Make a pending or exhausted letter due now, with its whole schedule before it again.

        A worker runs it, in this process or another.

        Args:
            dead_letter_id: the letter.
            by: who asks for it; recorded.
            note: why; recorded.

        Raises:
            DeadLetterNotFound: no letter has that id.
            LeaseHeld: it is running.
            InvalidTransition: it is neither pending nor exhausted.
        """
        return await self._change(dead_letter_id, Verb.REQUEUE, by=by, note=note)

    async def requeue_all(
        self, query: DeadLetterQuery, *, by: str | None = None, note: str | None = None
    ) -> Operation:
        """Make every pending or exhausted letter of a query due now, and return the account.

        Membership is fixed when it begins. ``done`` counts those that are due now; those in another state,
        or that somebody runs, are skipped.

        Raises:
            ValueError: the query is empty; say ``DeadLetterQuery.everything()`` to mean every letter.
            StoreUnavailable: the store cannot be reached.
        """
        check_meant(query)
        members = await members_of(self._store, query)

        async def requeue(dead_letter_id: str) -> None:
            await self.requeue(dead_letter_id, by=by, note=note)

        return await requeue_members(requeue, members)

    async def configure(
        self,
        *,
        handler: str | None = None,
        event: str | None = None,
        redelivery: RetryPolicy | None = None,
        forget_redelivery: bool = False,
        automatic_retries: bool | None = None,
        by: str | None = None,
    ) -> Configuration:
        """Set a redelivery schedule, or the switch for automatic retries, for every process on this store.

        It is stored, and known to the other processes within a second. The most specific schedule applies to
        a delivery: the one that is set here for its handler, the ``redelivery=`` of its subscription, the one
        set here for its event, the one set here for all, the ``redelivery=`` of the queue. A wait that has
        begun stays as it is; the next one follows the new schedule.

        Args:
            handler: the handler whose schedule is set, by its id; one that was set for a former id of the
                same handler ends with it.
            event: the event whose schedule is set, by its name. Without either it is set for all.
            redelivery: the schedule; it takes the place of one that was set for the same.
            forget_redelivery: remove the schedule that was set for the same.
            automatic_retries: False has workers leave alone what is pending; True has them retry it again.
                What was accepted and has not run yet is run all the same.
            by: who asks for it; recorded.

        Raises:
            ValueError: nothing is to be set, or what is given contradicts itself or makes no sense.
            UnknownHandler: nobody knows the handler, and there is no schedule of it to forget.
            UnknownEvent: nobody knows the event, and there is no schedule of it to forget.
            BusClosed: the bus is not running.
            StoreUnavailable: the store cannot be reached; nothing was changed, as far as is known.
        """
        scope = checked_scope(None, event, handler)
        _check_schedule(scope, redelivery, forget_redelivery)
        _check_switch(automatic_retries, is_all=redelivery is None and not forget_redelivery)
        if by is not None:
            check_words("by", by)
        running = self._require_running()
        bus = self._bus
        assert bus is not None
        now = self._now()
        known, *former = await self._scopes(bus, scope, forget=forget_redelivery, now=now)
        configuration = await self._store.configure(
            now=now,
            by=by,
            handler=known.handler,
            event=known.event,
            redelivery=redelivery,
            forget_redelivery=forget_redelivery,
            automatic_retries=automatic_retries,
        )
        for each in former:  # a schedule of its handler from before that was renamed
            if _has_schedule(configuration, each):
                configuration = await self._store.configure(
                    now=now, by=by, handler=each.handler, forget_redelivery=True
                )
        running.configuring.take(configuration)
        bus.telemetry.emit(
            "configuration.changed",
            handler=known.handler,
            event=known.event,
            redelivery=redelivery,
            automatic_retries=configuration.automatic_retries,
            by=by,
        )
        return configuration

    async def _scopes(
        self, bus: Redeliverer, scope: Scope, *, forget: bool, now: datetime
    ) -> tuple[Scope, ...]:
        """Return the scopes that are meant; what nobody knows any more can have its schedule forgotten."""
        try:
            return await Known(self._store, bus).scopes(scope, now=now)
        except (UnknownEvent, UnknownHandler):
            if not (forget and _has_schedule(await self.configuration(), scope)):
                raise
        return (scope,)

    async def configuration(self) -> Configuration:
        """Return what operators have set, as the store has it now.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        configuration = await self._store.configuration()
        assert configuration is not None  # it was asked for whatever its version is
        return configuration


def _has_schedule(configuration: Configuration, scope: Scope) -> bool:
    return any((it.handler, it.event) == (scope.handler, scope.event) for it in configuration.schedules)


def _check_schedule(scope: Scope, redelivery: object, forget: object) -> None:
    """Refuse what says nothing, or two things at a time, about one schedule.

    Raises:
        ValueError: it does.
    """
    if scope.handler is not None and scope.event is not None:
        raise ValueError(
            f"handler={scope.handler!r} and event={scope.event!r}: a schedule is for one of them; set each"
        )
    if type(forget) is not bool:
        raise ValueError(f"forget_redelivery={forget!r} must be True or False")
    if redelivery is not None:
        check_policy("redelivery", redelivery)
        if forget:
            raise ValueError("redelivery= and forget_redelivery=True contradict each other; give one of them")
    elif not forget and scope != Scope():
        raise ValueError(f"{scope}: say its schedule with redelivery=, or forget_redelivery=True")


def _check_switch(automatic_retries: object, *, is_all: bool) -> None:
    """Refuse what is no position of the switch; ``is_all`` when nothing else is to be set.

    Raises:
        ValueError: it is none.
    """
    if automatic_retries is None and is_all:
        raise ValueError("nothing to set: give redelivery=, forget_redelivery=True or automatic_retries=")
    if automatic_retries is not None and type(automatic_retries) is not bool:
        raise ValueError(f"automatic_retries={automatic_retries!r} must be True or False")
