"""The one writer: a file appears under its name whole, flushed to the disk, or not at all; nothing else is
touched.

    with new_file("cat.png") as part: image.save(part)     # .cat.png.<random>.part, then renamed

Temporary names are unique, so that two processes that write one name do not write into one another's file:
the last whole one stays. Nothing is ever removed but the temporary file that this call made itself.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unnoise.base.errors import BadInput
from unnoise.base.read import StrPath


@contextmanager
def new_file(path: StrPath) -> Iterator[Path]:
    """Yields the path of an empty temporary file beside `path`; what the body has written there becomes
    `path`.

    A link at `path` is followed: what it points to is replaced. Folders on the way are made. When the body
    raises, `path` is as it was and nothing is left. BadInput: the system refuses (no space, no permission, a
    folder of that name).
    """
    final = _target(path)
    with _beside(final, path) as part:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield part
        flush(part)
        os.replace(part, final)
        flush(final.parent)


@contextmanager
def _beside(final: Path, path: StrPath) -> Iterator[Path]:
    """The name of a temporary file beside `final`, gone at the end; what the system refuses inside is told of
    `path`.
    """
    part = final.with_name(f".{final.name[:100]}.{secrets.token_hex(6)}.part")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield part
    except OSError as e:
        raise BadInput(f"cannot write {path}: {e.strerror or e}") from e
    finally:
        with suppress(OSError):
            part.unlink()


def put(path: StrPath, raw: bytes) -> Path:
    """Write `raw` as the file `path`, whole or not at all; returns the path. BadInput: see `new_file`."""
    with new_file(path) as part:
        part.write_bytes(raw)
    return Path(path)


def put_beside(path: StrPath, raw: bytes) -> Path:
    """Write `raw` as `path` where nothing lies there, else under its first free number (`free_name`); returns
    the path.

    What is there stays, whoever writes the same name at the same time. BadInput: see `new_file`.
    """
    first = _target(path) if not os.path.lexists(path) else Path(path)
    with _beside(first, path) as part:
        part.write_bytes(raw)
        flush(part)
        made = _linked(part, first)
        flush(made.parent)
        return made if made != first else Path(path)


def _linked(part: Path, first: Path) -> Path:
    """Give a whole file its name: a hard link never replaces. On file systems without links, a look and a
    rename.
    """
    while True:
        final = free_name(first)
        try:
            os.link(part, final)
            return final
        except FileExistsError:
            continue
        except OSError:
            os.replace(part, final)
            return final


def free_name(path: StrPath) -> Path:
    """`path` where nothing lies there, else the first free one of `name-2.png`, `name-3.png`, …: what is
    there stays.
    """
    first = Path(path)
    if not os.path.lexists(first):
        return first
    taken = _numbers(first)
    n = 2
    while n in taken:
        n += 1
    return first.with_name(f"{first.stem}-{n}{first.suffix}")


def flush(path: StrPath) -> None:
    """Ask the system to put a file (or a folder's entries) on the disk. A file system that knows no such
    thing is no error; a full one is.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EROFS):
            raise
    finally:
        os.close(handle)


def _target(path: StrPath) -> Path:
    try:
        final = Path(os.path.realpath(path))
        if final.is_dir() or str(path).endswith(os.sep):
            raise BadInput(f"cannot write {path}: it is a folder, a file's name is expected")
        if (
            os.path.lexists(final) and not final.is_file()
        ):  # a rename would put a file in the place of /dev/null
            raise BadInput(f"cannot write {path}: it is a device or a pipe, a file's name is expected")
    except (OSError, ValueError) as e:
        if isinstance(e, BadInput):
            raise
        raise BadInput(f"cannot write {path}: {getattr(e, 'strerror', None) or e}") from None
    return final


def _numbers(first: Path) -> set[int]:
    """The numbers n of the files `stem-n.suffix` that lie beside `first`."""
    wanted = re.compile(re.escape(first.stem) + r"-(\d{1,9})" + re.escape(first.suffix))
    try:
        names = os.listdir(first.parent)
    except OSError:
        return set()
    return {int(m[1]) for name in names if (m := wanted.fullmatch(name))}


def make_folder(path: Path) -> None:
    """Make a folder for output. BadInput when that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as e:
        raise BadInput(f"cannot write to {path}: {getattr(e, 'strerror', None) or e}") from e
