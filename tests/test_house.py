"""Arrows go one way: a room imports those above it in the list alone, lazily or for types alone too."""

import pytest

from tests.house import Arrow, arrows, circles, modules, room

ROOMS = (
    *("base", "errors"),
    *("process", "denoiser", "guide", "sample"),
    *("nets", "media", "codec", "text", "data", "hub", "engine", "worlds", "train"),
    *("pipeline", "show", "evaluate", "tune", "edit"),
    *("", "shipped", "cli", "__main__"),
)
# what still goes up, each to be turned round: (the room that imports, the room that it may not)
PENDING: set[tuple[str, str]] = set()


def up(found: list[Arrow]) -> list[Arrow]:
    place = {name: i for i, name in enumerate(ROOMS)}
    pairs = [(a, room(a.by, ROOMS), room(a.of, ROOMS)) for a in found]
    return [a for a, by, of in pairs if place[of] > place[by]]


def test_no_arrow_goes_up():
    wrong = {(room(a.by, ROOMS), room(a.of, ROOMS)) for a in up(arrows())}
    assert wrong == PENDING, [
        a for a in up(arrows()) if (room(a.by, ROOMS), room(a.of, ROOMS)) not in PENDING
    ]


def test_every_module_is_in_a_room():
    assert {room(m, ROOMS) for m in modules()} <= set(ROOMS)
    with pytest.raises(KeyError):
        room("elsewhere", ROOMS[1:])


def test_there_is_no_circle():
    assert circles() == []
