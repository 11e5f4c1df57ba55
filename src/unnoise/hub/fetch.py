"""Fetch a Stable Diffusion folder from a model hub: the only place of the hub room that opens a connection.

    <home>/models/owner/model/            the folder, whole and verified; `unnoise.json` lists commit, sizes
                                          and sha256
    <home>/models/owner/.model.part/      work in progress: <digest> a verified file, <digest>.part one that
                                          goes on where it stopped

<home> is $UNNOISE_CACHE, else ~/.cache/unnoise. `huggingface_hub` says what a repository holds at which
commit; the bytes come through plain ranged requests to that commit's addresses. Its own downloader is not
used: it compares no hash, leaves a cache folder of its own inside the model's, and takes a second protocol
without ranges where an extra package is installed. The listing's digests are believed, nothing else: a file
is that content or it is refused, whatever ETag, length or type it came with. As work in progress is named by
digest, a branch that moves between two attempts costs only the files that changed.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from unnoise.base import lock, read
from unnoise.base.errors import BadInput, unknown
from unnoise.base.version import VERSION
from unnoise.base.write import new_file, put
from unnoise.hub.index import Index, Manifest

MANIFEST = "unnoise.json"
STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
MARGIN = 64 * 2**20  # bytes that must stay free on the disk
TRIES, PAUSE = 5, 1.0  # attempts without one new byte; seconds before the first of them, doubled each time
TIMEOUT, CHUNK = 30, 2**18
_SMALL = re.compile(
    r"model_index\.json|README\.md|LICENSE(\.\w+)?|(unet|vae|text_encoder)/config\.json|scheduler/scheduler_config\.json"
    r"|tokenizer/((vocab|tokenizer|tokenizer_config|special_tokens_map|added_tokens)\.json|merges\.txt)"
)
_ID = re.compile(r"(?!.*\.\.)\w[\w.-]*/\w[\w.-]*", re.ASCII)
_DIGEST = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
Report = Callable[[str, int, int], None]  # (file, bytes of all files that are here, bytes of all files)


@dataclass(frozen=True)
class File:
    """A file of a repository: its digest is a sha256 (64 letters) or, for small files, git's sha1 of the
    content (40).
    """

    name: str
    size: int
    digest: str


@dataclass(frozen=True)
class Plan:
    """What a fetch would bring: the files of one commit. `variant` is None for plain weights."""

    name: str
    commit: str
    revision: str
    variant: str | None
    files: tuple[File, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(f.size for f in self.files)


@dataclass(frozen=True)
class Fetched:
    """A model that is here: its folder, its manifest, and how many bytes came through the network for it this
    time.
    """

    path: Path
    manifest: dict
    received: int


# --- what is here: no network -------------------------------------------------------------------------------


def is_id(name: str | os.PathLike) -> bool:
    """Whether a name has the form owner/model."""
    return _ID.fullmatch(str(name)) is not None


def folder(name: str) -> Path:
    """Where a model lies once fetched. BadInput: not of the form owner/model."""
    if not is_id(name):
        raise BadInput(f"{name!r} is not the id of a model on the hub; such an id reads owner/model")
    from unnoise.base.cache import cache as home

    return home() / "models" / name


def local(name: str | os.PathLike) -> Path | None:
    """The folder of a model that has been fetched, or None. Never touches the network."""
    if not is_id(name) or not (folder(str(name)) / MANIFEST).is_file():
        return None
    return None if (manifest(folder(str(name))) or {}).get("installing") else folder(str(name))


def manifest(path: Path) -> dict | None:
    """What `unnoise.json` of a fetched folder says: repo, commit, revision, variant, files {name: {size,
    sha256}}; None without one.
    """
    file = path / MANIFEST
    if not os.path.lexists(file):
        return None
    try:
        d = read.object_file(file, "manifest")
        read.fit(Manifest, d, str(file))
    except BadInput as e:
        raise BadInput(
            f"{file} is damaged: delete the folder {path} and fetch the model again ({e})"
        ) from None
    return d


def _whole(path: Path, d: dict) -> bool:
    return all(_size(path / n) == f["size"] for n, f in d["files"].items())


# --- which files: from a listing ----------------------------------------------------------------------------


def choose(names: Iterable[str], variant: str | None, name: str = "the model") -> list[str]:
    """The files that are needed, sorted: configurations, tokenizer, licence, and one weight format a
    component.

    `variant` is taken where a component has it, else plain. BadInput names what is missing, or the variants
    that there are.
    """
    names = set(names)
    small = [n for n in names if _SMALL.fullmatch(n)]
    needed = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        *(f"{part}/config.json" for part in STEMS),
    ]
    if "tokenizer/tokenizer.json" not in names:
        needed += ["tokenizer/vocab.json", "tokenizer/merges.txt"]
    for n in needed:
        if n not in names:
            raise BadInput(f"{name} has no {n}: it is not a Stable Diffusion folder in the published layout")
    chosen = {part: weights(part, names, variant) for part in STEMS}
    there = sorted({v for part in STEMS for v in variants(part, names)})
    if variant and variant not in there:
        raise unknown("variant", variant, ["plain", *there])
    for part, found in chosen.items():
        if not found:
            raise BadInput(f"{name}: {_no_weights(part, names)}")
    return sorted(small + [n for found in chosen.values() for n in found])


def weights(part: str, names: Iterable[str], variant: str | None = None) -> list[str]:
    """The weight files of one component, with the index of sharded ones: those of the variant, else the plain
    ones; else none.
    """
    names, stem = set(names), f"{part}/{STEMS.get(part, 'diffusion_pytorch_model')}"
    for dot in (f".{variant}", "") if variant else ("",):
        if f"{stem}{dot}.safetensors" in names:
            return [f"{stem}{dot}.safetensors"]
        for form in (
            r"{0}-\d+-of-(\d+)",
            r"-\d+-of-(\d+){0}",
        ):  # both spellings of sharded variants are published
            pattern = re.compile(re.escape(stem) + form.format(re.escape(dot)) + r"\.safetensors")
            shards = {n: int(m[1]) for n in sorted(names) if (m := pattern.fullmatch(n))}
            index = f"{stem}.safetensors.index{dot}.json"
            if shards and set(shards.values()) == {len(shards)} and index in names:
                return [*shards, index]
    return []


def variants(part: str, names: Iterable[str]) -> list[str]:
    """The variants of a component's weights that there are ("fp16", "non_ema", …), without plain."""
    stem = re.escape(f"{part}/{STEMS.get(part, 'diffusion_pytorch_model')}")
    found = (re.fullmatch(stem + r"(?:-\d+-of-\d+)?\.(\w+)(?:-\d+-of-\d+)?\.safetensors", n) for n in names)
    return sorted({m[1] for m in found if m})


def _no_weights(part: str, names: Iterable[str]) -> str:
    there = variants(part, names)
    if there:
        return (
            f"{part} has no plain safetensors weights; it has: {', '.join(f'--variant {v}' for v in there)}"
        )
    rest = sorted(
        n
        for n in names
        if n.startswith(f"{part}/") and n.endswith((".bin", ".ckpt", ".pt", ".safetensors", ".msgpack"))
    )
    return (
        f"{part} has no whole set of safetensors weights (there: {', '.join(rest) or 'none'}; only"
        " safetensors are fetched)"
    )


# --- the network --------------------------------------------------------------------------------------------


class _Redirects(HTTPRedirectHandler):
    """Follows redirects to the hosts that store large files; the token is for the hub alone and goes to no
    other.
    """

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new and urlsplit(new.full_url)[:2] != urlsplit(req.full_url)[:2]:
            new.remove_header("Authorization")
        return new


@cache
def _opener() -> OpenerDirector:
    """urllib's, with the certificates of the system and, where the package is there, of certifi."""
    context = ssl.create_default_context()
    try:
        import certifi  # pyright: ignore[reportMissingImports]
    except ImportError:
        pass
    else:
        context.load_verify_locations(certifi.where())
    return build_opener(HTTPSHandler(context=context), _Redirects)


@dataclass(frozen=True)
class _Hub:
    """A repository on a hub."""

    name: str
    endpoint: str | None
    token: str | None

    def listing(self, revision: str | None) -> tuple[str, dict[str, File]]:
        """(commit, files by name) at a revision. BadInput in one line, whatever goes wrong."""
        from huggingface_hub import HfApi

        try:
            info = HfApi(endpoint=self.endpoint, library_name="unnoise", library_version=VERSION).model_info(
                self.name, revision=revision, files_metadata=True, timeout=TIMEOUT, token=self.token or False
            )
            files = {
                f.rfilename: File(f.rfilename, f.size or 0, f.lfs["sha256"] if f.lfs else f.blob_id or "")
                for f in info.siblings or []
            }
        except Exception as e:  # its HTTP library, and with it the type, changes between versions
            raise BadInput(self._why(e, revision)) from e
        if not info.sha:
            raise BadInput(f"{self.name}: the hub names no commit")
        return info.sha, files

    def _why(self, e: Exception, revision: str | None) -> str:
        from huggingface_hub import errors

        text = (" ".join(str(e).split()) or type(e).__name__)[:300]
        if isinstance(e, errors.GatedRepoError):
            return self._gated()
        if isinstance(e, errors.RepositoryNotFoundError):
            return (
                f"there is no model {self.name} on the hub (or it is private: --token-from-env sends the"
                " token in HF_TOKEN)"
            )
        if isinstance(e, errors.RevisionNotFoundError):
            return f"{self.name} has no revision {revision!r}; a branch, tag or commit is accepted"
        if isinstance(e, errors.OfflineModeIsEnabled):
            return f"{self.name} is not here, and HF_HUB_OFFLINE forbids asking the hub"
        return f"cannot ask the hub for {self.name}: {text}"

    def _gated(self) -> str:
        return (
            f"{self.name} is gated: accept its terms on its page, then --token-from-env sends the token in"
            " HF_TOKEN"
        )

    def get(self, file: File, commit: str, store: Path, add: Callable[[int], None]) -> Path:
        """The verified file in `store`, under its digest. `add` is told how many bytes came (or, negative,
        were thrown away).
        """
        part, final = store / f"{file.digest}.part", store / file.digest
        if final.exists():
            return final
        for last in (
            False,
            True,
        ):  # a part glued from two answers may be of two contents: then once more from the start
            one = self._complete(file, commit, part, add)
            got = digest(part, file.digest)
            if got == file.digest:
                break
            add(-_size(part))
            part.unlink()
            if one or last:
                raise BadInput(
                    f"{self.name}: {file.name} came as {got}, the hub lists {file.digest}; it is not kept"
                )
        with part.open("rb+") as f:
            os.fsync(f.fileno())
        return part.replace(final)

    def _complete(self, file: File, commit: str, part: Path, add: Callable[[int], None]) -> bool:
        """Bring a part to its full length from where it stopped; goes on after a cut, TRIES times without one
        new byte.

        Returns whether one answer brought all of it.
        """
        part.touch()
        best, tries, pieces = _size(part), 0, int(_size(part) > 0)
        while (have := _size(part)) < file.size:
            why, pieces = "it ended early", pieces + 1
            try:
                self._stream(file, commit, part, add)
            except HTTPError as e:
                if e.code != 429 and e.code < 500:
                    raise BadInput(self._refused(e, file)) from e
                why = f"{e.code} {e.reason}"
            except (URLError, http.client.HTTPException, OSError) as e:
                why = str(getattr(e, "reason", e)) or type(e).__name__
            have = _size(part)
            best, tries = max(best, have), 0 if have > best else tries + 1
            if tries >= TRIES:
                raise BadInput(
                    f"{self.name}: {file.name} does not come ({why}); {have} of {file.size} bytes are kept,"
                    " the same command goes on"
                )
            if tries:
                time.sleep(PAUSE * 2 ** (tries - 1))
        return pieces <= 1

    def _stream(self, file: File, commit: str, part: Path, add: Callable[[int], None]) -> None:
        from huggingface_hub import hf_hub_url

        at = _size(part)
        headers = {"User-Agent": f"unnoise/{VERSION}"}
        if at:
            headers["Range"] = f"bytes={at}-"
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        url = hf_hub_url(self.name, file.name, revision=commit, endpoint=self.endpoint)
        with _opener().open(Request(url, headers=headers), timeout=TIMEOUT) as r, _append(part) as out:
            if at and self._start(r, file, at) == 0:
                out.truncate(0)
                add(-at)
                at = 0
            elif not at:
                self._start(r, file, 0)
            while at < file.size and (chunk := r.read1(min(CHUNK, file.size - at))):
                _write(out, chunk, part)
                add(len(chunk))
                at += len(chunk)

    def _start(self, r: http.client.HTTPResponse, file: File, at: int) -> int:
        """Where in the file an answer begins: `at`, or 0 from a server without ranges. BadInput when it is
        not of this file.
        """
        kind, length = r.headers.get_content_type(), r.headers.get("Content-Length")
        given = r.headers.get("Content-Range", "") if r.status == 206 else ""
        right = (
            given == f"bytes {at}-{file.size - 1}/{file.size}"
            if given
            else r.status == 200 and length in (None, str(file.size))
        )
        if kind == "text/html" or not right:
            raise BadInput(
                f"{self.name}: in place of {file.name} ({file.size} bytes) the server sent {kind}, "
                f"{given or f'{length} bytes'} (a page of a proxy or a login? or the file has changed)"
            )
        return at if given else 0

    def _refused(self, e: HTTPError, file: File) -> str:
        if e.code in (401, 403):
            return (
                self._gated()
                if e.headers.get("X-Error-Code") == "GatedRepo" or not self.token
                else (f"{self.name}: the hub does not give {file.name} to this token ({e.code} {e.reason})")
            )
        return f"{self.name}: the hub does not give {file.name} ({e.code} {e.reason})"


def _append(part: Path) -> BinaryIO:
    try:
        return part.open("ab", buffering=0)  # unbuffered: a killed process leaves on disk what has come
    except OSError as e:
        raise BadInput(f"cannot write {part}: {e.strerror}") from e


def _write(out: BinaryIO, chunk: bytes, part: Path) -> None:
    view = memoryview(chunk)
    try:
        while view:
            view = view[out.write(view) :]
    except OSError as e:
        raise BadInput(
            f"cannot write {part}: {e.strerror}; what has come is kept, the same command goes on"
        ) from e


def _size(path: Path) -> int:
    """Bytes of a file; 0 for one that is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def digest(path: Path, like: str) -> str:
    """The digest of a file, of the kind of `like`: its sha256 (64 letters), or the sha1 that git gives its
    content (40).
    """
    h = hashlib.sha256() if len(like) == 64 else hashlib.sha1(b"blob %d\0" % _size(path))
    with path.open("rb") as f:
        while chunk := f.read(2**22):
            h.update(chunk)
    return h.hexdigest()


# --- all of it ----------------------------------------------------------------------------------------------


def plan(
    name: str,
    revision: str | None = None,
    variant: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> Plan:
    """What `fetch` would bring, after reading `model_index.json` from the hub; writes nothing. BadInput as
    for `fetch`.
    """
    from unnoise.hub.catalog import check_family

    folder(name)
    hub, variant = _hub(name, token, endpoint), None if variant == "plain" else variant
    commit, files = hub.listing(revision)
    if "model_index.json" not in files:
        raise BadInput(f"{name} has no model_index.json: it is not a model folder in the published layout")
    with tempfile.TemporaryDirectory() as place:
        raw = hub.get(
            _checked(files["model_index.json"], name), commit, Path(place), lambda n: None
        ).read_bytes()
    try:
        index = read.parse_object(raw, "it")
    except BadInput as e:
        raise BadInput(f"{name}: model_index.json is not a JSON object ({e})") from None
    read.fit(Index, index, f"{name}: model_index.json")
    check_family(index, Path(name))
    chosen = [_checked(files[n], name) for n in choose(files, variant, name)]
    return Plan(
        name, commit, revision or "main", variant, tuple(sorted(chosen, key=lambda f: f.size))
    )  # what is small may already fail


def _checked(file: File, name: str) -> File:
    """The file, if its digest is one: it becomes a file name here."""
    if not _DIGEST.fullmatch(file.digest):
        raise BadInput(f"{name}: the hub lists no digest for {file.name}")
    return file


def _hub(name: str, token: str | None, endpoint: str | None) -> _Hub:
    return _Hub(
        name, (endpoint or os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/"), token
    )


def fetch(
    name: str,
    revision: str | None = None,
    variant: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    report: Report | None = None,
) -> Fetched:
    """Bring a Stable Diffusion 1.x or 2.x model (owner/model) here, or nothing when it is here: then no
    connection is opened.

    revision: a branch, tag or commit (None: what is here, else "main"). variant: "fp16", … where a component
    has it, "plain", or None (what is here, else plain). token: sent to the hub and to no other host; none is
    looked for elsewhere. endpoint: the hub's address (None: $HF_ENDPOINT, else huggingface.co). A stopped
    fetch goes on where it was; the folder appears when all is verified. BadInput: no such model or revision,
    gated, no network, not a supported pipeline, no safetensors, a wrong hash, a full disk.
    """
    path = folder(name)
    if there := _there(path, revision, variant):
        return Fetched(path, there, 0)
    if path.exists() and not (path / MANIFEST).exists():
        raise BadInput(f"{path} exists and was not fetched: it is left as it is")
    if old := manifest(path):
        revision, variant = revision or old["commit"], variant or old["variant"]
    wanted = plan(name, revision, variant, token, endpoint)
    try:
        store = path.with_name(f".{path.name}.part")
        with lock.alone(store, f"{name} is being fetched"):
            if there := _there(path, wanted.commit, variant):
                return Fetched(path, there, 0)  # another process has just brought it
            received = _collect(wanted, store, _hub(name, token, endpoint), path, report or (lambda *_: None))
            return Fetched(path, _install(wanted, store, path), received)
    except OSError as e:
        raise BadInput(f"cannot write below {path.parent}: {e.strerror or e}") from e


def _there(path: Path, revision: str | None, variant: str | None) -> dict | None:
    d = manifest(path)
    same = d and revision in (None, d["revision"], d["commit"]) and variant in (None, d["variant"] or "plain")
    return d if d and same and not d.get("installing") and _whole(path, d) else None


def _collect(wanted: Plan, store: Path, hub: _Hub, path: Path, report: Report) -> int:
    """All files verified in `store`; returns how many bytes came."""
    old = manifest(path) or {"files": {}}
    for f in wanted.files:  # a new commit or a lost file: what the folder has is not fetched again
        kept = path / f.name
        if (
            f.name in old["files"]
            and not (store / f.digest).exists()
            and _size(kept) == f.size
            and digest(kept, f.digest) == f.digest
        ):
            _link(kept, store / f.digest)
    files = {f.digest: f for f in wanted.files}.values()
    total = sum(f.size for f in files)
    done = sum(min(f.size, _size(store / f.digest) + _size(store / f"{f.digest}.part")) for f in files)
    _check_disk(total - done, wanted, store)
    received, name = 0, ""

    def add(n: int) -> None:
        nonlocal done, received
        done, received = done + n, received + max(n, 0)
        report(name, done, total)

    for f in files:
        name = f.name
        add(0)
        hub.get(f, wanted.commit, store, add)
    return received


def _check_disk(missing: int, wanted: Plan, store: Path) -> None:
    free = shutil.disk_usage(store).free
    if missing + MARGIN > free:
        raise BadInput(
            f"{wanted.name} needs {missing / 1e9:.2f} GB, and {MARGIN / 1e9:.2f} GB to spare; "
            f"{free / 1e9:.2f} GB are free in {store.parent}"
        )


def _install(wanted: Plan, store: Path, path: Path) -> dict:
    """Put the verified files in their places, the manifest last; what else lies in the folder stays. Returns
    the manifest.

    While it works the manifest says so ("installing", with all files of before and now): such a folder is not
    whole, and fetched again.
    """
    old = (manifest(path) or {"files": {}})["files"]
    files = {}
    for f in sorted(wanted.files, key=lambda f: f.name):
        files[f.name] = {
            "size": f.size,
            "sha256": f.digest if len(f.digest) == 64 else digest(store / f.digest, "0" * 64),
        }
    d = {
        "repo": wanted.name,
        "commit": wanted.commit,
        "revision": wanted.revision,
        "variant": wanted.variant,
        "files": files,
    }
    _put_manifest(path, {**d, "files": {**old, **files}, "installing": True})
    for f in wanted.files:
        with new_file(path / f.name) as part:
            part.unlink()
            _link(store / f.digest, part)
    for name in sorted(set(old) - set(files)):  # of the commit before
        with suppress(OSError):
            (path / name).unlink()
    _put_manifest(path, d)
    shutil.rmtree(store, ignore_errors=True)
    return d


def _put_manifest(path: Path, d: dict) -> None:
    put(path / MANIFEST, json.dumps(d, indent=2).encode() + b"\n")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)  # a file system without links
