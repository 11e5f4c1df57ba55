"""The way from packages to the prepared file, with two small vendors, real subprocesses, the real renderer,
and every step made to fail.
"""

import errno
import hashlib
import json
import os
import pickle
import sys

import numpy as np
import pytest

from unnoise.data import fetch, load, prepare
from unnoise.data import fetch as fetch_function
from unnoise.data.emoji import Emoji, load_emoji, path
from unnoise.data.prepare import _code, _slug, read_book
from unnoise.data.sets import cached
from unnoise.data.sources import ARTWORK, FREE, SOURCES, TEXTS, File, Package
from unnoise.errors import BadInput

from .conftest import tarball

pytest.importorskip("resvg_py")
SKIN = {"label": "waving hand: dark skin tone", "hexcode": "1F44B-1F3FF", "tone": 5}
PAIR = {
    "label": "waving hand: light skin tone, dark skin tone",
    "hexcode": "1F44B-1F3FB-1F3FF",
    "tone": [1, 5],
}
LISTS = {
    "emojibase.json": [
        {
            "label": "waving hand",
            "hexcode": "1F44B",
            "tags": ["hello", ":)"],
            "group": 1,
            "subgroup": 16,
            "skins": [SKIN, PAIR],
        },
        {"label": "red apple", "hexcode": "1F34E", "tags": ["fruit"], "group": 4, "subgroup": 42},
        {"label": "frog", "hexcode": "1F438", "tags": ["face"], "group": 3, "subgroup": 36},
        {"label": "regional indicator A", "hexcode": "1F1E6"},
    ],
    "groups.json": {
        "groups": {"1": "people-body", "3": "animals-nature", "4": "food-drink"},
        "subgroups": {"16": "hand-fingers-open", "36": "animal-amphibian", "42": "food-fruit"},
    },
    "unicode-names.json": {"1F438": "FROG FACE"},
    "cldr.json": {
        "annotations": {"annotations": {"🍎": {"default": ["fruit", "Red"], "tts": ["red apple"]}}}
    },
    "emojilib.json": {"🍎": ["red_apple", "fruit", "mac"]},
    "noto.json": {
        "prefix": "noto",
        "width": 10,
        "height": 10,
        "icons": {
            "waving-hand": {"body": '<path fill="#fc0" d="M2 2h6v3H2z"/>'},
            "waving-hand-dark-skin-tone": {"body": '<path fill="#420" d="M2 2h6v3H2z"/>'},
            "pomme": {"body": '<circle cx="5" cy="5" r="4" fill="#c00"/>'},
            "frogface": {"body": '<path fill="#0a0" d="M0 0h5v10z"/>'},
            "unheard-of": {"body": '<path d="M0 0h9v9H0z"/>'},
            "frog": {"hidden": True, "body": '<path d="M0 0h9v9H0z"/>'},
        },
    },
    "noto-chars.json": {"1f34e": "pomme"},
    "openmoji.json": {
        "prefix": "openmoji",
        "icons": {
            "red-apple": {
                "width": 20,
                "height": 20,
                "left": 10,
                "body": '<path fill="#00f" d="M10 0h10v20H10z"/>',
            },
            "frog": {"body": '<path d=""/>'},
        },
    },
}
FILES = {name: json.dumps(content).encode() for name, content in LISTS.items()}
MEMBERS = {
    "emojibase.json": "en/data.json",
    "groups.json": "meta/groups.json",
    "unicode-names.json": "meta/unicode-names.json",
    "cldr.json": "en/a.json",
    "emojilib.json": "dist/e.json",
    "noto.json": "icons.json",
    "noto-chars.json": "chars.json",
    "openmoji.json": "icons.json",
}
PACKAGES = {
    "words@1": ("emojibase.json", "groups.json", "unicode-names.json"),
    "cldr@1": ("cldr.json",),
    "lib@1": ("emojilib.json",),
    "noto@1": ("noto.json", "noto-chars.json"),
    "openmoji@1": ("openmoji.json",),
}


def package(name):
    return Package(
        name,
        tuple(
            File(f, len(FILES[f]), hashlib.sha256(FILES[f]).hexdigest(), f"package/data/{MEMBERS[f]}")
            for f in PACKAGES[name]
        ),
    )


class World:
    def __init__(self, place, clients):
        self.place, self.clients = place, clients

    def offer(self, changed=None, before=""):
        """npm has every package, with the files of `changed` in place of their own; `before` is Python that
        it runs first.
        """
        files = {**FILES, **(changed or {})}
        tars = {
            p: tarball({MEMBERS[f]: files[f] for f in names} | {"xx/data.json": b"{}"})
            for p, names in PACKAGES.items()
        }
        self.clients.npm(
            pickle.dumps(tars),
            f"import pickle; payload = pickle.loads(payload); {before or 'pass'}\n"
            "open('p.tgz', 'wb').write(payload[args[1]])",
        )

    def refuses(self):
        with pytest.raises(BadInput) as error:
            fetch("emoji")
        assert "\n" not in str(error.value) and not path("emoji").exists()
        assert (
            not [p.name for p in self.place.iterdir() if p.name.endswith(".part")]
            if self.place.exists()
            else True
        )
        return str(error.value)

    def asked(self):
        return [call.split()[2] for call in self.clients.calls()]


@pytest.fixture
def world(tmp_path, monkeypatch, clients):
    from dataclasses import replace

    monkeypatch.setenv("UNNOISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(prepare, "TEXTS", tuple(package(p) for p in ("words@1", "cldr@1", "lib@1")))
    by_style = {a.style: a for a in ARTWORK}
    monkeypatch.setattr(
        prepare,
        "ARTWORK",
        tuple(replace(by_style[s], package=package(f"{s}@1")) for s in ("noto", "openmoji")),
    )
    return World(tmp_path / "cache" / "data" / "emoji", clients)


def test_packages_become_one_file(world):
    world.offer()
    lines = []
    files = fetch("emoji", lines.append)
    assert (
        [f.name for f in files] == ["emoji-64.safetensors", "ATTRIBUTION.md"]
        and lines[-1] == "emoji: ready"
        and cached("emoji")
    )
    assert {f.name for f in world.place.iterdir()} == {*FILES, "emoji-64.safetensors", "ATTRIBUTION.md"}
    emoji = load_emoji()
    found = {(emoji.label(i), emoji.styles[emoji.style[i]]): i for i in range(len(emoji))}
    assert set(found) == {
        ("waving hand", "noto"),
        ("waving hand: dark skin tone", "noto"),
        ("red apple", "noto"),
        ("frog", "noto"),
        ("red apple", "openmoji"),
    }  # not the hidden one, not the unheard-of, not the empty one
    apple, blue, frog = (
        emoji.rgba(found[key]) for key in (("red apple", "noto"), ("red apple", "openmoji"), ("frog", "noto"))
    )
    assert apple.shape == (64, 64, 4) and tuple(apple[32, 32]) == (204, 0, 0, 255) and apple[0, 0, 3] == 0
    assert (
        tuple(blue[5, 5]) == (0, 0, 255, 255) and blue[5, 40, 3] == 0
    )  # `left` moves the view; a box of 20 x 20 fills the picture
    assert tuple(frog[3, 20]) == (0, 170, 0, 255) and tuple(emoji.box[found["frog", "noto"]]) == (
        0,
        0,
        32,
        64,
    )
    dark = found["waving hand: dark skin tone", "noto"]
    assert emoji.tone[dark] == 5 and emoji.concepts[emoji.concept[dark]].label == "waving hand"
    concept = emoji.concepts[emoji.concept[found["red apple", "noto"]]]
    assert (
        concept.tags == ("fruit", "red", "mac") and concept.group == "food-drink" and concept.code == "1F34E"
    )
    assert emoji.concepts[0].tags == ("hello",)
    assert emoji.turn[found["red apple", "noto"]] < 0.05 < 0.3 < emoji.turn[found["frog", "noto"]]
    notice = files[1].read_text()
    assert (
        "| noto | Noto Emoji | Google Inc. | Apache-2.0 | github.com/googlefonts/noto-emoji | 4 |" in notice
    )
    assert "CC-BY-SA-4.0 (evaluation only)" in notice and "http" not in notice
    assert [len(emoji.members(s)) for s in ("train", "test", "personal", "unseen")] == [4, 0, 0, 1]
    data = load("emoji", "unseen")
    assert (
        data.x.shape == (1, 64, 64, 3)
        and data.captions == ("red apple",)
        and tuple(data.x[0, 5, 60]) == (255, 255, 255)
    )


def test_what_is_prepared_is_neither_fetched_nor_drawn_again_and_can_travel(world, tmp_path, monkeypatch):
    world.offer()
    file = fetch("emoji")[0]
    stamp, asked = file.stat().st_mtime_ns, len(world.asked())
    fetch("emoji")
    assert file.stat().st_mtime_ns == stamp and len(world.asked()) == asked == 5
    monkeypatch.setenv("UNNOISE_CACHE", str(tmp_path / "other"))
    (tmp_path / "other" / "data" / "emoji").mkdir(parents=True)
    (tmp_path / "other" / "data" / "emoji" / file.name).write_bytes(file.read_bytes())
    monkeypatch.setenv("PATH", "")  # no npm there
    monkeypatch.setitem(sys.modules, "resvg_py", None)  # and no renderer
    assert fetch("emoji")[0] != file and len(load_emoji()) == 5


def test_the_same_packages_give_the_same_bytes(world, tmp_path, monkeypatch):
    world.offer()
    first = fetch("emoji")[0].read_bytes()
    monkeypatch.setenv("UNNOISE_CACHE", str(tmp_path / "again"))
    assert fetch("emoji")[0].read_bytes() == first


@pytest.mark.parametrize(
    "body, reason",
    [
        ("sys.exit('E404: no such package') if args[1] == 'noto@1' else 0", "E404"),
        ("payload['noto@1'] = payload['noto@1'][:300]", "archive is broken"),
        (
            (
                "(open('p.tgz', 'wb').write(b'x'), os.kill(os.getpid(), signal.SIGKILL)) if args[1] =="
                " 'noto@1' else 0"
            ),
            "exit -9",
        ),
    ],
)
def test_a_cut_fetch_goes_on_where_it_was(world, body, reason):
    world.offer(before=body)
    said = world.refuses()
    assert reason in said and "npm noto@1" in said and "noto.json" in said
    with pytest.raises(BadInput, match="run: unnoise data fetch emoji"):
        load("emoji")
    world.offer()
    before = len(world.asked())
    fetch("emoji")
    assert world.asked()[before:] == ["noto@1", "openmoji@1"] and len(load_emoji()) == 5


def test_a_changed_package_is_named_with_both_checksums(world):
    changed = FILES["noto.json"].replace(b"#c00", b"#c01")
    world.offer({"noto.json": changed})
    said = world.refuses()
    assert (
        "noto.json" in said
        and hashlib.sha256(changed).hexdigest() in said
        and hashlib.sha256(FILES["noto.json"]).hexdigest() in said
    )


def test_without_npm_and_without_a_renderer(world, monkeypatch):
    assert "npm is not installed" in world.refuses()
    world.offer()
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    assert (
        "pip install 'unnoise[data]'" in world.refuses() and world.asked() == []
    )  # said before anything is fetched


@pytest.mark.parametrize("victim", ["noto.json", "noto-64.drawn", "emoji-64.safetensors"])
def test_a_full_disk(world, monkeypatch, victim):
    def full(descriptor, really=os.fsync):
        if victim in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        really(descriptor)

    world.offer()
    with monkeypatch.context() as during:
        during.setattr(os, "fsync", full)
        assert "No space left on device" in world.refuses()
    fetch("emoji")
    assert len(load_emoji()) == 5


def test_interrupted_while_drawing_keeps_the_vendors_that_are_drawn(world, monkeypatch):
    drawn = []

    def until_openmoji(artwork, place, book, really=prepare.pictures):
        drawn.append(artwork.style)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return really(artwork, place, book)

    world.offer()
    monkeypatch.setattr(prepare, "pictures", until_openmoji)
    with pytest.raises(KeyboardInterrupt):
        fetch("emoji")
    assert (world.place / "noto-64.drawn").is_file() and not path("emoji").exists()
    fetch("emoji")
    assert drawn == ["noto", "openmoji", "openmoji"] and len(load_emoji()) == 5


HARMS = {
    "cut": lambda raw: raw[:-200],
    "zeros": lambda raw: raw[:-200] + bytes(200),
    "empty": lambda raw: b"",
    "nothing": lambda raw: bytes(len(raw)),
    "format": lambda raw: raw.replace(b"unnoise-emoji-1", b"unnoise-emoji-0"),
    "words": lambda raw: raw.replace(b"red apple", b"bad apple"),
    "header": lambda raw: raw.replace(b'"emoji":', b'"emojo":'),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_a_damaged_file_is_refused_and_made_again(world, harm):
    world.offer()
    file = fetch("emoji")[0]
    whole = file.read_bytes()
    file.write_bytes(harm(whole))
    with pytest.raises(BadInput) as error:
        load_emoji()
    assert (
        str(file) in str(error.value)
        and "unnoise data fetch emoji" in str(error.value)
        and "\n" not in str(error.value)
    )
    fetch("emoji")
    assert file.read_bytes() == whole


def test_larger_pictures_share_the_packages(world):
    world.offer()
    fetch("emoji")
    asked = len(world.asked())
    assert fetch("emoji-128")[0].name == "emoji-128.safetensors" and len(world.asked()) == asked
    big, small = load_emoji("emoji-128"), load_emoji("emoji")
    assert big.size == 128 and len(big) == len(small)
    apple = big.find("red apple", "noto")[0]
    seen = big.rgba(apple).reshape(64, 2, 64, 2, 4)[..., 3].astype(float).mean((1, 3))
    assert (
        np.abs(seen - small.rgba(small.find("red apple", "noto")[0])[..., 3]).max() <= 1
    )  # 64 is the average of 128


def test_a_fluent_pack_of_pictures_loses_its_flags(world, tmp_path):
    import io

    from PIL import Image

    from unnoise.data.emoji import Concept, Variant

    out = io.BytesIO()
    Image.new("RGBA", (256, 256), (10, 200, 30, 255)).save(out, format="WEBP", lossless=True)
    webp = {f"{code}.webp": out.getvalue() for code in ("1f438", "1f1e6-1f1fd", "00a9-fe0f")}
    (tmp_path / "3d.tgz").write_bytes(tarball({**webp, "x.png": b""}))
    kinds = (("frog", "animal"), ("flag: x", "country-flag"), ("copyright", "other-symbol"))
    concepts = tuple(Concept(label, "", "", sub, ()) for label, sub in kinds)
    variants = tuple(
        Variant(k, 0, code, c.label)
        for k, (c, code) in enumerate(zip(concepts, ("1F438", "1F1E6-1F1FD", "00A9")))
    )
    book = prepare.Book(concepts, variants, {v.code: k for k, v in enumerate(variants)}, {}, {})
    fluent = next(a for a in ARTWORK if a.style == "3d")
    found = dict(prepare.pictures(fluent, tmp_path, book))
    assert (
        set(found) == {0, 2}
        and found[0].size == (128, 128)
        and found[0].getpixel((5, 5)) == (10, 200, 30, 255)
    )


def test_names_and_codes():
    assert (
        _code("1f44b-fe0f") == "1F44B"
        and _code("a9-fe0f") == _code("00A9") == "00A9"
        and _code("0023-fe0f-20e3") == "0023-20E3"
    )
    assert (
        _slug("A button (blood type)") == "a-button-blood-type"
        and _slug("piñata") == "pinata"
        and _slug("man’s shoe") == "mans-shoe"
    )


def test_every_pin_is_whole():
    files = [f for p in (*TEXTS, *(a.package for a in ARTWORK)) for f in p.files]
    assert len({f.name for f in files}) == len(files) and all(
        len(f.sha256) == 64 and f.size > 0 for f in files
    )
    assert all(a.package.npm.count("@") >= 1 and a.package.npm.split("@")[-1][0].isdigit() for a in ARTWORK)
    assert sum(a.licence in FREE for a in ARTWORK) == 8 and SOURCES["emoji"].count["train"] > 20_000


@pytest.mark.slow
def test_the_real_set():
    if not cached("emoji"):
        pytest.skip("the emoji are not in this machine's cache; run: unnoise data fetch emoji")
    emoji = load_emoji()
    assert {s: len(emoji.members(s)) for s in SOURCES["emoji"].count} == SOURCES["emoji"].count
    assert path("emoji").stat().st_size <= 60 * 2**20
    flags = np.array([c.subgroup == "country-flag" for c in emoji.concepts])[emoji.concept]
    assert not (flags & (emoji.style == emoji.styles.index("3d"))).any()
    weights = emoji.weights("train")
    assert (
        weights.sum() == pytest.approx(1)
        and weights[flags].sum() < 0.03
        and 0.03 < weights[emoji.tone > 0].sum() < 0.15
    )
    rng = np.random.default_rng(0)
    for i in rng.integers(0, len(emoji), 200).tolist():
        assert (emoji.rgba(i)[..., 3] > 0).any()
    assert isinstance(emoji, Emoji) and fetch_function is fetch and read_book
