"""Keeping writes in a file of this process while the store is unavailable, and importing them afterwards.

=============  =====================================================================
``spool``      ``Spool``: open, append, run, close
``progress``   whether later writes must queue behind earlier ones
``writer``     the thread that appends, one fsync for all that wait
``file``       one file: locked, appended, read, cleared
``folder``     the folder: made, checked, searched for the files of dead processes
``records``    what stands in a file, byte for byte
``importer``   from a file into the store, each write once
``refused``    what the store takes from nobody, kept for a person
``waking``     from a thread into an event loop
=============  =====================================================================
"""

from __future__ import annotations

from eventbus_dlq.spool.spool import Spool

__all__ = ["Spool"]
