"""Writing into a model folder: part by part, beside whatever else lies there, so that it can stop anywhere.

    1  every new file is written whole into `.unnoise-save-<random>/` inside the folder: the old model is
       still all there
    2  model_index.json becomes the new one, with the name of that folder under "_saving": from here on the
       model is the new one
    3  each file is renamed to its place; other weight files of the same part go (their shards would be read
       in its stead)
    4  model_index.json once more, without "_saving"

A process that ends in 1 leaves the old model. One that ends in 2 to 4 leaves an index that says so: `finish`
does what is left, when the folder is next read or written. Files that are not of the model (a README, .git/,
lora/, samples/) are never touched, and links are followed. Savers of one folder take turns (`base.lock`).
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from unnoise.base import lock, read, write
from unnoise.base.errors import BadInput
from unnoise.base.read import StrPath

INDEX = "model_index.json"
SAVING = "_saving"
KNOWN = "known.json"
WAIT = 60.0  # seconds that a saver waits for another one
Content = (
    bytes | Callable[[Path], Any]
)  # of a file; or what writes the file, or the folder, that it is given the path of
_STAGE = re.compile(r"\.unnoise-save-[0-9a-f]{12}")
_PART = re.compile(r"\.model_index\.json\.[0-9a-f]{12}\.part")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HARMLESS = re.compile(
    r"\..*|README\.md|LICENSE(\.\w+)?"
)  # what a folder may hold that becomes a model folder


def model_folder(folder: StrPath) -> Path:
    """The path, where a model may be written: a model folder, an empty one or one that is not there yet.
    BadInput: something else.
    """
    if not os.fspath(folder):
        raise BadInput("no folder is given to save to: the path is empty ('.' is this folder)")
    path = Path(folder)
    read.resolved(path)
    if not os.path.lexists(path) or os.path.lexists(path / INDEX):
        return path
    if not os.path.isdir(path):
        raise BadInput(f"{path} is no folder: a model folder, an empty or a new one is accepted")
    if any(not _HARMLESS.fullmatch(name) for name in _names(path)):
        raise BadInput(f"{path} exists and is not a model folder: it is left as it is")
    return path


def write_folder(folder: StrPath, files: Mapping[str, Content], index: dict) -> Path:
    """Write a model's files (names with "/" below the folder) and its index, with the sha256 of them all;
    returns the path.

    BadInput: not a folder for a model (see `model_folder`), or the system refuses; then the model that was
    there is still whole.
    """
    path = model_folder(folder)
    with _made(path), lock.alone(path, "saving a model", WAIT):
        _finish(path)
        stage = path / f".unnoise-save-{secrets.token_hex(6)}"
        try:
            names = _staged(stage, files)
            whole = {**index, "_sha256": {n: _sha256(stage / n) for n in names if n != "README.md"}}
            write.put(path / INDEX, _json({**whole, SAVING: stage.name}))
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        _finish(path)
    return path


def finish(folder: Path) -> None:
    """Complete a save that was interrupted after its last file was written, if there is one. BadInput: it
    cannot be completed.

    This is done for a folder that is only read, whoever made it: here no link is followed, and nothing
    outside of it is written.
    """
    if not _begun(folder / INDEX):
        return
    with lock.alone(folder, "completing a save", WAIT):
        _finish(folder, inside=True)


def _finish(folder: Path, inside: bool = False) -> None:
    """Steps 3 and 4, where there is such a save; then nothing of any other is left. The lock is held."""
    index = folder / INDEX
    stage = _begun(index)
    if stage:
        staged = folder / stage
        found = (
            sorted(p for p in staged.rglob("*") if p.is_file() and not p.is_symlink())
            if staged.is_dir()
            else []
        )
        for p in found:
            _place(p, folder / p.relative_to(staged), folder if inside else None)
        whole = read.object_file(index)
        hashes = whole.get("_sha256")
        _superseded(folder, set(hashes) if isinstance(hashes, dict) else set())
        if isinstance(hashes, dict) and KNOWN not in hashes and not os.path.isdir(folder / KNOWN):
            (folder / KNOWN).unlink(missing_ok=True)  # the words of the model that was there
        write.put(index, _json({k: v for k, v in whole.items() if k != SAVING}))
    for name in _names(folder):  # what savers left that were killed: they held the lock that we hold now
        if _STAGE.fullmatch(name) and not (folder / name).is_symlink():
            shutil.rmtree(folder / name, ignore_errors=True)
        elif _PART.fullmatch(name):
            with suppress(OSError):
                (folder / name).unlink()


def _begun(index: Path) -> str | None:
    """The name of the folder that a save is to be completed from; None too for an index that cannot be
    read.
    """
    if not os.path.isfile(index):
        return None
    try:
        name = read.object_file(index).get(SAVING)
    except BadInput:
        return None
    return name if isinstance(name, str) and _STAGE.fullmatch(name) else None


@contextmanager
def _made(path: Path) -> Iterator[None]:
    """The folder and those above it are there inside; those that were made for it and stayed empty are gone
    after an error.
    """
    missing = [p for p in (path, *path.parents) if not os.path.lexists(p)]
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as e:
        for p in missing:
            with suppress(OSError):
                p.rmdir()
        if isinstance(e, OSError) or type(e).__name__ == "SafetensorError":
            raise BadInput(f"cannot write {path}: {getattr(e, 'strerror', None) or e}") from e
        raise


def _staged(stage: Path, files: Mapping[str, Content]) -> list[str]:
    """Write all files below `stage`, onto the disk; returns their names."""
    stage.mkdir()
    for name, content in files.items():
        if isinstance(content, bytes):
            write.put(stage / name, content)
        elif "." in Path(name).name:
            with write.new_file(stage / name) as part:
                content(part)
        else:
            content(stage / name)
    for p in stage.rglob("*"):
        write.flush(p)
    return sorted(str(p.relative_to(stage)) for p in stage.rglob("*") if p.is_file())


def _place(staged: Path, final: Path, inside: Path | None = None) -> None:
    """Rename a file to its place. A link there is followed, but not into a store that names its files by
    their content.

    inside: the folder that nothing may be written outside of; no link to a file is followed then.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    target = Path(os.path.realpath(final))
    if final.is_symlink() and (inside or _DIGEST.fullmatch(target.name)):
        target = final
    if inside and not Path(os.path.realpath(final.parent)).is_relative_to(os.path.realpath(inside)):
        raise BadInput(
            f"a save into {inside} was interrupted, and {final.parent} leads out of it: save the model once"
            " more"
        )
    if target.is_dir():
        raise BadInput(f"cannot write {final}: it is a folder, a file is to lie there")
    try:
        os.replace(staged, target)
    except OSError as e:
        if e.errno != errno.EXDEV:
            raise
        with write.new_file(target) as part:  # the link leads to another disk
            shutil.copyfile(staged, part)
        staged.unlink()
    write.flush(target.parent)


def _superseded(folder: Path, kept: set[str]) -> None:
    """Remove the old weights of the parts that have new ones: variants, shards and their index, which may be
    read in their stead.
    """
    old = re.compile(
        r"(diffusion_pytorch_model|model)(\.[\w-]+|-\d+-of-\d+(\.\w+)?)?\.safetensors(\.index(\.\w+)?\.json)?"
    )
    new = {n.lower() for n in kept}  # a file system may not tell capitals apart
    for part in {n.split("/")[0] for n in kept if re.fullmatch(r"\w+/[\w.-]+\.safetensors", n)}:
        for name in _names(folder / part):
            if (
                old.fullmatch(name)
                and f"{part}/{name}".lower() not in new
                and not os.path.isdir(folder / part / name)
            ):
                with suppress(OSError):
                    (folder / part / name).unlink()


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as e:
        raise read.unreadable(folder, e, "folder") from None


def _sha256(path: Path) -> str:
    from unnoise.hub import weights

    return weights.sha256_of(path)


def _json(d: dict) -> bytes:
    return json.dumps(d, indent=2).encode() + b"\n"
