"""Faults that files of words and tokens have in the wild, by kind."""

import json
import shutil

import pytest

from tests.support import sd
from unnoise.errors import BadInput
from unnoise.text.tokenizer import Tokenizer
from unnoise.text.words import Words

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
def folder(tmp_path):
    return sd.write_tokenizer(tmp_path / "tokenizer")


def cut(lines, start, stop):
    return b"\n".join([lines[0], *lines[start:stop]]) + b"\n"


MERGES = {
    "empty": lambda raw: b"",
    "header": lambda raw: b"#version: 0.2\n",
    "blank": lambda raw: b"\n\n\n",
    "cr": lambda raw: raw.replace(b"\n", b"\r"),
    "half": lambda raw: cut(raw.split(b"\n"), 1, 40),
    "one less": lambda raw: cut(raw.split(b"\n"), 1, -2),
    "the first gone": lambda raw: cut(raw.split(b"\n"), 2, -1),
    "one in the middle gone": lambda raw: (
        raw.replace(b"\nc a\n", b"\n")
        if b"\nc a\n" in raw
        else cut(raw.split(b"\n"), 1, 30) + b"\n".join(raw.split(b"\n")[31:])
    ),
    "u+2028": lambda raw: raw.replace(b"\n", "\u2028".encode()),
    "u+0085": lambda raw: raw.replace(b"\n", "\x85".encode()),
    "reversed": lambda raw: b"\n".join(reversed(raw.rstrip(b"\n").split(b"\n"))) + b"\n",
    "sorted": lambda raw: b"\n".join(sorted(raw.rstrip(b"\n").split(b"\n"))) + b"\n",
    "twice": lambda raw: raw + raw,
    "utf-16": lambda raw: raw.decode().encode("utf-16"),
    "zeros": lambda raw: b"\0" * len(raw),
    "in a line": lambda raw: raw[: len(raw) // 2],
}


@pytest.mark.parametrize("what", MERGES)
def test_merges_that_are_not_all_of_them_are_refused(folder, what):
    path = folder / "merges.txt"
    path.write_bytes(MERGES[what](path.read_bytes()))
    with pytest.raises(BadInput, match=r"merges\.txt") as e:
        Tokenizer.load(folder)
    assert "\n" not in str(e.value) and len(str(e.value)) < 600


def test_how_many_there_are_and_must_be_is_said(folder):
    lines = (folder / "merges.txt").read_bytes().split(b"\n")
    whole = Tokenizer.load(folder)
    (folder / "merges.txt").write_bytes(cut(lines, 1, 41))
    with pytest.raises(
        BadInput,
        match=(
            rf"there are 40 merges, the vocabulary of {len(whole.vocab)} tokens asks for {len(whole.merges)}"
        ),
    ):
        Tokenizer.load(folder)


@pytest.mark.parametrize("count", [0, 10])
def test_tokenizer_json_is_held_to_the_same(folder, tmp_path, count):
    saved = Tokenizer.load(folder).save(tmp_path / "saved")
    d = json.loads((saved / "tokenizer.json").read_text())
    d["model"]["merges"] = d["model"]["merges"][:count]
    (saved / "tokenizer.json").write_text(json.dumps(d))
    with pytest.raises(BadInput, match=rf"tokenizer.json is damaged: there are {count} merges"):
        Tokenizer.load(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: raw.rstrip(b"\n"),
        lambda raw: raw + b"\n\n",
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: raw.split(b"\n", 1)[1],
    ],
)
def test_line_ends_and_marks_that_change_nothing_are_read(folder, change):
    want = Tokenizer.load(folder)
    for name in ("merges.txt", "vocab.json", "tokenizer_config.json", "special_tokens_map.json"):
        raw = (folder / name).read_bytes()
        (folder / name).write_bytes(
            change(raw) if name == "merges.txt" else b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n")
        )
    got = Tokenizer.load(folder)
    assert (got.merges, got.vocab, got.pad) == (want.merges, want.vocab, want.pad)


WRONG = [
    b"null",
    b"[]",
    b"7",
    b'"x"',
    b"true",
    DEEP.encode(),
    b'{"a": ' + b"9" * 5000 + b"}",
    b'{"a": 1, "a": 2}',
    b'{"\\ud800": 1}',
    b'{"a\\u0000": 1}',
    b'{"a": NaN}',
    b"\xff\xfe\x00",
    b'{"bos_token": {"content": 5}}',
    b'{"bos_token": [[]]}',
]


@pytest.mark.parametrize(
    "name",
    ["vocab.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"],
)
def test_whatever_a_file_holds_it_is_one_line_or_a_tokenizer(folder, name):
    refused = 0
    for raw in WRONG:
        (folder / name).write_bytes(raw)
        try:
            assert Tokenizer.load(folder).size
        except BadInput as e:
            assert "\n" not in str(e) and "\x00" not in str(e) and name.split(".")[0] in str(e), e
            str(e).encode()
            refused += 1
    assert refused >= 10


BY_KEY = (
    [("tokenizer_config.json", "model_max_length", v) for v in (True, "77", 2, -5, [77], {}, float("nan"))]
    + [
        ("tokenizer_config.json", "added_tokens_decoder", v)
        for v in (
            [],
            5,
            {"-1": {"content": "x"}},
            {"1" * 5000: {"content": "x"}},
            {"5": {"content": None}},
            {"5": None},
            {"5": {"content": "x", "lstrip": "yes"}},
        )
    ]
    + [("tokenizer_config.json", "tokenizer_class", v) for v in ("T5Tokenizer", 5, [], {})]
    + [
        ("special_tokens_map.json", "pad_token", v)
        for v in (5, [], {}, {"content": []}, "", "<absent>", {"content": "!", "normalized": 3})
    ]
)


@pytest.mark.parametrize(("name", "key", "value"), BY_KEY)
def test_values_of_another_type_are_named(folder, name, key, value):
    d = json.loads((folder / name).read_text()) | {key: value}
    (folder / name).write_text(json.dumps(d))
    with pytest.raises(BadInput, match=f"{key}|{name}") as e:
        Tokenizer.load(folder)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("what", ["circle", "folder", "gone"])
@pytest.mark.parametrize(
    "name", ["vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "added_tokens.json"]
)
def test_what_is_no_file_is_named(folder, name, what):
    (folder / name).unlink(missing_ok=True)
    if what == "folder":
        (folder / name).mkdir()
    else:
        (folder / name).symlink_to(name if what == "circle" else "nowhere")
    with pytest.raises(BadInput, match=name):
        Tokenizer.load(folder)


def test_saving_beside_other_files_keeps_them(folder, tmp_path):
    tok, there = Tokenizer.load(folder), tmp_path / "there"
    there.mkdir()
    (there / "notes.md").write_text("mine")
    (there / "linked.json").write_text("{}")
    (there / "vocab.json").symlink_to("linked.json")
    tok.save(there)
    assert (there / "notes.md").read_text() == "mine" and (there / "vocab.json").is_symlink()
    assert Tokenizer.load(there).vocab == tok.vocab and not list(there.glob(".*"))
    shutil.rmtree(there)


# --- words --------------------------------------------------------------------------------------------------

NAMED = [
    (("drawing", "photo"), "a drawing", "drawing"),
    (("drawing", "photo"), "the photo of a", "photo"),
    (("drawing", "photo"), "Drawing", "drawing"),
    (("cat", "the cat"), "a cat", "cat"),
    (("1", "one"), "a one", "one"),
    (("1", "one"), "1", "1"),
    (("bag", "handbag"), "a handbag", "handbag"),
    (("bag", "handbag"), "a bag", "bag"),
    (("shoe", "sneaker"), "a shoe", "shoe"),
    (("Cat", "cat"), "a Cat", "Cat"),
    (("🍎", "🍐"), "a 🍐", "🍐"),
    (("❤️", "🍐"), "❤", "❤️"),
    (("top", "pullover"), "a top", "top"),
    (("dress", "dresses"), "a dress", "dress"),
    (("a b", "ab"), "a ab", "ab"),
    (("T-shirt/top", "Bag"), "a top", "T-shirt/top"),
    (("T-shirt/top", "Bag"), "t shirt", "T-shirt/top"),
    (("Ankle boot", "Bag"), "boots", "Ankle boot"),
    (("7", "8"), "seven", "7"),
    (("seven", "8"), "7", "seven"),
    (("café", "tea"), "cafe\u0301", "café"),
    (("image", "number"), "number", "number"),
    (("猫", "犬"), "a 犬", "犬"),
    (("c++", "c"), "c", "c"),
    (("!!!", "?"), "!!!", "!!!"),
]


@pytest.mark.parametrize(("words", "prompt", "said"), NAMED)
def test_a_prompt_that_names_one_word(words, prompt, said):
    w = Words(words)
    assert w.words[w.label(prompt)] == said


NONE = (
    [
        (("drawing", "photo"), p)
        for p in ("!!!", "image", "...", "a", "the of", "a picture", "photos of drawings")
    ]
    + [(("left shoe", "right shoe"), p) for p in ("a shoe", "shoe", "left sneaker", "left")]
    + [
        (("black cat", "white cat"), "cat"),
        (("Cat", "cat"), "CAT"),
        (("🍎", "🍐"), "🍌"),
        (("cat", "dog"), "category"),
        (("cat", "dog"), "cat dog"),
        (("a", "a"), "a"),
        (("crane/bird", "crane/machine"), "crane"),
        (("zero", "one"), "-"),
        (("zero", "one"), "\u3000。"),
    ]
)


@pytest.mark.parametrize(("words", "prompt"), NONE)
def test_a_prompt_that_names_none_or_several_is_refused_with_the_words(words, prompt):
    with pytest.raises(BadInput) as e:
        Words(words).label(prompt)
    assert all(w in str(e.value) for w in words) and "\n" not in str(e.value)
