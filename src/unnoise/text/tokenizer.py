"""CLIP's byte-pair tokenizer: text to ids and back, in the files that published Stable Diffusion folders
carry.

Text is put in NFC, runs of white space become one space, letters become lower case; it is cut into the
special tokens, the English contractions, runs of letters, single digits and runs of other signs; each piece
is written in bytes (one sign a byte, so that nothing is unknown) with "</w>" on its last one; then the pairs
of merges.txt are joined, the first in the list first.

    tokenizer.json                                the whole (read first where it is there), or
    vocab.json + merges.txt                       token -> id, and the pairs in order
    tokenizer_config.json, special_tokens_map.json, added_tokens.json    special tokens, their flags,
    model_max_length

The vocabulary's order is the published one: 256 bytes, the same with "</w>", the merges' products, then
<|startoftext|> and <|endoftext|>. Stable Diffusion 1.x fills up with <|endoftext|>, 2.x with "!" (id 0).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel, field_validator
from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Engine
from tokenizers.models import BPE

from unnoise.base import read
from unnoise.base.errors import BadInput
from unnoise.base.read import fit, object_file
from unnoise.base.text import one_line, short
from unnoise.base.write import put

BOS, EOS, END = "<|startoftext|>", "<|endoftext|>", "</w>"
LENGTH = 77  # CLIP's context, where the files name none
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")
ENDS = ("eos_token", "bos_token")  # in the order in which a template takes them
_PIECES = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Chunk(NamedTuple):
    """What the text encoder sees at once: `length` ids with their own start, end and padding, and the weight
    of each.
    """

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    count: int  # how many of them are the prompt's, after the start


class Tokenizer:
    """A vocabulary with its merges and special tokens. Make one with `load` or `train`; it does not change
    afterwards.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        named: Mapping[str, AddedToken] | None = None,
        added: Sequence[AddedToken] = (),
        length: int = LENGTH,
    ):
        """named: the special tokens by their key in the files; added: further tokens matched whole in the
        text, in order of id.

        BadInput: a special token is outside the vocabulary.
        """
        self.named = {k: _special({"bos_token": BOS}.get(k, EOS)) for k in _NAMED} | dict(named or {})
        self.vocab, self.merges, self.added, self.length = dict(vocab), list(merges), tuple(added), length
        known = [t.content for t in self.added]
        for key, token in self.named.items():
            if token.content in self.vocab or token.content in known:
                continue
            raise BadInput(
                f"the {key} {token.content!r} is not in the vocabulary of {len(self.vocab) + len(known)}"
                " tokens"
            )
        self._engine = _engine(self.vocab, self.merges, self.named, self.added)
        self.bos, self.eos, _, self.pad = (
            self._engine.token_to_id(self.named[k].content) or 0 for k in _NAMED
        )

    @property
    def size(self) -> int:
        """How many tokens there are, added ones included: ids are 0 … size - 1."""
        return self._engine.get_vocab_size(with_added_tokens=True)

    def ids(self, text: str) -> list[int]:
        """The ids of a text, without start, end or padding, however many they are."""
        return self._encode(text).ids

    def tokens(self, text: str) -> list[str]:
        """The same as strings of the vocabulary ("cat</w>"; a byte is one sign)."""
        return self._encode(text).tokens

    def _encode(self, text: str):
        try:
            return self._engine.encode(text, add_special_tokens=False)
        except (TypeError, UnicodeEncodeError):
            raise BadInput(f"a prompt must be a text of valid Unicode, given {text!r:.80}") from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids: lower case, words parted by one space. Special tokens are shown. BadInput for ids
        outside the vocabulary.
        """
        ids = [int(i) for i in ids]
        for i in ids:
            if not 0 <= i < self.size:
                raise BadInput(f"id {i} is outside the vocabulary (0 to {self.size - 1})")
        return self._engine.decode(ids, skip_special_tokens=False).replace(END, " ").strip()

    def name(self, i: int) -> str:
        """The token of an id."""
        return str(self._engine.id_to_token(i))

    def chunks(self, segments: Iterable[tuple[str, float]] = ()) -> list[Chunk]:
        """Weighted texts cut into chunks of `length` - 2 tokens, every token in one of them, in order; at
        least one chunk.

        An empty text starts a new chunk (see `prompts.BREAK`); chunks without tokens are not made, but for
        the empty prompt's.
        """
        rows: list[list[tuple[int, float]]] = [[]]
        for text, weight in segments:
            if not text:
                rows.append([])
            for i in self.ids(text):
                if len(rows[-1]) == self.length - 2:
                    rows.append([])
                rows[-1].append((i, weight))
        return [self._chunk(row) for row in rows if row] or [self._chunk([])]

    def _chunk(self, row: list[tuple[int, float]]) -> Chunk:
        fill = self.length - 2 - len(row)
        ids, weights = [i for i, _ in row], [w for _, w in row]
        return Chunk(
            (self.bos, *ids, self.eos, *[self.pad] * fill), (1.0, *weights, 1.0, *[1.0] * fill), len(row)
        )

    def add(self, token: str) -> Tokenizer:
        """A copy with one more token, matched whole in any text, whose id is this one's `size`. BadInput: it
        is there already, or empty.
        """
        if not token.strip() or self._engine.token_to_id(token) is not None:
            raise BadInput(f"{token!r} is empty or a token already")
        new = AddedToken(token, normalized=False)
        return Tokenizer(self.vocab, self.merges, self.named, (*self.added, new), self.length)

    # --- files ----------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, folder: str | os.PathLike) -> Tokenizer:
        """The tokenizer of a folder. BadInput names the file that is missing or broken, and what is wrong
        with it.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise BadInput(
                f"{folder} is not a folder: a tokenizer is one with vocab.json and merges.txt, or"
                " tokenizer.json"
            )
        whole = folder / "tokenizer.json"
        if os.path.lexists(whole):
            vocab, merges, added = _whole(whole)
        else:
            vocab, merges, added = *_parted(folder / "vocab.json", folder / "merges.txt"), {}
        path = folder / "tokenizer_config.json"
        config = _optional(TokenizerConfig, path)
        length = LENGTH if config.model_max_length > 100_000 else int(config.model_max_length)
        named, added = _specials(config, added, folder)
        where = str(whole) if os.path.lexists(whole) else f"{folder / 'merges.txt'} or vocab.json"
        try:
            made = cls(vocab, merges, named, _new(vocab, added, folder), length)
        except BadInput as e:
            raise BadInput(f"{whole if os.path.lexists(whole) else folder / 'vocab.json'}: {e}") from None
        except Exception as e:
            raise BadInput(f"{folder}: its files do not make a tokenizer: {one_line(str(e), 200)}") from None
        _complete(vocab, merges, {t.content for t in (*made.named.values(), *added.values())}, where)
        return made

    def save(self, folder: str | os.PathLike) -> Path:
        """Write the folder's files, each whole or not at all; returns its path. BadInput when that is not
        possible.
        """
        folder = Path(folder)
        tokens = self._engine.get_added_tokens_decoder()
        config = {
            "add_prefix_space": False,
            "do_lower_case": True,
            "errors": "replace",
            "model_max_length": self.length,
            "tokenizer_class": "CLIPTokenizer",
            **{k: t.content for k, t in self.named.items()},
            "added_tokens_decoder": {str(i): _flags(t) for i, t in sorted(tokens.items())},
        }
        named = {k: {f: v for f, v in _flags(t).items() if f != "special"} for k, t in self.named.items()}
        files = {
            "vocab.json": json.dumps(self.vocab, ensure_ascii=False),
            "merges.txt": _merges_text(self.merges),
            "tokenizer_config.json": json.dumps(config, indent=2),
            "special_tokens_map.json": json.dumps(named, indent=2),
            "tokenizer.json": self._engine.to_str(),
        }
        for name, text in files.items():
            put(folder / name, text.encode())
        return folder

    @classmethod
    def train(cls, texts: Iterable[str], size: int, length: int = LENGTH) -> Tokenizer:
        """A new tokenizer of at most `size` tokens (fewer where the texts have no more pairs), the same for
        the same texts.

        BadInput: `size` leaves no room for the 512 bytes and the two special tokens.
        """
        if size < 514:
            raise BadInput(
                f"a vocabulary needs 514 tokens (256 bytes, twice, and 2 special ones) or more, given {size}"
            )
        letters = [*_alphabet(), *(a + END for a in _alphabet())]
        engine = _engine({}, [], {}, ())
        # the letters are given as special tokens for the sake of fixed ids: ties between pairs go by them,
        # and else by chance
        trainer = trainers.BpeTrainer(
            vocab_size=size - 2, show_progress=False, special_tokens=letters, end_of_word_suffix=END
        )
        engine.train_from_iterator(iter(texts), trainer)
        merges = [(a, b) for a, b in json.loads(engine.to_str())["model"]["merges"]]
        vocab = {t: i for i, t in enumerate(dict.fromkeys([*letters, *(a + b for a, b in merges)]))}
        for token in (BOS, EOS):
            vocab[token] = len(vocab)
        return cls(vocab, merges, length=length)


def _engine(
    vocab: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    named: Mapping[str, AddedToken],
    added: Sequence[AddedToken],
) -> Engine:
    """The tokenizers library put together as CLIP's tokenizer."""
    unk = named["unk_token"].content if named else None
    model = BPE(
        dict(vocab),
        list(merges),
        unk_token=unk,
        end_of_word_suffix=END,
        continuing_subword_prefix="",
        fuse_unk=False,
    )
    engine = Engine(model)
    engine.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    engine.decoder = decoders.ByteLevel()
    # of a token named twice (end and padding are the same in SD 1.x) the later one's flags hold, of an added
    # one its own: as transformers has it
    listed = {t.content for t in added}
    engine.add_tokens([*added, *(t for t in named.values() if t.content not in listed)])
    if named:
        ends: Any = [(named[k].content, engine.token_to_id(named[k].content)) for k in ENDS]
        engine.post_processor = processors.RobertaProcessing(
            *ends, trim_offsets=False, add_prefix_space=False
        )
    return engine


def _alphabet() -> list[str]:
    """The signs of the 256 bytes in the published order: printable bytes as themselves, then the others as
    U+0100, U+0101, …
    """
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _flags(token: AddedToken) -> dict:
    keys = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    return {k: getattr(token, k) for k in keys}


# --- the files ----------------------------------------------------------------------------------------------

MOST_TOKENS = 2_000_000
Id = Annotated[int, Field(ge=0, lt=MOST_TOKENS)]
Text = Annotated[str, Field(min_length=1, max_length=1000)]


class _File(BaseModel):
    """Other keys are for other programs."""

    model_config = ConfigDict(strict=True, extra="ignore")


class Special(_File):
    """A special or added token with its flags; in the files its text alone may stand for it."""

    content: Text
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool | None = None  # as the tokenizers library has it: not, for special tokens
    special: bool | None = None

    def token(self, special: bool) -> AddedToken:
        """special: whether it is, where the file does not say."""
        flags = {} if self.normalized is None else {"normalized": self.normalized}
        special = special if self.special is None else self.special
        return AddedToken(
            self.content,
            special=special,
            single_word=self.single_word,
            lstrip=self.lstrip,
            rstrip=self.rstrip,
            **flags,
        )


class Numbered(Special):
    """An added token of tokenizer.json."""

    id: Id


def _ids(vocab: Any) -> Any:
    """token -> id, whose ids must be 0 … n - 1, each once."""
    if not isinstance(vocab, dict) or not vocab:
        raise ValueError("there is no vocabulary (token to id)")
    if not all(type(i) is int for i in vocab.values()) or set(vocab.values()) != set(range(len(vocab))):
        raise ValueError(
            f"it is damaged: the ids of its {len(vocab)} tokens must be 0 to {len(vocab) - 1}, each once"
        )
    return vocab


def _text_or_object(value: Any) -> Any:
    if (
        value is None
        or (isinstance(value, str) and value)
        or (isinstance(value, dict) and isinstance(value.get("content"), str))
    ):
        return value
    raise ValueError(f"it must be a text, or an object with content, given {short(value)}")


Vocab = Annotated[dict[str, int], BeforeValidator(_ids)]
Named = Annotated[Text | Special | None, BeforeValidator(_text_or_object)]


class Bpe(_File):
    """The model of tokenizer.json."""

    type: Literal["BPE"] = "BPE"
    vocab: Vocab
    merges: list[str | list[str]]
    end_of_word_suffix: Literal["</w>"] | None = END


class Whole(_File):
    """tokenizer.json."""

    model: Bpe
    added_tokens: list[Numbered] = Field(default=[], max_length=MOST_TOKENS)


class Vocabulary(RootModel[Vocab]):
    """vocab.json."""


class AddedTokens(RootModel[dict[Text, Id]]):
    """added_tokens.json: token -> id."""

    model_config = ConfigDict(strict=True)


class SpecialTokens(_File):
    """special_tokens_map.json."""

    bos_token: Named = None
    eos_token: Named = None
    unk_token: Named = None
    pad_token: Named = None


class TokenizerConfig(SpecialTokens):
    """tokenizer_config.json. model_max_length may be a huge number that stands for "not given"."""

    tokenizer_class: Literal["CLIPTokenizer", "CLIPTokenizerFast"] | None = None
    model_max_length: (
        Annotated[int, Field(ge=3)] | Annotated[float, Field(ge=100_000, allow_inf_nan=True)]
    ) = LENGTH
    added_tokens_decoder: dict[Annotated[str, Field(pattern=r"^[0-9]{1,7}$")], Special] | None = None

    @field_validator("model_max_length", mode="before")
    @classmethod
    def _given(cls, value: Any) -> Any:
        return LENGTH if value is None else value


Read = TypeVar("Read", bound=BaseModel)


def _optional(model: type[Read], path: Path) -> Read:
    """What an object file holds; all defaults where there is none."""
    return fit(model, object_file(path) if os.path.lexists(path) else {}, str(path))


def _special(value: str | Special, special: bool = True) -> AddedToken:
    return AddedToken(value, special=special) if isinstance(value, str) else value.token(special)


def _whole(path: Path) -> tuple[dict[str, int], list[tuple[str, str]], dict[int, AddedToken]]:
    """Vocabulary, merges and added tokens of a tokenizer.json."""
    d = object_file(path)
    try:
        given = fit(Whole, d, str(path))
    except BadInput as e:
        raise BadInput(f"{e} (it must be CLIP's byte-pair tokenizer, the one that is supported)") from None
    return (
        given.model.vocab,
        _merges(given.model.merges, given.model.vocab, path, path),
        {t.id: t.token(special=False) for t in given.added_tokens},
    )


def _parted(source: Path, pairs: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of vocab.json and merges.txt."""
    vocab = fit(Vocabulary, object_file(source), str(source)).root
    lines = [line.removesuffix("\r") for line in read.text(pairs).split("\n")]
    return vocab, _merges([line for line in lines if line], vocab, pairs, source)


def _merges(
    lines: Sequence[str | list[str]], vocab: dict[str, int], path: Path, source: Path
) -> list[tuple[str, str]]:
    """Pairs of tokens; both, and what they make, must be in the vocabulary."""
    merges = []
    for n, line in enumerate(lines, 1):
        pair = line.split(" ") if isinstance(line, str) else line
        fault = _fault(pair, vocab)  # 50 000 times: the messages are made afterwards
        if fault is None:
            merges.append((pair[0], pair[1]))
        elif not (isinstance(line, str) and line.startswith("#version")):
            where = path if path == source else f"{path} or {source.name}"
            raise BadInput(f"{where} is damaged: merge {n} ({short(' '.join(pair)[:60])}) {fault}")
    return merges


def _fault(pair: list[str], vocab: dict[str, int]) -> str | None:
    if len(pair) != 2:
        return "must be two tokens"
    a, b = pair
    if a in vocab and b in vocab and a + b in vocab:
        return None
    return (
        f"asks for {short(next(p for p in (a, b, a + b) if p not in vocab))}, which is not in the vocabulary"
    )


def _complete(vocab: dict[str, int], merges: list[tuple[str, str]], special: set[str], where: str) -> None:
    """BadInput unless the merges are those that the vocabulary was made by: all of them, once each, in its
    order.

    Every token is a letter (of 256 bytes, or the same at a word's end), a special one, or what a merge makes.
    Where merges are missing each prompt would be read otherwise, in smaller pieces that the text encoder has
    never seen.
    """
    if len(set(merges)) != len(merges):
        raise BadInput(
            f"{where} is damaged: {len(merges) - len(set(merges))} of its {len(merges)} merges stand there"
            " twice"
        )
    letters = {*_alphabet(), *(a + END for a in _alphabet()), *special, BOS, EOS}
    made = list(dict.fromkeys(a + b for a, b in merges))
    missing = [t for t in vocab if t not in letters and len(t.removesuffix(END)) > 1]
    absent = set(missing).difference(made)
    if absent:
        raise BadInput(
            f"{where} is damaged: there are {len(merges)} merges, the vocabulary of {len(vocab)} tokens asks"
            f" for {len(merges) + len(absent)}: none makes {short(min(absent, key=vocab.__getitem__))} (is"
            " the file cut, or are its line ends gone?)"
        )
    ids = [vocab[t] for t in made]
    if any(a > b for a, b in pairwise(ids)):
        raise BadInput(
            f"{where} is damaged: its merges are not in the vocabulary's order, which says which pairs are"
            " joined first"
        )


def _merges_text(merges: Sequence[tuple[str, str]]) -> str:
    return "\n".join(["#version: 0.2", *(f"{a} {b}" for a, b in merges)]) + "\n"


def _specials(
    config: TokenizerConfig, added: dict[int, AddedToken], folder: Path
) -> tuple[dict[str, AddedToken], dict[int, AddedToken]]:
    """The named special tokens, and the added ones by id.

    added_tokens_decoder in tokenizer_config.json is the newer place and says all; without it
    special_tokens_map.json goes before tokenizer_config.json, as transformers reads them (in SD 2.x the two
    name different padding).
    """
    decoder = config.added_tokens_decoder
    above = (
        SpecialTokens()
        if decoder is not None
        else _optional(SpecialTokens, folder / "special_tokens_map.json")
    )
    values = {k: getattr(above, k) if k in above.model_fields_set else getattr(config, k) for k in _NAMED}
    named = {k: _special(v) for k, v in values.items() if v is not None}
    if decoder is not None:
        added = {int(i): t.token(special=False) for i, t in decoder.items()}  # the added tokens, by their id
    else:
        special = {t.content for t in named.values()}
        late = _optional(AddedTokens, folder / "added_tokens.json").root
        added = {
            **{i: AddedToken(t, normalized=t not in special, special=t in special) for t, i in late.items()},
            **added,
        }
    flags: dict[str, AddedToken] = {t.content: t for t in added.values()}
    return {k: flags.get(t.content, t) for k, t in named.items()}, added


def _new(vocab: dict[str, int], added: dict[int, AddedToken], folder: Path) -> list[AddedToken]:
    """The added tokens in order of id; an id must be the vocabulary's own for that token, or the next free
    one.
    """
    size = len(vocab)
    for i, token in sorted(added.items()):
        expect = vocab.get(token.content, size)
        if i != expect:
            raise BadInput(
                f"{folder}: the added token {short(token.content)} has id {i}, the vocabulary asks for"
                f" {expect}"
            )
        size += token.content not in vocab
    return [t for _, t in sorted(added.items())]
