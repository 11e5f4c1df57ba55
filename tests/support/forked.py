"""A command in a process of its own that has imported everything already: a fork of this one."""

import os
import sys
import traceback
from pathlib import Path


def command(*args: str, cwd: Path) -> tuple[int, bytes, bytes]:
    """(exit code, stdout, stderr) of `unnoise args` run in the folder `cwd`, as its own process would."""
    out, err = os.memfd_create("out"), os.memfd_create("err")
    child = os.fork()
    if not child:
        os._exit(_run(args, cwd, out, err))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    texts = [os.pread(file, 2**24, 0) for file in (out, err)]
    os.close(out)
    os.close(err)
    return code, *texts  # type: ignore[return-value]


def _run(args: tuple[str, ...], cwd: Path, out: int, err: int) -> int:
    try:
        os.chdir(cwd)
        for stream, file in ((1, out), (2, err)):
            os.dup2(file, stream)
        sys.stdin = open(os.devnull)  # noqa: SIM115 - as long as the process
        sys.stdout, sys.stderr = (open(n, "w", encoding="utf-8", closefd=False) for n in (1, 2))  # noqa: SIM115
        sys.argv = ["unnoise", *args]
        from unnoise.cli.main import main

        try:
            main()
        except SystemExit as e:
            return int(e.code or 0)
        finally:
            for s in (sys.stdout, sys.stderr):
                s.flush()
    except BaseException:
        os.write(err, traceback.format_exc().encode())
    return 99
