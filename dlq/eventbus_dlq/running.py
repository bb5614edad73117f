"""What a queue is made of while its bus runs: built when the bus starts, gone when it has stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from eventbus.ids import new_id
from eventbus_dlq.accepting import Acceptor
from eventbus_dlq.alarm import Alarm
from eventbus_dlq.announcing import Announcing
from eventbus_dlq.captor import Captor
from eventbus_dlq.committing import Committer
from eventbus_dlq.configuring import REFRESH as READ_CONFIGURATION
from eventbus_dlq.configuring import Configuring
from eventbus_dlq.controlling import Controlling
from eventbus_dlq.errors import StoreUnavailable
from eventbus_dlq.leases import LeaseKeeper
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.outage import Outage
from eventbus_dlq.probing import Probing
from eventbus_dlq.processes import LOOK_EVERY, Announcer
from eventbus_dlq.processing import Processor
from eventbus_dlq.promises import Promises
from eventbus_dlq.recording import Recorder
from eventbus_dlq.repeating import every
from eventbus_dlq.replay import Replayer
from eventbus_dlq.rescuer import Rescuer, rescue_interval
from eventbus_dlq.schedules import Schedules
from eventbus_dlq.sequences import REFRESH, BlockedSequences
from eventbus_dlq.unsettled import Unsettled
from eventbus_dlq.worker import DurableWorker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from eventbus.ports import Clock, Redeliverer
    from eventbus_dlq.control_store import Configuration
    from eventbus_dlq.settings import QueueSettings
    from eventbus_dlq.spool import Spool
    from eventbus_dlq.store import DeadLetterStore, Kept, Spooled

_ACCEPTED = DeadLetterState.ACCEPTED
_PATIENCE = 2.0
"""Seconds that the store has to forget a process that could not start."""


class RunningQueue:
    """The moving parts of one run of a queue.

    Attributes:
        acceptor: takes in deliveries that have not run.
        captor: takes in failures.
        replayer: runs letters again for a person.
        processor: runs what is due, when a person asks for it.
        configuring: what operators have set.
        controls: closes and opens scopes.
        blocked: which sequences are blocked.
        outage: whether the store is down.
    """

    def __init__(
        self,
        *,
        store: DeadLetterStore,
        bus: Redeliverer,
        clock: Clock,
        spool: Spool | None,
        settings: QueueSettings,
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._spool = spool
        self._settings = settings
        process_id = new_id()
        lease = settings.lease
        self.outage = outage = Outage(telemetry=bus.telemetry, clock=clock)
        committer = Committer(store, timeout=settings.capture_timeout, spool=spool, outage=outage)
        self._keeper = keeper = LeaseKeeper(store, clock=clock, lease=lease, stall_limit=settings.stall_limit)
        is_spooling = (lambda: spool.is_waiting) if spool is not None else (lambda: False)
        self._alarm = Alarm(clock=clock, ring=self.wake)
        self._probing = probing = Probing(bus=bus, clock=clock, ring=self._alarm.set, changed=self.wake)
        self._unsettled = Unsettled(store, handlers=probing.handlers, is_spooling=is_spooling)
        self.blocked = blocked = BlockedSequences(store, is_spooling=is_spooling)
        self.configuring = Configuring(store)
        self.configuring.listen(self._configured)
        self._schedules = schedules = Schedules(bus, default=settings.redelivery)
        self._announcing = Announcing(
            store=store, bus=bus, clock=clock, outage=outage, owner=f"{process_id}:announcing", lease=lease
        )
        recorder = Recorder(store=store, keeper=keeper, clock=clock, timeout=settings.capture_timeout)
        self.captor = Captor(
            store=store,
            committer=committer,
            blocked=blocked,
            keeper=keeper,
            recorder=recorder,
            bus=bus,
            clock=clock,
            schedules=schedules,
            owner=process_id,
            lease=lease,
            moved=self.moved,
        )
        self.replayer = Replayer(
            store=store,
            bus=bus,
            keeper=keeper,
            recorder=recorder,
            clock=clock,
            owner=process_id,
            lease=lease,
            schedules=schedules,
            probing=probing,
            keep_succeeded=settings.keep_succeeded,
            released=self.wake,
            moved=self.moved,
        )
        self.processor = Processor(
            store=store,
            bus=bus,
            keeper=keeper,
            replayer=self.replayer,
            probing=probing,
            clock=clock,
            owner=f"{process_id}:process",
            lease=lease,
            concurrency=settings.concurrency,
        )
        self.controls = Controlling(
            store=store,
            bus=bus,
            clock=clock,
            outage=outage,
            configuring=self.configuring,
            process_id=process_id,
            closed=self._give_back_closed,
            opened=self.wake,
        )
        self._worker: DurableWorker | None = None
        promises: Promises | None = None
        if settings.worker:
            self._worker = DurableWorker(
                store=store,
                bus=bus,
                keeper=keeper,
                clock=clock,
                unsettled=self._unsettled,
                outage=outage,
                owner=(owner := f"{process_id}:worker"),
                lease=lease,
                schedules=schedules,
                concurrency=settings.concurrency,
                keep_succeeded=settings.keep_succeeded,
                probing=probing,
                moved=self.moved,
                see_controls=self.controls.see,
            )
            promises = Promises(self._worker, self._unsettled, clock=clock, owner=owner, lease=lease)
        self.acceptor = Acceptor(
            store=store,
            committer=committer,
            blocked=blocked,
            bus=bus,
            clock=clock,
            schedules=schedules,
            promises=promises,
            written=self._written,
        )
        self._announcer = Announcer(
            store=store, bus=bus, clock=clock, process_id=process_id, moved=self.moved
        )
        self._rescuer = Rescuer(
            store=store,
            bus=bus,
            keeper=keeper,
            clock=clock,
            beat=self._announce,
            lease=lease,
            max_crashes=settings.max_crashes,
            rescued=self.wake,
            moved=self.moved,
        )

    # -- starting and stopping

    async def start(self) -> None:
        """Learn what is stored, and begin to work.

        Raises:
            StoreUnavailable: it cannot be learned what operators have closed.
        """
        await self._try(self._announce(), "process")  # from here on a drain waits for this process
        try:
            await self.controls.start()
        except BaseException:
            with anyio.move_on_after(_PATIENCE, shield=True):
                await self._try(self._announcer.withdraw(), "process")
            raise
        self._keeper.start(self._bus)
        await self._try(self.blocked.refresh(self._bus), "sequences")
        self._store.on_work(lambda: self._bus.call_from_thread(self.wake))
        lease = self._settings.lease
        self._repeat(rescue_interval(lease), self._rescuer.rescue, "rescue")
        self._repeat(LOOK_EVERY, self._announcer.exhaust_unhandled, "unhandled")
        self._repeat(READ_CONFIGURATION, self.controls.look, "controls")
        self._repeat(READ_CONFIGURATION, self.controls.bring_back, "parked")
        self._repeat(REFRESH, lambda: self.blocked.refresh(self._bus), "sequences")
        spool = self._spool
        if spool is not None:
            self._bus.serve(lambda: spool.run(self._store, self._clock, imported=self._imported))
        if self._worker is not None:
            self._bus.serve(self._worker.serve)
            self._bus.serve(self._alarm.serve)
            self._repeat(self._settings.poll, self._poll, "worker")
        if self._bus.telemetry:
            self._bus.serve(self._announcing.serve)

    def halt(self) -> None:
        """Claim nothing any more."""
        self.controls.halt()
        self._store.on_work(None)
        if self._worker is not None:
            self._worker.halt()
        self._unsettled.end()

    async def come_to_rest(self) -> None:
        """Wait for the store's answers to what has ended."""
        if self._worker is not None:
            await self._worker.come_to_rest()

    async def stop(self) -> None:
        """Record what has ended since, and leave."""
        if self._worker is not None:
            await self._worker.finish()
        await self._announcing.finish()
        await self._keeper.stop()
        await self._try(self._announcer.withdraw(), "process")

    async def wait_idle(self) -> None:
        """Return when what this process has accepted, and can run, has settled."""
        if self._worker is not None:
            await self._unsettled.wait()

    # -- what wakes the worker

    def wake(self) -> None:
        """Tell the worker that something may have become claimable."""
        if self._worker is not None:
            self._worker.wake()

    def moved(self, state: DeadLetterState, retry_at: datetime | None) -> None:
        """Take note of where a letter is: have the worker woken when it is due, or have it told of."""
        if state is DeadLetterState.PENDING and retry_at is not None and self._worker is not None:
            self._alarm.set(retry_at)
        elif state is DeadLetterState.EXHAUSTED:
            self._announcing.wake()

    def _give_back_closed(self) -> None:
        if self._worker is not None:
            self._worker.give_back_closed()

    def _configured(self, configuration: Configuration) -> None:
        self._schedules.take(configuration)
        if self._worker is not None:
            self._worker.retry(configuration.automatic_retries)

    async def _announce(self) -> None:
        await self._announcer.announce()
        self.outage.over()

    async def _poll(self) -> None:
        self.wake()
        self._unsettled.tell()

    def _written(self, kept: Sequence[Kept]) -> None:
        if self._worker is not None:  # it is woken when the session commits
            self._unsettled.expect_elsewhere(it.id for it in kept if it.state is _ACCEPTED)

    def _imported(self, writes: Sequence[Spooled]) -> None:
        self.outage.over()
        if any(write.verb == "accept" for write in writes):
            self.wake()

    def _repeat(self, seconds: float, work: Callable[[], Awaitable[None]], name: str) -> None:
        self._bus.serve(every(seconds, work, clock=self._clock, outage=self.outage, name=name))

    async def _try(self, work: Awaitable[None], name: str) -> None:
        """Await what is done again soon, and does not keep the bus from starting or stopping."""
        try:
            await work
        except StoreUnavailable as error:
            self.outage.met(error, during=name)
