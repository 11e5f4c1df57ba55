"""The one reader of files that people give: bytes, text, JSON, JSON lines and TOML, each checked before it is
used.

Whatever a file holds, what comes of it is its content or one BadInput that names the file: no such file, a
folder, a pipe, no permission, a circle of links, too large, not UTF-8, not JSON, nested too deep, a key
twice, a value that a model does not take.
"""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from unnoise.base.errors import BadInput
from unnoise.base.text import one_line, short, sound

MOST_BYTES = 64 * 2**20  # of a file of text; the largest tokenizer files have 20 MB
MOST_DEPTH = 64  # of nested lists and objects; the deepest file of any model has 8
Model = TypeVar("Model", bound=BaseModel)
StrPath = str | os.PathLike[str]


# --- files --------------------------------------------------------------------------------------------------


def regular(path: StrPath, what: str = "file") -> os.stat_result:
    """The facts of a regular file. BadInput: there is none of that name, or it is something else (a folder, a
    pipe).
    """
    try:
        facts = os.stat(path)
    except (OSError, ValueError) as e:
        raise unreadable(path, e, what) from None
    if stat.S_ISDIR(facts.st_mode):
        raise BadInput(f"{path} is a folder: a {what} is expected")
    if not stat.S_ISREG(facts.st_mode):
        raise BadInput(f"{path} is no regular file (a pipe or a device): a {what} is expected")
    return facts


def unreadable(path: StrPath, error: Exception, what: str = "file") -> BadInput:
    """The line for a file that the system does not let us read."""
    if isinstance(error, FileNotFoundError):
        return BadInput(f"no {what} at {path}")
    if isinstance(error, IsADirectoryError):
        return BadInput(f"{path} is a folder: a {what} is expected")
    return BadInput(f"cannot read {path}: {getattr(error, 'strerror', None) or error}")


def content(path: StrPath, what: str = "file", most: int = MOST_BYTES) -> bytes:
    """All bytes of a regular file. BadInput: see `regular`; or it has more than `most` bytes."""
    size = regular(path, what).st_size
    if size > most:
        raise BadInput(f"{path} has {size} bytes: a {what} of at most {most} is accepted")
    try:
        with open(path, "rb") as f:
            return f.read(size + 1)  # not `most`: so much would be set aside at once
    except OSError as e:
        raise unreadable(path, e, what) from None


def text(path: StrPath, what: str = "file", most: int = MOST_BYTES) -> str:
    """The text of a UTF-8 file, without a byte order mark. BadInput: another encoding (says to save it as
    UTF-8).
    """
    return decoded(content(path, what, most), str(path))


def decoded(raw: bytes, where: str) -> str:
    """Bytes as UTF-8 text, without a byte order mark."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        is_16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
        why = "it looks like UTF-16" if is_16 else f"{e.reason} at byte {e.start}"
        raise BadInput(f"{where} is not UTF-8 text ({why}): save it as UTF-8") from None


# --- JSON and TOML ------------------------------------------------------------------------------------------


def parse_json(raw: bytes | str, where: str, depth: int = MOST_DEPTH, nul: bool = False) -> Any:
    """The value of a JSON text. BadInput, naming `where`: not JSON, too deep, a key twice in one object,
    unsound text in it.

    nul: texts may hold NULs, where none of them names a file.
    """
    given = decoded(raw, where) if isinstance(raw, bytes) else raw
    try:
        value = json.loads(given, object_pairs_hook=_once)
    except RecursionError:
        raise BadInput(f"{where} is nested too deep: at most {depth} levels are accepted") from None
    except ValueError as e:
        raise BadInput(f"{where} is not valid JSON: {one_line(str(e), 200)}") from None
    _check_values(value, where, depth, nul)
    return value


def parse_object(raw: bytes | str, where: str, depth: int = MOST_DEPTH, nul: bool = False) -> dict[str, Any]:
    """The same where an object is expected."""
    value = parse_json(raw, where, depth, nul)
    if not isinstance(value, dict):
        raise BadInput(f"{where} holds {short(value)}: a JSON object is expected")
    return value


def json_file(path: StrPath, what: str = "JSON file", most: int = MOST_BYTES) -> Any:
    """The value in a JSON file."""
    return parse_json(content(path, what, most), str(path))


def object_file(path: StrPath, what: str = "JSON file", most: int = MOST_BYTES) -> dict[str, Any]:
    """The object in a JSON file. BadInput: it holds something else."""
    return parse_object(content(path, what, most), str(path))


def json_lines(
    path: StrPath, what: str = "file of JSON lines", most: int = MOST_BYTES
) -> list[tuple[int, dict[str, Any]]]:
    """(line number, object) of every line that is not blank; lines end at line feeds alone, as JSON may hold
    other separators.
    """
    lines = text(path, what, most).split("\n")
    return [(n, parse_object(line, f"{path}, line {n}")) for n, line in enumerate(lines, 1) if line.strip()]


def toml_file(path: StrPath, what: str = "TOML file", most: int = 2**20) -> dict[str, Any]:
    """The tables of a TOML file."""
    given = text(path, what, most)
    try:
        value = tomllib.loads(given)
    except RecursionError:
        raise BadInput(f"{path} is nested too deep") from None
    except ValueError as e:  # tomllib.TOMLDecodeError, or an integer of too many digits
        raise BadInput(f"{path} is not valid TOML: {one_line(str(e), 200)}") from None
    _check_values(value, str(path), MOST_DEPTH)
    return value


def fit(model: type[Model], value: Any, where: str, prefix: str = "") -> Model:
    """`value` as the pydantic model. BadInput: one line that names the file and the entry, what it holds and
    what is accepted.
    """
    try:
        return model.model_validate(value)
    except ValidationError as e:
        raise BadInput(f"{where}: {explain(e, model, prefix)}") from None
    except (RecursionError, OverflowError) as e:
        raise BadInput(f"{where}: {one_line(str(e), 200)}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(k for k, _ in pairs if k in seen or seen.add(k))
        raise ValueError(f"the key {short(twice)} stands twice in one object")
    return found


def _check_values(value: Any, where: str, depth: int, nul: bool = False) -> None:
    """BadInput on too many levels, or on text that could be neither written nor named. Walks without
    recursion.
    """
    level = [value]
    for _ in range(depth + 1):
        below: list[Any] = []
        for v in level:
            if isinstance(v, dict):
                below += [*v.keys(), *v.values()]
            elif isinstance(v, list):
                below += v
            elif isinstance(v, str) and not sound(v, nul):
                raise BadInput(f"{where} holds text with a lone surrogate or a NUL: {short(v)}")
        if not below:
            return
        level = below
    raise BadInput(f"{where} is nested too deep: at most {depth} levels are accepted")


# --- what pydantic says, in one line ------------------------------------------------------------------------


def explain(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """One line on what is wrong with the values given for `model`; `prefix` is put before the names of its
    keys.

    An unknown key comes first, with the nearest known one: a key that is missing is most often the one
    misspelt.
    """
    errors = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    first = errors[0]
    names, section = _place(first["loc"], model)
    if first["type"] == "extra_forbidden":
        return unknown_key(prefix + ".".join(names), section.model_fields)
    name = prefix + ".".join(names) or "it"
    if first["type"] == "missing":
        return f"{name} is missing"
    if first["type"] == "value_error":
        return f"{name}: {first.get('ctx', {}).get('error')}"
    same = [e["msg"][:1].lower() + e["msg"][1:] for e in errors if _place(e["loc"], model)[0] == names]
    return f"{name}: {' or '.join(dict.fromkeys(same))}, given {short(first['input'])}"


def unknown_key(name: str, accepted: Iterable[str]) -> str:
    """The line for a key (dotted, with its sections) that is not among `accepted`: names the nearest, lists
    them all.
    """
    section, dot, key = name.rpartition(".")
    near = get_close_matches(key, list(accepted), n=1, cutoff=0.4)
    hint = f"; did you mean {section + dot + near[0]!r}?" if near else ""
    return f"unknown key {name!r}{hint} (accepted: {', '.join(accepted)})"


def _place(loc: tuple[int | str, ...], model: Any) -> tuple[list[str], Any]:
    """An error's keys as the user wrote them (pydantic adds a union's branch), and what the last one was
    looked up in.
    """
    names: list[str] = []
    inside = model
    for part in loc:
        fields, args, container = getattr(inside, "model_fields", None), get_args(inside), get_origin(inside)
        if fields is not None or container in (dict, list, tuple):
            names.append(str(part))
        if fields is not None:
            inside = fields[part].annotation if part in fields else inside
        elif container in (dict, list, tuple):
            inside = args[-1 if container is dict else 0]
        else:
            inside = next((a for a in args if getattr(a, "__name__", "") == part), None)
    return names, inside


def resolved(path: StrPath) -> Path:
    """The path behind links. BadInput: a circle of them, or a name that no file can have."""
    try:
        return Path(path).resolve(strict=False)
    except (OSError, RuntimeError, ValueError) as e:
        raise BadInput(
            f"{short(str(path), 200)} cannot be followed: {getattr(e, 'strerror', None) or e}"
        ) from None
