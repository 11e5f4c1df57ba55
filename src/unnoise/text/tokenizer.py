"""CLIP's byte-pair tokenizer: text to ids and back, in the files that published Stable Diffusion folders carry.

Text is put in NFC, runs of white space become one space, letters become lower case; it is cut into the special tokens, the English
contractions, runs of letters, single digits and runs of other signs; each piece is written in bytes (one sign a byte, so that
nothing is unknown) with "</w>" on its last one; then the pairs of merges.txt are joined, the first in the list first.

    tokenizer.json                                the whole (read first where it is there), or
    vocab.json + merges.txt                       token -> id, and the pairs in order
    tokenizer_config.json, special_tokens_map.json, added_tokens.json    special tokens, their flags, model_max_length

The vocabulary's order is the published one: 256 bytes, the same with "</w>", the merges' products, then <|startoftext|> and
<|endoftext|>. Stable Diffusion 1.x fills up with <|endoftext|>, 2.x with "!" (id 0).
"""
from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Engine
from tokenizers.models import BPE

from unnoise.base.write import put
from unnoise.errors import BadInput

BOS, EOS, END = "<|startoftext|>", "<|endoftext|>", "</w>"
LENGTH = 77  # CLIP's context, where the files name none
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")
_PIECES = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Chunk(NamedTuple):
    """What the text encoder sees at once: `length` ids with their own start, end and padding, and the weight of each."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    count: int  # how many of them are the prompt's, after the start


class Tokenizer:
    """A vocabulary with its merges and special tokens. Make one with `load` or `train`; it does not change afterwards."""

    def __init__(self, vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], named: Mapping[str, AddedToken] | None = None,
                 added: Sequence[AddedToken] = (), length: int = LENGTH):
        """named: the special tokens by their key in the files; added: further tokens matched whole in the text, in order of id.

        BadInput: a special token is outside the vocabulary.
        """
        self.named = {k: _special({"bos_token": BOS}.get(k, EOS)) for k in _NAMED} | dict(named or {})
        self.vocab, self.merges, self.added, self.length = dict(vocab), list(merges), tuple(added), length
        known = [t.content for t in self.added]
        for key, token in self.named.items():
            if token.content in self.vocab or token.content in known: continue
            raise BadInput(f"the {key} {token.content!r} is not in the vocabulary of {len(self.vocab) + len(known)} tokens")
        self._engine = _engine(self.vocab, self.merges, self.named, self.added)
        self.bos, self.eos, _, self.pad = (self._engine.token_to_id(self.named[k].content) or 0 for k in _NAMED)

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
        try: return self._engine.encode(text, add_special_tokens=False)
        except (TypeError, UnicodeEncodeError): raise BadInput(f"a prompt must be a text of valid Unicode, given {text!r:.80}") from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids: lower case, words parted by one space. Special tokens are shown. BadInput for ids outside the vocabulary."""
        ids = [int(i) for i in ids]
        for i in ids:
            if not 0 <= i < self.size: raise BadInput(f"id {i} is outside the vocabulary (0 to {self.size - 1})")
        return self._engine.decode(ids, skip_special_tokens=False).replace(END, " ").strip()

    def name(self, i: int) -> str:
        """The token of an id."""
        return str(self._engine.id_to_token(i))

    def chunks(self, segments: Iterable[tuple[str, float]] = ()) -> list[Chunk]:
        """Weighted texts cut into chunks of `length` - 2 tokens, every token in one of them, in order; at least one chunk.

        An empty text starts a new chunk (see `prompts.BREAK`); chunks without tokens are not made, but for the empty prompt's.
        """
        rows: list[list[tuple[int, float]]] = [[]]
        for text, weight in segments:
            if not text: rows.append([])
            for i in self.ids(text):
                if len(rows[-1]) == self.length - 2: rows.append([])
                rows[-1].append((i, weight))
        return [self._chunk(row) for row in rows if row] or [self._chunk([])]

    def _chunk(self, row: list[tuple[int, float]]) -> Chunk:
        fill = self.length - 2 - len(row)
        ids, weights = [i for i, _ in row], [w for _, w in row]
        return Chunk((self.bos, *ids, self.eos, *[self.pad] * fill), (1.0, *weights, 1.0, *[1.0] * fill), len(row))

    def add(self, token: str) -> Tokenizer:
        """A copy with one more token, matched whole in any text, whose id is this one's `size`. BadInput: it is there already, or empty."""
        if not token.strip() or self._engine.token_to_id(token) is not None: raise BadInput(f"{token!r} is empty or a token already")
        new = AddedToken(token, normalized=False)
        return Tokenizer(self.vocab, self.merges, self.named, (*self.added, new), self.length)

    # --- files ------------------------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, folder: str | os.PathLike) -> Tokenizer:
        """The tokenizer of a folder. BadInput names the file that is missing or broken, and what is wrong with it."""
        folder = Path(folder)
        if not folder.is_dir(): raise BadInput(f"{folder} is not a folder: a tokenizer is one with vocab.json and merges.txt, or tokenizer.json")
        whole = folder / "tokenizer.json"
        if whole.exists(): vocab, merges, added = _whole(whole)
        else:
            source, pairs = folder / "vocab.json", folder / "merges.txt"
            vocab, added = _vocab(_json(source), source), {}
            merges = _merges([l for l in _text(pairs).replace("\r\n", "\n").split("\n") if l], vocab, pairs, source)
        config = _json(folder / "tokenizer_config.json", optional=True)
        _refuse_others(config, folder / "tokenizer_config.json")
        length = _length(config.get("model_max_length"), folder / "tokenizer_config.json")
        named, added = _specials(config, added, folder)
        try: return cls(vocab, merges, named, _new(vocab, added, folder), length)
        except BadInput as e: raise BadInput(f"{whole if whole.exists() else folder / 'vocab.json'}: {e}") from None
        except Exception as e: raise BadInput(f"{folder}: its files do not make a tokenizer: {' '.join(str(e).split())[:200]}") from None

    def save(self, folder: str | os.PathLike) -> Path:
        """Write the folder's files, each whole or not at all; returns its path. BadInput when that is not possible."""
        folder = Path(folder)
        tokens = self._engine.get_added_tokens_decoder()
        config = {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": self.length,
                  "tokenizer_class": "CLIPTokenizer", **{k: t.content for k, t in self.named.items()},
                  "added_tokens_decoder": {str(i): _flags(t) for i, t in sorted(tokens.items())}}
        named = {k: {f: v for f, v in _flags(t).items() if f != "special"} for k, t in self.named.items()}
        files = {"vocab.json": json.dumps(self.vocab, ensure_ascii=False), "merges.txt": _merges_text(self.merges),
                 "tokenizer_config.json": json.dumps(config, indent=2),
                 "special_tokens_map.json": json.dumps(named, indent=2), "tokenizer.json": self._engine.to_str()}
        for name, text in files.items():
            put(folder / name, text.encode())
        return folder

    @classmethod
    def train(cls, texts: Iterable[str], size: int, length: int = LENGTH) -> Tokenizer:
        """A new tokenizer of at most `size` tokens (fewer where the texts have no more pairs), the same for the same texts.

        BadInput: `size` leaves no room for the 512 bytes and the two special tokens.
        """
        if size < 514: raise BadInput(f"a vocabulary needs 514 tokens (256 bytes, twice, and 2 special ones) or more, given {size}")
        letters = [*_alphabet(), *(a + END for a in _alphabet())]
        engine = _engine({}, [], {}, ())
        # the letters are given as special tokens for the sake of fixed ids: ties between pairs go by them, and else by chance
        trainer = trainers.BpeTrainer(vocab_size=size - 2, show_progress=False, special_tokens=letters, end_of_word_suffix=END)
        engine.train_from_iterator(iter(texts), trainer)
        merges = [(a, b) for a, b in json.loads(engine.to_str())["model"]["merges"]]
        vocab = {t: i for i, t in enumerate(dict.fromkeys([*letters, *(a + b for a, b in merges)]))}
        for token in (BOS, EOS): vocab[token] = len(vocab)
        return cls(vocab, merges, length=length)


def _engine(vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], named: Mapping[str, AddedToken], added: Sequence[AddedToken]) -> Engine:
    """The tokenizers library put together as CLIP's tokenizer."""
    unk = named["unk_token"].content if named else None
    model = BPE(dict(vocab), list(merges), unk_token=unk, end_of_word_suffix=END, continuing_subword_prefix="", fuse_unk=False)
    engine = Engine(model)
    engine.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    engine.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True),
                                                    pre_tokenizers.ByteLevel(add_prefix_space=False)])
    engine.decoder = decoders.ByteLevel()
    # of a token named twice (end and padding are the same in SD 1.x) the later one's flags hold, of an added one its own: as transformers has it
    listed = {t.content for t in added}
    engine.add_tokens([*added, *(t for t in named.values() if t.content not in listed)])
    if named:
        eos, bos = ((named[k].content, engine.token_to_id(named[k].content)) for k in ("eos_token", "bos_token"))
        engine.post_processor = processors.RobertaProcessing(eos, bos, trim_offsets=False, add_prefix_space=False)  # type: ignore[arg-type]
    return engine


def _alphabet() -> list[str]:
    """The signs of the 256 bytes in the published order: printable bytes as themselves, then the others as U+0100, U+0101, …"""
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _special(value: Any, special: bool = True) -> AddedToken:
    """A special token from the files: its text, or an object with its flags. Raises TypeError or KeyError for anything else."""
    if isinstance(value, str): return AddedToken(value, special=special)
    flags = {k: bool(value[k]) for k in ("single_word", "lstrip", "rstrip", "normalized") if k in value}
    if not isinstance(value["content"], str): raise TypeError("content must be a text")
    return AddedToken(value["content"], special=bool(value.get("special", special)), **flags)


def _flags(token: AddedToken) -> dict:
    keys = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    return {k: getattr(token, k) for k in keys}


# --- reading and checking ---------------------------------------------------------------------------------------------------

def _text(path: Path) -> str:
    try: return path.read_bytes().decode("utf-8")
    except FileNotFoundError: raise BadInput(f"{path} is missing") from None
    except OSError as e: raise BadInput(f"cannot read {path}: {e.strerror}") from e
    except UnicodeDecodeError: raise BadInput(f"{path} is damaged: it is not UTF-8 text") from None


def _json(path: Path, optional: bool = False) -> dict:
    if optional and not path.exists(): return {}
    try: d = json.loads(_text(path))
    except BadInput: raise
    except (ValueError, RecursionError): raise BadInput(f"{path} is damaged: it is not valid JSON") from None
    if not isinstance(d, dict): raise BadInput(f"{path} must hold a JSON object, it holds {type(d).__name__}")
    return d


def _vocab(vocab: Any, path: Path) -> dict[str, int]:
    """token -> id, whose ids must be 0 … n - 1, each once."""
    if not isinstance(vocab, dict) or not vocab: raise BadInput(f"{path} holds no vocabulary (token to id)")
    if not all(type(i) is int for i in vocab.values()) or set(vocab.values()) != set(range(len(vocab))):
        raise BadInput(f"{path} is damaged: the ids of its {len(vocab)} tokens must be 0 to {len(vocab) - 1}, each once")
    return vocab


def _merges(lines: Any, vocab: dict[str, int], path: Path, source: Path) -> list[tuple[str, str]]:
    """Pairs of tokens; both, and what they make, must be in the vocabulary."""
    if not isinstance(lines, list): raise BadInput(f"{path} holds no list of merges")
    merges = []
    for n, line in enumerate(lines, 1):
        pair = line.split(" ") if isinstance(line, str) else line
        fault = _fault(pair, vocab)  # 50 000 times: the messages are made afterwards
        if fault is None: merges.append((pair[0], pair[1]))
        elif isinstance(line, str) and line.startswith("#version"): continue
        else: raise BadInput(f"{path if path == source else f'{path} or {source.name}'} is damaged: merge {n} ({str(line)[:60]!r}) {fault}")
    return merges


def _fault(pair: Any, vocab: dict[str, int]) -> str | None:
    if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str) or not isinstance(pair[1], str): return "must be two tokens"
    a, b = pair
    if a in vocab and b in vocab and a + b in vocab: return None
    return f"asks for {next(p for p in (a, b, a + b) if p not in vocab)[:60]!r}, which is not in the vocabulary"


def _merges_text(merges: Sequence[tuple[str, str]]) -> str:
    return "\n".join(["#version: 0.2", *(f"{a} {b}" for a, b in merges)]) + "\n"


def _whole(path: Path) -> tuple[dict[str, int], list[tuple[str, str]], dict[int, AddedToken]]:
    """Vocabulary, merges and added tokens of a tokenizer.json."""
    d = _json(path)
    model, added = d.get("model"), d.get("added_tokens", [])
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or model.get("end_of_word_suffix", END) != END:
        raise BadInput(f"{path} is not CLIP's byte-pair tokenizer, the one that is supported")
    vocab = _vocab(model.get("vocab"), path)
    if not isinstance(added, list): raise BadInput(f"{path}: added_tokens must be a list")
    return vocab, _merges(model.get("merges"), vocab, path, path), _numbered(((t["id"], t) for t in added), path)


def _numbered(pairs: Iterable[tuple[Any, Any]], path: Path) -> dict[int, AddedToken]:
    try: return {int(i): _special(t, special=False) for i, t in pairs}
    except (TypeError, KeyError, ValueError, AttributeError): raise BadInput(f"{path} is damaged: its added tokens must be id and content") from None


def _refuse_others(config: dict, path: Path) -> None:
    kind = config.get("tokenizer_class") or "CLIPTokenizer"
    if kind in ("CLIPTokenizer", "CLIPTokenizerFast"): return
    raise BadInput(f"{path}: tokenizer_class {kind!r:.60} is not supported (accepted: CLIPTokenizer)")


def _length(given: Any, path: Path) -> int:
    """model_max_length; 77 where it is not given, or given as the huge number that stands for "not given"."""
    if given is None or (isinstance(given, (int, float)) and given > 100_000): return LENGTH
    if type(given) is not int or given < 3: raise BadInput(f"{path}: model_max_length must be a whole number of at least 3, given {given!r:.40}")
    return given


def _specials(config: dict, added: dict[int, AddedToken], folder: Path) -> tuple[dict[str, AddedToken], dict[int, AddedToken]]:
    """The named special tokens, and the added ones by id.

    added_tokens_decoder in tokenizer_config.json is the newer place and says all; without it special_tokens_map.json goes before
    tokenizer_config.json, as transformers reads them (in SD 2.x the two name different padding).
    """
    path, above, late = (folder / n for n in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"))
    decoder, over = config.get("added_tokens_decoder"), {}
    if decoder is None: over = {k: v for k, v in _json(above, optional=True).items() if k in _NAMED}
    elif not isinstance(decoder, dict): raise BadInput(f"{path}: added_tokens_decoder must be an object")
    named: dict[str, AddedToken] = {}
    for k, value in {**config, **over}.items():
        if k not in _NAMED or value is None: continue
        try: named[k] = _special(value)
        except (TypeError, KeyError): raise BadInput(f"{above if k in over else path}: {k} must be a text, given {value!r:.60}") from None
    if decoder is not None: added = _numbered(decoder.items(), path)
    else:
        special = {t.content for t in named.values()}
        listed = ((i, {"content": t, "normalized": t not in special, "special": t in special}) for t, i in _json(late, optional=True).items())
        added = {**_numbered(listed, late), **added}
    flags: dict[str, AddedToken] = {t.content: t for t in added.values()}
    return {k: flags.get(t.content, t) for k, t in named.items()}, added


def _new(vocab: dict[str, int], added: dict[int, AddedToken], folder: Path) -> list[AddedToken]:
    """The added tokens in order of id; an id must be the vocabulary's own for that token, or the next free one."""
    size = len(vocab)
    for i, token in sorted(added.items()):
        expect = vocab.get(token.content, size)
        if i != expect: raise BadInput(f"{folder}: the added token {token.content[:60]!r} has id {i}, the vocabulary asks for {expect}")
        size += token.content not in vocab
    return [t for _, t in sorted(added.items())]
