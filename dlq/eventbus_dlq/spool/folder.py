"""The folder of spool files: made, checked, and searched for the files of processes that have died."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from eventbus.log import Log
from eventbus_dlq.errors import SpoolUnavailable
from eventbus_dlq.spool.file import DAMAGED, SUFFIX, SpoolFile
from eventbus_dlq.spool.refused import REFUSED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_log = Log()


def new_file(folder: Path) -> SpoolFile:
    """Return a new file in ``folder``, which is made when it is missing and its parent is there.

    Raises:
        SpoolUnavailable: the folder cannot be used; the message says why and what to do.
    """
    way_out = "give spool= a folder on a disk of this machine that this process may write"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError as error:
        why = f"{folder.parent} does not exist; make that first, or give spool= another folder"
        if folder.parent.exists():  # as /proc does
            why = f"nothing can be made in {folder.parent}; {way_out}"
        raise SpoolUnavailable(f"the spool's folder {folder} cannot be made: {why}") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise SpoolUnavailable(
            f"the spool's folder {folder} is, or lies below, something that is no folder; "
            "give spool= another one"
        ) from error
    except OSError as error:
        raise SpoolUnavailable(
            f"the spool's folder {folder} cannot be made: {error.strerror}; {way_out}"
        ) from error
    try:
        return SpoolFile.create(folder)
    except OSError as error:
        raise SpoolUnavailable(
            f"no file can be made and locked in the spool's folder {folder}: {error.strerror}; {way_out}"
        ) from error


def adopted(folder: Path, passed_over: set[Path]) -> Sequence[SpoolFile]:
    """Return the files of processes that have died, the oldest first; they are locked from now on.

    What cannot be read is reported, once, and from then on in ``passed_over``.
    """
    found: list[SpoolFile] = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if path in passed_over:
            continue
        try:
            file = SpoolFile.adopt(path)
        except (OSError, ValueError) as error:
            passed_over.add(path)
            _log.error("spool.unreadable", file=str(path), error=str(error))
            continue
        if file is not None:
            _log.warning("spool.adopted", file=str(path))
            found.append(file)
    return found


def left_for_a_person(folder: Path) -> Sequence[str]:
    """Return the names of the files that hold writes which could not be imported."""
    return sorted(name for name in os.listdir(folder) if name.endswith((REFUSED, DAMAGED)))
