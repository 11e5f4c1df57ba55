"""One case: a command run in this process, and everything that it may not do, looked at afterwards.

    exit 0 or 2; with 2 one line `error: …` and nothing new; with 0 no word of a library, --json is one object
    no control characters, terminal escapes, directions or lone surrogates on either stream
    10 s of processor, 100 s of clock (for what waits); 1 GB more than before
    what was given is as it was; no temporary file is left, no file lies outside
    no program, pickle or connection is opened

`watch` is for a process that does nothing else: the hook that sees what is opened cannot be taken away again.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MARK = Path(tempfile.gettempdir()) / "unnoise-fuzz-code-ran"  # what a hostile pickle leaves when it is opened
CPU, WALL, MEMORY = 10, 100, 2**30
ROOM = 3 * 2**30  # of addresses, beyond what the process has
LEFT = re.compile(r"\.part$|\.tmp|\.old$|^\.lock$|\.lock$|^tmp")
LIBRARY = re.compile(r"Warning|Traceback|^\s+warnings\.warn|libpng|libtiff|TIFF\w*:|^\w*Error:")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "subprocess.Popen",
    "pickle.find_class",
    "socket.connect",
    "socket.getaddrinfo",
    "webbrowser.open",
)
CHANGES = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.symlink",
    "os.link",
    "os.truncate",
    "os.chmod",
    "os.utime",
    "shutil.rmtree",
)


class Hang(BaseException):
    """The time is over. No `except Exception` keeps it."""


def run(
    main: Callable[[list[str]], Any], argv: list[str], place: Path, kept: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Run main(argv) in the folder `place`/out and judge it; what was given lies in it and in `place`/in.

    kept: the names in out that may be written into even when the command fails (a run that goes on). Returns
    {code, faults (a list of lines), out, err, seconds (of the processor), grown (bytes)}.
    """
    inside, cwd = place / "in", place / "out"
    cwd.mkdir(exist_ok=True)
    before, outside = _listing(inside), _listing(cwd)
    found: dict[str, Any] = {"argv": argv}
    _SEEN.update(place=os.path.realpath(place), events=[])
    with _captured(place) as streams, _limited():
        _reset_peak()
        began, rss = time.process_time(), _status("VmRSS")
        os.chdir(cwd)
        _SEEN["on"] = True
        try:
            found["code"], found["trace"] = _called(main, argv)
        finally:
            _SEEN["on"] = False
        found |= {"seconds": round(time.process_time() - began, 3), "grown": _status("VmHWM") - rss}
    found |= {"out": streams["out"], "err": streams["err"]}
    found["faults"] = [
        *_words(found, "--json" in argv and not {"--help", "-h"} & set(argv)),
        *_costs(found),
        *_SEEN["events"][:5],
        *_ran(),
        *_files(
            found["code"], before, _listing(inside), outside, _listing(cwd), kept, _listing(place / "tmp")
        ),
    ]
    return found


def _called(main: Callable[[list[str]], Any], argv: list[str]) -> tuple[Any, str]:
    """(exit status, where it broke)."""
    try:
        main(argv)
    except SystemExit as e:
        return (e.code if e.code is not None else 0), ""
    except Hang:
        return "hang", ""
    except BaseException:
        return "raised", traceback.format_exc()[-1500:]
    return 0, ""


# --- what is judged -------------------------------------------------------------------------------------


def _words(found: dict[str, Any], as_json: bool) -> list[str]:
    """What is wrong with the exit status and the two streams."""
    code, out, err = found["code"], found["out"], found["err"]
    faults = [] if code in (0, 2) else [f"exit {code}: {err[-200:]!r}{found['trace'][-400:]}"]
    for name, text in (("stdout", out), ("stderr", err)):
        if strange := foreign(text):
            faults.append(f"{name} holds {strange}")
    lines = err.splitlines()
    wrong = [line for line in lines if line.startswith("error")]
    if code == 2 and (
        not wrong or wrong != lines[-1:] or not wrong[0].startswith("error: ") or len(wrong[0]) < 12
    ):
        faults.append(f"not one line `error: …`: {err[:300]!r}")
    if code == 2 and len(err) > 5000:
        faults.append(f"an error of {len(err)} letters")
    if any(LIBRARY.search(line) for line in lines if line not in wrong) or (code == 0 and wrong):
        faults.append(f"on stderr: {err[:300]!r}")
    if code == 2 and out:
        faults.append(f"exit 2, but on stdout: {out[:200]!r}")
    if code == 0 and as_json and not _is_object(out):
        faults.append(f"not one JSON object: {out[:200]!r}")
    return faults


def foreign(text: str) -> str:
    """The control characters, directions and lone surrogates in a text, named; "" without any.

    Line feeds and tabs are none.
    """
    bad = {
        c
        for c in set(text)
        if c not in "\n\t"
        and (
            unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")
            or "\u202a" <= c <= "\u202e"
            or "\u2066" <= c <= "\u2069"
            or c in "\u200e\u200f\u061c"
        )
    }
    return ", ".join(f"U+{ord(c):04X}" for c in sorted(bad))


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _costs(found: dict[str, Any]) -> list[str]:
    return [f"{found['grown'] / 2**20:.0f} MiB more than before"] if found["grown"] > MEMORY else []


def _ran() -> list[str]:
    if not MARK.exists():
        return []
    MARK.unlink()
    return ["code was run from what was read"]


def _files(
    code: Any, before: dict, after: dict, outside: dict, made: dict, kept: tuple[str, ...], temporary: dict
) -> list[str]:
    """What is wrong with the files that were given, made and left."""
    faults = [
        f"{k} was {'changed' if k in after else 'removed'}" for k, v in before.items() if after.get(k) != v
    ]
    faults += [f"{k} was put beside what was given" for k in after if k not in before]
    new = [k for k in made if k not in outside]
    faults += [f"left behind: {k}" for k in new if LEFT.search(k.rsplit("/", 1)[-1])] + [
        f"left in the temporary folder: {k}" for k in temporary
    ]
    free = lambda k: k.split("/")[0] in kept
    if code != 0:
        faults += [f"exit {code}, but there is {k}" for k in new if not free(k)]
    faults += [
        f"{k} was {'changed' if k in made else 'removed'}"
        for k, v in outside.items()
        if made.get(k) != v and not free(k)
    ]
    return faults


def _listing(folder: Path) -> dict[str, tuple]:
    """name -> (mode, size, time) of all in a folder, of folders the mode alone; no link is followed."""
    out = {}
    for root, dirs, files in os.walk(folder):
        for name in (*dirs, *files):
            path = os.path.join(root, name)
            s = os.lstat(path)
            out[os.path.relpath(path, folder)] = (
                s.st_mode,
                *((s.st_size, s.st_mtime_ns) if name in files else ()),
            )
    return out


# --- what is watched ------------------------------------------------------------------------------------

_SEEN: dict[str, Any] = {"on": False, "place": "", "events": [], "cache": ""}


def watch(cache: Path) -> None:
    """From now on, note what this process opens while a case runs. cache: where else it may write."""
    _SEEN["cache"] = os.path.realpath(cache)
    sys.addaudithook(_note)


def _note(event: str, args: tuple) -> None:
    if not _SEEN["on"]:
        return
    _SEEN["on"] = False  # what follows opens files itself
    try:
        if event in FORBIDDEN:
            _SEEN["events"].append(f"{event} {args!r:.200}")
        elif isinstance(args[0] if args else None, str | bytes) and (
            event in CHANGES or (event == "open" and args[2] & WRITES)
        ):
            _inside(event, args[0])
    finally:
        _SEEN["on"] = True
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise OSError("no network in this test")
    if event in ("os.system", "subprocess.Popen", "os.fork"):
        raise PermissionError("no programs in this test")


def _inside(event: str, path: str | bytes) -> None:
    where = os.path.realpath(os.fsdecode(path))
    if not where.startswith((_SEEN["place"], _SEEN["cache"], "/dev")):
        _SEEN["events"].append(f"{event} of {where}")


@contextmanager
def _captured(place: Path) -> Iterator[dict[str, str]]:
    """Both streams, also what C writes to them, as text; "" until the body is over.

    Bytes that are no UTF-8 become lone surrogates.
    """
    text, saved = {"out": "", "err": ""}, [os.dup(1), os.dup(2)]
    streams, files = (sys.stdout, sys.stderr), [os.memfd_create("out"), os.memfd_create("err")]
    for fd, file in zip((1, 2), files):
        os.dup2(file, fd)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    try:
        yield text
    finally:
        for s in (sys.stdout, sys.stderr):
            s.flush()
        sys.stdout, sys.stderr = streams
        for name, fd, old, file in zip(("out", "err"), (1, 2), saved, files):
            os.dup2(old, fd)
            text[name] = os.pread(file, 2**24, 0).decode("utf-8", "surrogateescape")
            os.close(old)
            os.close(file)


@contextmanager
def _limited() -> Iterator[None]:
    """Time and addresses are limited within."""

    def over(_, frame):
        _SEEN["events"].append("hang at " + "".join(traceback.format_stack(frame)[-4:]))
        raise Hang

    old = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + ROOM, old[1]))
    for sig, timer, seconds in (
        (signal.SIGPROF, signal.ITIMER_PROF, CPU),
        (signal.SIGALRM, signal.ITIMER_REAL, WALL),
    ):
        signal.signal(sig, over)
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        resource.setrlimit(resource.RLIMIT_AS, old)


def _status(key: str) -> int:
    """A number of bytes from what the system says of this process."""
    found = re.search(rf"^{key}:\s+(\d+)", Path("/proc/self/status").read_text(), re.M)
    return int(found[1]) * 1024 if found else 0


def _reset_peak() -> None:
    """The peak of memory counts from now on; what the last case left is given back first."""
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")
