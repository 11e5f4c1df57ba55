"""A lock that is waited for."""

import threading
import time

import pytest

from unnoise.base.lock import NAME, alone
from unnoise.errors import BadInput


def test_the_second_is_refused_at_once_or_waits_its_turn(tmp_path):
    with alone(tmp_path, "painting"):
        with pytest.raises(BadInput, match=r"in use: painting by process \d+"), alone(tmp_path, "sawing"):
            pass
        begun = time.monotonic()
        with pytest.raises(BadInput, match="in use"), alone(tmp_path, "sawing", wait=0.2):
            pass
        assert time.monotonic() - begun >= 0.2
    assert not (tmp_path / NAME).exists()


def test_who_waits_gets_it_when_it_is_free(tmp_path):
    order = []

    def second():
        with alone(tmp_path, "second", wait=20):
            order.append("second")

    with alone(tmp_path, "first"):
        t = threading.Thread(target=second)
        t.start()
        time.sleep(0.15)
        order.append("first")
    t.join()
    assert order == ["first", "second"] and not (tmp_path / NAME).exists()
