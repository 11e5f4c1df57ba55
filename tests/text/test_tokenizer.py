"""The tokenizer against transformers' CLIPTokenizer on the same files, and against byte-pair merging written
out here.
"""

import json
import random
import unicodedata
from itertools import pairwise

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.vocabulary import CORPUS, published, trained
from unnoise.errors import BadInput
from unnoise.text.tokenizer import BOS, END, EOS, Tokenizer

PIECES = [
    BOS,
    EOS,
    "<|ENDOFTEXT|>",
    "<|StartOfText|>",
    END,
    "cat" + END,
    " ",
    "  ",
    "\n",
    "\u3000",
    "\u2028",
    "\x00",
    "\u200b",
    "!",
    "!!",
    "...",
    "_",
    "a",
    "Horse",
    "astronaut",
    "<cat-toy>",
    "<Cat-Toy>",
    "'s",
    "'LL",
    "don't",
    "12",
    "٣",
    "½",
    "é",
    "e\u0301",
    "ß",
    "İ",
    "Σ",
    "ﬁ",
    "富士",
    "кот",
    "🙂",
    "👩‍🚀",
]
TEXTS = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
)
LAYOUTS = {"sd1": {}, "sd2": {"pad": "!"}, "whole": {"whole": True}, "whole-sd2": {"whole": True, "pad": "!"}}


@pytest.fixture(scope="module")
def tok():
    return trained()


@pytest.fixture(scope="module")
def folders(tok, tmp_path_factory):
    """Each published layout, what we save of it, and a plain `save`."""
    root = tmp_path_factory.mktemp("tokenizers")
    made = {k: published(root / k, tok, **v) for k, v in LAYOUTS.items()}
    made |= {f"{k}-again": Tokenizer.load(f).save(root / f"{k}-again") for k, f in made.items()}
    made["merges-only"] = published(root / "merges-only", tok)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (made["merges-only"] / name).unlink()
    made["legacy"] = published(root / "legacy", tok)
    (made["legacy"] / "added_tokens.json").write_text(json.dumps({EOS: tok.eos, "<Cat-Toy>": tok.size}))
    return made | {"trained": tok.save(root / "trained"), "added": tok.add("<Cat-Toy>").save(root / "added")}


@pytest.fixture(scope="module")
def pairs(folders):
    from transformers import CLIPTokenizer

    return {k: (Tokenizer.load(f), CLIPTokenizer.from_pretrained(f)) for k, f in folders.items()}


@given(text=TEXTS)
@settings(max_examples=150, deadline=None)
def test_ids_tokens_and_decoding_are_those_of_transformers(pairs, text):
    for name, (ours, theirs) in pairs.items():
        ids = ours.ids(text)
        assert ids == theirs(text, add_special_tokens=False).input_ids, name
        assert ours.tokens(text) == theirs.tokenize(text) == [ours.name(i) for i in ids], name
        assert ours.decode(ids) == theirs.decode(ids), name


def test_special_tokens_and_lengths_are_those_of_transformers(pairs):
    for name, (ours, theirs) in pairs.items():
        assert (ours.bos, ours.eos, ours.pad, ours.size) == (
            theirs.bos_token_id,
            theirs.eos_token_id,
            theirs.pad_token_id,
            len(theirs),
        ), name
        assert ours.length == 77 and theirs.model_max_length in (77, int(1e30)), name
        whole = theirs("a red apple", padding="max_length", max_length=77).input_ids
        assert list(ours.chunks([("a red apple", 1.0)])[0].ids) == whole, name
    assert (
        pairs["sd1"][0].pad == pairs["sd1"][0].eos and pairs["sd2"][0].pad == pairs["sd2-again"][0].pad == 0
    )


def _merged(word: str, ranks: dict, signs: dict) -> list[str]:
    """Byte-pair merging as it is defined: of the pairs there are, join the first of the list, everywhere,
    until there is none.
    """
    parts = [signs[b] for b in word.encode()]
    parts[-1] += END
    while True:
        best = min(pairwise(parts), key=lambda p: ranks.get(p, 1e9), default=None)
        if best not in ranks:
            return parts
        out = []
        while parts:
            n = 2 if tuple(parts[:2]) == best else 1
            out.append("".join(parts[:n]))
            parts = parts[n:]
        parts = out


@given(text=st.text("abcdehorstun ABC'éñ12.!?,富кот🙂\n\t", max_size=40))
@settings(max_examples=150, deadline=None)
def test_ids_are_those_of_merging_by_definition(tok, text):
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    signs = {b: chr(b) for b in printable} | {
        b: chr(256 + k) for k, b in enumerate(b for b in range(256) if b not in printable)
    }
    clean = regex.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).lower()
    words = regex.findall(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", clean)
    ranks = {m: k for k, m in enumerate(tok.merges)}
    want = [p for w in words for p in _merged(w, ranks, signs)]
    assert tok.tokens(text) == want and tok.ids(text) == [tok.vocab[p] for p in want]


def test_training_makes_the_published_order_and_learns(tok):
    order = sorted(tok.vocab, key=tok.vocab.__getitem__)
    assert (
        tok.size == len(order) == 700
        and order[0] == "!"
        and order[256] == "!" + END
        and order[-2:] == [BOS, EOS]
    )
    assert order[512:-2] == list(dict.fromkeys(a + b for a, b in tok.merges))
    assert trained().vocab == tok.vocab and trained().merges == tok.merges
    assert tok.tokens("Puppy and skunk") == ["puppy</w>", "and</w>", "skunk</w>"]
    assert trained(514).merges == [] and trained(514).tokens("cat") == ["c", "a", "t</w>"]
    assert trained(100_000).size < 2000, "no more pairs than the texts have"
    with pytest.raises(BadInput, match="514"):
        trained(513)


def test_decoding_gives_the_words_back(tok):
    for text in CORPUS:
        assert tok.decode(tok.ids(text)).replace(" ", "") == unicodedata.normalize(
            "NFC", text
        ).lower().replace(" ", "")
    assert (
        tok.decode([tok.bos, *tok.ids("A  Red apple"), tok.eos]) == "<|startoftext|>a red apple <|endoftext|>"
    )
    with pytest.raises(BadInput, match="700"):
        tok.decode([700])


def test_an_added_token_is_one_whole_and_the_old_one_does_not_know_it(tok):
    new = tok.add("<Cat-Toy>")
    assert (
        new.ids("a <Cat-Toy>!") == [*tok.ids("a"), 700, *tok.ids("!")]
        and new.size == 701
        and new.name(700) == "<Cat-Toy>"
    )
    assert len(tok.ids("<Cat-Toy>")) > 1 and tok.size == 700
    for bad in ("", " ", "<Cat-Toy>", "cat" + END):
        with pytest.raises(BadInput, match="already"):
            new.add(bad)


@pytest.mark.parametrize("n", [0, 1, 75, 76, 150, 200, 1000])
def test_chunks_lose_nothing(tok, n):
    rnd = random.Random(n)
    words = [rnd.choice(["cat", "dog", "moon", "apple"]) for _ in range(n)]
    weights = [rnd.choice([1.0, 1.3]) for _ in words]
    chunks = tok.chunks([(w + " ", k) for w, k in zip(words, weights)])
    assert all(
        len(c.ids) == len(c.weights) == 77 and c.ids[0] == tok.bos and c.ids[1 + c.count] == tok.eos
        for c in chunks
    )
    assert all(
        set(c.ids[2 + c.count :]) <= {tok.pad} and {c.weights[0], *c.weights[1 + c.count :]} == {1.0}
        for c in chunks
    )
    assert [i for c in chunks for i in c.ids[1 : 1 + c.count]] == [i for w in words for i in tok.ids(w)]
    per = [k for w, k in zip(words, weights) for _ in tok.ids(w)]
    assert [k for c in chunks for k in c.weights[1 : 1 + c.count]] == per and len(chunks) == max(
        1, -(-len(per) // 75)
    )


def test_an_empty_segment_begins_a_new_chunk(tok):
    count = lambda *texts: [c.count for c in tok.chunks([(t, 1.0) for t in texts])]
    assert (
        count("cat", "", "cat dog") == [1, 2] and count("", "", "cat", "", "") == [1] and count("", "") == [0]
    )


@pytest.mark.parametrize("text", ["x\ud800", b"bytes", 7, None])
def test_what_is_no_text_is_refused(tok, text):
    with pytest.raises(BadInput, match="valid Unicode"):
        tok.ids(text)


# --- files that are broken ----------------------------------------------------------------------------------

BROKEN = {
    "truncated": lambda raw: raw[: len(raw) // 2],
    "html": lambda raw: b"<!DOCTYPE html><html>404</html>",
    "empty": lambda raw: b"",
    "binary": lambda raw: b"\x80\x02}q\x00\xff\xfe",
    "list": lambda raw: b"[1, 2]",
    "deep": lambda raw: b"[" * 100_000,
}


@pytest.mark.parametrize("what", [*BROKEN, "missing", "folder"])
@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("sd1", "vocab.json"),
        ("sd1", "merges.txt"),
        ("whole", "tokenizer.json"),
        ("sd1", "tokenizer_config.json"),
        ("sd1", "special_tokens_map.json"),
        ("sd1", "added_tokens.json"),
    ],
)
def test_a_broken_file_is_named(tok, tmp_path, layout, name, what) -> None:
    folder = published(tmp_path / "t", tok, **LAYOUTS[layout])
    if name == "added_tokens.json":
        (folder / name).write_text(json.dumps({"<x>": tok.size}))
    raw = (folder / name).read_bytes()
    (folder / name).unlink()
    if what == "folder":
        (folder / name).mkdir()
    elif what != "missing":
        (folder / name).write_bytes(BROKEN[what](raw))
    if what == "missing" and name.split(".")[0] in ("tokenizer_config", "special_tokens_map", "added_tokens"):
        assert Tokenizer.load(folder).ids("cat")  # these three need not be there
        return
    if (name, what) == ("tokenizer.json", "missing"):
        name = "vocab.json"  # what is then looked for
    with pytest.raises(BadInput, match=name) as e:
        Tokenizer.load(folder)
    assert "\n" not in str(e.value) and len(str(e.value)) < 400 + len(str(folder))


@pytest.mark.parametrize(
    "name", ["vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
)
def test_a_flipped_bit_is_named_or_makes_another_tokenizer(tok, tmp_path, name):
    folder = published(tmp_path / "t", tok, whole=name == "tokenizer.json")
    raw, rnd, named = (folder / name).read_bytes(), random.Random(0), 0
    for _ in range(60):
        i = rnd.randrange(len(raw))
        (folder / name).write_bytes(raw[:i] + bytes([raw[i] ^ 1 << rnd.randrange(8)]) + raw[i + 1 :])
        try:
            Tokenizer.load(folder).ids("a cat, 12!")
        except BadInput as e:
            assert name in str(e) or (
                name == "special_tokens_map.json" and "vocab.json" in str(e)
            )  # it names a token that is not there
            named += 1
    assert named > 5


def _change(**new):
    return lambda d: d.update(new)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("vocab.json", _change(cat=5), "each once"),
        ("vocab.json", _change(**{"!": True}), "each once"),
        ("vocab.json", _change(**{"!": "0"}), "each once"),
        ("vocab.json", lambda d: d.pop("!"), "each once"),
        ("vocab.json", lambda d: d.clear(), "no vocabulary"),
        ("vocab.json", lambda d: d.update({"<|other|>": d.pop(EOS)}), "endoftext"),
        ("special_tokens_map.json", _change(pad_token="<pad>"), "pad_token '<pad>' is not in the vocabulary"),
        ("special_tokens_map.json", _change(bos_token=7), "bos_token.*must be a text"),
        ("special_tokens_map.json", _change(eos_token={}), "eos_token.*must be"),
        ("tokenizer_config.json", _change(model_max_length=2), "model_max_length"),
        ("tokenizer_config.json", _change(model_max_length="77"), "model_max"),
        ("tokenizer_config.json", _change(tokenizer_class="T5Tokenizer"), "CLIPTokenizer.*T5Tokenizer"),
        (
            "tokenizer_config.json",
            _change(added_tokens_decoder={"900": {"content": "<x>"}}),
            "900.*asks for 700",
        ),
        (
            "tokenizer_config.json",
            _change(added_tokens_decoder={"a": {"content": "<x>"}}),
            "added_tokens_decoder",
        ),
        ("tokenizer_config.json", _change(added_tokens_decoder=[1]), "added_tokens_decoder"),
    ],
)
def test_what_does_not_fit_is_said(tok, tmp_path, name, change, said):
    folder = published(tmp_path / "t", tok)
    d = json.loads((folder / name).read_text())
    change(d)
    (folder / name).write_text(json.dumps(d))
    with pytest.raises(BadInput, match=said) as e:
        Tokenizer.load(folder)
    assert str(folder) in str(e.value)


@pytest.mark.parametrize("line", ["a", "a b c", "a  b", "qqq x", "a qqq", "z q</w>"])
def test_a_merge_outside_the_vocabulary_is_told_by_line(tok, tmp_path, line):
    folder = published(tmp_path / "t", tok)
    with open(folder / "merges.txt", "a", encoding="utf-8") as f:
        f.write(line + "\n")
    with pytest.raises(BadInput, match=rf"merges\.txt.*merge {len(tok.merges) + 2}"):
        Tokenizer.load(folder)


def test_no_folder_and_no_room(tok, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(BadInput, match="is not a folder"):
            Tokenizer.load(path)
    with pytest.raises(BadInput, match="cannot write"):
        tok.save(tmp_path / "file")
