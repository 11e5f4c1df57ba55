"""One process at a time in a folder: `with alone(folder, "training"): …`.

The lock is the system's (flock) on `<folder>/.lock`, so that it ends with its process however that ends: a
lock file that a killed process left is no lock. The file says who holds it, for the message to the next one.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unnoise.base.errors import BadInput
from unnoise.base.read import StrPath
from unnoise.base.text import one_line

NAME = ".lock"
PAUSE = 0.05  # seconds between two looks at a lock that is waited for


@contextmanager
def alone(folder: StrPath, doing: str, wait: float = 0.0) -> Iterator[None]:
    """Hold `folder` (made where it is missing) for this caller: another process, or another call in this one,
    has to wait its turn.

    wait: seconds to wait for another holder. BadInput when it still has it then (at once for 0); says who,
    and what it does.
    """
    path = Path(folder) / NAME
    made = not os.path.lexists(folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _taken(path, str(folder), time.monotonic() + wait)
    except FileExistsError:
        raise BadInput(f"cannot write {folder}: it is a file, a folder is expected") from None
    except OSError as e:
        raise BadInput(f"cannot write {folder}: {e.strerror or e}") from None
    try:
        with suppress(OSError):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{doing} by process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        with suppress(OSError):
            # while it is still ours: who waits for this very file finds that it has no name any more
            path.unlink()
        os.close(handle)
        if made:
            with suppress(OSError):
                path.parent.rmdir()  # where nothing has come into it


def _taken(path: Path, folder: str, until: float) -> int:
    """An open handle of the lock file, locked, that still has its name."""
    import fcntl

    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = one_line(os.read(handle, 300).decode(errors="replace")) or "another process"
            os.close(handle)
            if time.monotonic() < until:
                time.sleep(PAUSE)
                continue
            raise BadInput(f"{folder} is in use: {who}; wait for it, or give another folder") from None
        except OSError:  # a file system without locks: go on without
            return handle
        with suppress(OSError):
            if os.stat(path).st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)
