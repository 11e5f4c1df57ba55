"""SIGTERM, which schedulers and containers send, is met like Ctrl-C: work in hand is told and kept, the exit
code says which it was.

with on_sigterm(): …            # a Terminated is raised where the main thread is
except KeyboardInterrupt as e: raise SystemExit(exit_code(e))
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM has come. A KeyboardInterrupt, so that whatever tidies up at Ctrl-C does so now."""


def exit_code(e: KeyboardInterrupt) -> int:
    """What a command that was broken off exits with: 128 and the signal's number (130: SIGINT, 143:
    SIGTERM).
    """
    return 128 + (signal.SIGTERM if isinstance(e, Terminated) else signal.SIGINT)


@contextmanager
def on_sigterm() -> Iterator[None]:
    """Inside, SIGTERM raises Terminated. Outside the main thread, where Python sets no handlers, and where
    SIGTERM has another handler already, nothing is changed."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated
