"""A folder that keeps writes while the store is unavailable."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import anyio
import anyio.to_thread

from eventbus.log import Log
from eventbus_dlq.errors import SpoolUnavailable, StoreUnavailable
from eventbus_dlq.spool.folder import adopted, left_for_a_person, new_file
from eventbus_dlq.spool.importer import Importer
from eventbus_dlq.spool.progress import Progress
from eventbus_dlq.spool.waking import Answer, Bell
from eventbus_dlq.spool.writer import Append, Clear, Stop, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eventbus.ports import Clock
    from eventbus_dlq.spool.file import SpoolFile
    from eventbus_dlq.store import DeadLetterStore, Spooled

ADOPT_EVERY = 30.0
"""Seconds between two looks for files of processes that have died."""

_FIRST_WAIT = 0.5
_LONGEST_WAIT = 5.0

_Imported: TypeAlias = "Callable[[Sequence[Spooled]], object]"

_log = Log()


class Spool:
    """Keeps writes in a file of its own while the store is unavailable, and imports them afterwards.

    Every opened spool has one file in the folder, which it holds locked for as long as it lives. The
    files of processes that have died are imported by whoever finds them first. Several processes, and
    several buses of one, may share a folder. It must be on a disk of this machine.

        spool = Spool("/var/lib/shop/spool")
        await spool.open()
        ...                                   # in the background: await spool.run(store, clock)
        if spool.is_waiting:                  # earlier writes are not in the store yet: queue behind them
            await spool.append([Spooled("add", letter)])
        ...
        await spool.close()

    Args:
        folder: where the files are. It is made, for its owner only, when its parent exists.

    Raises:
        ValueError: it is no path, or one that no folder can have.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = _path_of(folder)
        self._progress = Progress()
        self._bell = Bell()
        self._writer: Writer | None = None
        self._adopted: list[SpoolFile] = []
        self._passed_over: set[Path] = set()
        self._found_at_start = 0

    async def open(self) -> None:
        """Make this process's file and take over those of dead processes. Opening twice is harmless.

        Raises:
            SpoolUnavailable: the folder cannot be used; the message says why and what to do.
        """
        if self._writer is not None:
            return
        file, self._adopted = await anyio.to_thread.run_sync(self._open_files)
        self._found_at_start = len(self._adopted)
        self._progress = Progress(self._found_at_start)
        self._writer = Writer(self._folder, file, self._progress, self._bell.ring)

    def _open_files(self) -> tuple[SpoolFile, list[SpoolFile]]:
        own = new_file(self._folder)
        if left := left_for_a_person(self._folder):
            _log.error("spool.not_imported", folder=str(self._folder), files=left)
        return own, self._find_files()

    def _find_files(self) -> list[SpoolFile]:
        return list(adopted(self._folder, self._passed_over))

    @property
    def is_waiting(self) -> bool:
        """Whether writes of this spool are not in the store yet, so that later ones must queue behind.

        True from the moment at which :meth:`append` is called until everything is imported; and after
        opening, until the files of dead processes that were found then are imported. When it is False,
        whatever was appended before is committed.
        """
        return self._progress.is_waiting

    async def append(self, writes: Sequence[Spooled]) -> None:
        """Keep writes behind those that were appended before; when it returns they are on the disk.

        They are handed over before the first suspension: cancelling the caller ends the wait and not
        the write. Those of one call are kept together or not at all.

        Raises:
            SpoolUnavailable: they could not be written, and nothing of them was kept.
        """
        writer = self._writer
        if writer is None:
            raise SpoolUnavailable(f"the spool {self._folder} is closed; open it first")
        answer: Answer[None] = Answer(lambda: [write.letter.id for write in writes])
        writer.put(Append(tuple(writes), answer))
        await answer.wait()

    async def run(
        self,
        store: DeadLetterStore,
        clock: Clock,
        *,
        imported: _Imported | None = None,
    ) -> None:
        """Import into ``store`` whatever is spooled, as soon as it is possible; until it is cancelled.

        Files of dead processes come first, in the order in which they were made. It begins at once when
        something is appended. While the store is unavailable it tries again after 0.5 s, and then ever
        later, up to 5 s. A write that the store refuses for good is put aside, into a file that ends in
        ``.refused``, and the others go on.

        Args:
            store: where to; open.
            clock: for the waits and the time of the imports.
            imported: called in this task with the writes of each import, once it is committed. It is not
                when the commit's answer was lost.
        """
        self._bell.listen()
        own: Importer | None = None
        while (writer := self._writer) is not None:
            self._bell.reset()
            while self._adopted:
                await self._import_adopted(store, clock, imported)
            if own is None or own.file is not writer.file:
                own = self._importer_of_own(writer, store, clock, imported)
            await self._import_own(own, writer, clock)
            if not await self._bell.wait(clock, at_most=ADOPT_EVERY):
                self._adopted = await anyio.to_thread.run_sync(self._find_files)

    async def _import_adopted(self, store: DeadLetterStore, clock: Clock, imported: _Imported | None) -> None:
        file = self._adopted[0]

        def committed(writes: Sequence[Spooled], _: int) -> None:
            _tell(imported, writes)

        try:
            await _drain(Importer(file, store, clock, committed=committed), clock)
        except OSError as error:  # the others must not wait for a file that the disk does not give
            _log.error("spool.unreadable", file=str(file.path), error=str(error))
            self._passed_over.add(file.path)
            file.close()
        else:
            await anyio.to_thread.run_sync(file.retire)
        self._adopted.remove(file)
        if self._found_at_start:
            self._found_at_start -= 1
            self._progress.inherited(self._found_at_start)

    def _importer_of_own(
        self, writer: Writer, store: DeadLetterStore, clock: Clock, imported: _Imported | None
    ) -> Importer:
        def committed(writes: Sequence[Spooled], position: int) -> None:
            self._progress.imported(position)
            _tell(imported, writes)

        at = self._progress.imported_to
        return Importer(writer.file, store, clock, committed=committed, position=at)

    async def _import_own(self, own: Importer, writer: Writer, clock: Clock) -> None:
        if own.file.is_empty:
            return
        await _drain(own, clock)
        answer: Answer[bool] = Answer()
        try:
            writer.put(Clear(self._progress.imported_to, answer))
            await answer.wait()
        except SpoolUnavailable:  # it is being closed, which clears up as well
            return
        except OSError as error:  # what is imported stays in the file for now, and is not imported again
            _log.error("spool.not_cleared", file=str(own.file.path), error=str(error))

    async def close(self) -> None:
        """Finish the appends that were handed over, then let go of the files. Closing twice is harmless.

        Nothing is imported any more. What is not in the store stays in the files, for the next process
        that opens the folder. End :meth:`run` before.
        """
        writer, self._writer = self._writer, None
        if writer is None:
            return
        stopped: Answer[None] = Answer()
        writer.put(Stop(stopped))
        for file in self._adopted:
            file.close()
        self._adopted = []
        with anyio.CancelScope(shield=True):
            await stopped.wait()


def _tell(imported: _Imported | None, writes: Sequence[Spooled]) -> None:
    if imported is None or not writes:
        return
    try:
        imported(writes)
    except Exception:  # they are imported, whatever it makes of that
        _log.exception("spool.callback_failed", writes=len(writes))


async def _drain(importer: Importer, clock: Clock) -> None:
    """Import a file to its end, waiting for a store that is unavailable."""
    wait = _FIRST_WAIT
    while True:
        try:
            if not await importer.import_batch():
                return
        except StoreUnavailable as error:
            if wait == _FIRST_WAIT:  # once for each outage, however long it is
                _log.warning("spool.waits", file=str(importer.file.path), error=str(error))
        except OSError as error:
            if not importer.file.is_own:
                raise
            _log.error("spool.import_failed", file=str(importer.file.path), seconds=wait, error=str(error))
        except Exception:  # a broken store: what was spooled stays, and is tried again
            _log.exception("spool.import_failed", file=str(importer.file.path), seconds=wait)
        else:
            wait = _FIRST_WAIT
            continue
        await clock.sleep(wait)
        wait = min(wait * 2, _LONGEST_WAIT)


def _path_of(folder: str | os.PathLike[str]) -> Path:
    try:
        path: object = os.fspath(folder)
    except TypeError:
        path = None
    if not isinstance(path, str):
        raise ValueError(f"spool={folder!r} is no path; give it that of a folder, or None for no spool")
    if not path:  # an empty setting, most likely; it would be the current folder
        raise ValueError(f"spool={folder!r} names no folder; give it one, or None for no spool")
    if "\x00" in path:
        raise ValueError(f"spool={folder!r} has a NUL, which no folder's name can hold; give it another")
    return Path(path)
