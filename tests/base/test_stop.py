"""SIGTERM is met like Ctrl-C, with its own exit code."""

import os
import signal
import threading

import pytest

from unnoise.base.stop import Terminated, exit_code, on_sigterm


def test_sigterm_raises_inside_and_nothing_stays_behind():
    with pytest.raises(Terminated), on_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_codes_are_128_and_the_signal():
    assert exit_code(KeyboardInterrupt()) == 130 and exit_code(Terminated()) == 143


def test_a_handler_that_is_there_stays():
    mine = lambda *_: None
    signal.signal(signal.SIGTERM, mine)
    try:
        with on_sigterm():
            assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_other_threads_are_left_alone():
    seen = []

    def work():
        with on_sigterm():
            seen.append(signal.getsignal(signal.SIGTERM))

    t = threading.Thread(target=work)
    t.start()
    t.join()
    assert seen == [signal.SIG_DFL]
