"""``eventbus publish``: feeds events from a file or a pipe into an application's bus."""

from __future__ import annotations

import os
import signal
import stat
import sys
import traceback
from contextlib import AsyncExitStack
from typing import Annotated

import anyio
import typer
from rich.console import Console

from eventbus import EventBus, EventBusError
from eventbus_adapters.cli.feed import Feeder, Tally
from eventbus_adapters.cli.leaving import INTERRUPTED, leave
from eventbus_adapters.cli.lines import Source
from eventbus_adapters.cli.loading import CannotLoad, load_bus
from eventbus_adapters.cli.meter import meter

_STDIN = "-"


def publish(
    app: Annotated[str, typer.Argument(metavar="APP", help="The application's bus, as module:bus.")],
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", help="NDJSON, one event a line; - is standard input.")
    ] = _STDIN,
    concurrency: Annotated[
        int, typer.Option(min=1, max=10_000, help="Events under way at a time; 1 keeps them in order.")
    ] = 100,
) -> None:
    """Publish the events of a file or of standard input on an application's bus.

    A line is {"event": "order.placed", "data": {...}}, and may have tenant, correlation_id,
    causation_id, source, user_id, id, priority, tags and headers; or it is a CloudEvent 1.0 in JSON.
    The bus is started and stopped, unless the application runs it already. A bad line is told on
    standard error with its number and passed over: not JSON, unknown keys, an event that nobody
    listens to, a payload that does not fit, more than 8 MiB. Ctrl-C takes no more lines, finishes
    what is under way and prints the summary; a second one cuts that short.

    Exit codes: 0 every line was published, and every delivery succeeded or is kept as a dead letter;
    1 there were bad lines, a failed delivery could not be kept, or the input could not be read to its
    end; 2 the application or the file cannot be opened; 130 interrupted.
    """
    bus = _bus(app)
    descriptor = _opened(file)
    try:
        tally = anyio.run(feed, bus, descriptor, concurrency)
    except EventBusError as error:
        leave(f"the bus of {app!r} cannot be started: {error}")
    finally:
        if file != _STDIN:
            os.close(descriptor)
    _say(summary(tally))
    raise typer.Exit(exit_code(tally))


def _bus(app: str) -> EventBus:
    try:
        return load_bus(app)
    except CannotLoad as error:
        if error.__cause__ is not None:  # the application's own code raised: its author wants to see where
            typer.echo("".join(traceback.format_exception(error.__cause__)), err=True, nl=False)
        leave(str(error))


def _opened(file: str) -> int:
    try:
        descriptor = sys.stdin.fileno() if file == _STDIN else os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            leave(f"{file} is a directory; name a file of NDJSON")
    except OSError as error:
        leave(f"{file} cannot be opened: {error.strerror or error}")
    except AttributeError:  # sys.stdin is None when the process was started without
        leave("there is no standard input; name a file")
    return descriptor


async def feed(bus: EventBus, descriptor: int, concurrency: int) -> Tally:
    """Publish the lines of an open file on ``bus``, which is started if it does not run; Ctrl-C stops it.

    Raises:
        EventBusError: the bus cannot be started.
    """
    console = Console(stderr=True)
    async with AsyncExitStack() as stack:
        if not bus.running:
            await stack.enter_async_context(bus)
        # Without a terminal the complaints stand alone on standard error.
        show = (
            stack.enter_context(meter(console, "publishing (bytes)", _size(descriptor)))
            if console.is_terminal
            else _nothing
        )
        feeder = Feeder(bus, concurrency=concurrency, complain=_complain, progress=show)
        async with anyio.create_task_group() as tasks:
            await tasks.start(_stop_on_signal, feeder)
            await feeder.run(Source(descriptor))
            tasks.cancel_scope.cancel()
    return feeder.tally


async def _stop_on_signal(
    feeder: Feeder, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            feeder.stop()


def _nothing(_: int) -> None:
    """Show no progress."""


def _size(descriptor: int) -> int | None:
    status = os.fstat(descriptor)
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _complain(number: int, why: str) -> None:
    try:
        typer.echo(f"line {number}: {why}", err=True)
    except OSError:  # nobody reads it any more: the events are worth more than the complaints
        return


def _say(text: str) -> None:
    try:
        typer.echo(text)
    except BrokenPipeError:
        # Else the interpreter's own flush at its end would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def summary(tally: Tally) -> str:
    """Return what became of the lines, in one line."""
    parts = [
        f"{tally.published:,} events published",
        f"{tally.dead_lettered:,} failed deliveries kept as dead letters",
        f"{tally.bad:,} bad lines",
    ]
    if tally.lost:
        parts.append(f"{tally.lost:,} failed deliveries NOT kept")
    if tally.cut_short:
        parts.append(f"{tally.cut_short:,} events cut short")
    if tally.error is not None:
        parts.append(f"ended early after line {tally.last_line:,}: {tally.error}")
    elif tally.stopped:
        parts.append(f"stopped after line {tally.last_line:,}")
    return "; ".join(parts)


def exit_code(tally: Tally) -> int:
    """Return what the process says of it."""
    if tally.stopped:
        return INTERRUPTED
    return 1 if tally.bad or tally.lost or tally.error is not None else 0
