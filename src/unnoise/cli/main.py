"""`unnoise`: the command. All errors are one line on stderr, a traceback comes only with --debug. Exit codes:

0    done (also where the reader of stdout has gone, as `| head` does)
1    a fault of unnoise itself
2    bad input, or something that the machine could not do: no space, no memory, no permission, stdout closed
130  interrupted by Ctrl-C        143  terminated by SIGTERM; both after what is done was kept
"""

from __future__ import annotations

import errno
import os
import re
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from unnoise.base import names
from unnoise.base.errors import BadInput, unknown
from unnoise.base.stop import Terminated, exit_code, on_sigterm
from unnoise.base.text import one_line, short
from unnoise.cli import (
    data,
    edit,
    evaluate,
    fetch,
    generate,
    info,
    lab,
    models,
    replay,
    samplers,
    terminal,
    tokens,
    train,
)
from unnoise.cli.common import say


class Commands(TyperGroup):
    """A group of commands: alone it prints its help, and a name that it does not have leads to the one that
    is meant.
    """

    def parse_args(self, ctx, args):
        if not args and not ctx.resilient_parsing:
            say(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx, args):
        if (
            self.get_command(ctx, args[0]) is None
            and not ctx.resilient_parsing
            and not args[0].startswith("-")
        ):
            raise BadInput(self.unknown(args[0]))
        return super().resolve_command(ctx, args)

    def unknown(self, given: str) -> str:
        """The line for a name that is no command of this group; seen from the top, what is meant may be one
        of another group.
        """
        known = list(self.commands)
        inner = [
            f"{name} {sub}"
            for name, command in self.commands.items()
            for sub in getattr(command, "commands", ())
        ]
        meant = names.spelled(given, [*known, *inner, "--help", "--version"]) or names.nearest(
            given, [*known, *inner]
        )
        hint = f"; did you mean {meant!r}?" if meant else ""
        return f"unknown command {short(given)}{hint} (accepted: {', '.join(known)})"


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Diffusion models: generate, train, evaluate. Every command takes --json and --help.",
)


@app.callback(invoke_without_command=True)
def _options(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from unnoise import __version__

        say(__version__)
        raise typer.Exit


app.command("generate")(generate.generate)
app.add_typer(
    edit.app,
    name="edit",
    cls=Commands,
    help="Change a picture: by a prompt, inside a mask, its size, its style, …",
)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(data.app, name="data", cls=Commands, help="Data sets: list, fetch, look at.")
app.command("models")(models.models)
app.command("fetch")(fetch.fetch)
app.command("info")(info.info)
app.command("tokens")(tokens.tokens)
app.command("samplers")(samplers.samplers)
app.command("replay")(replay.replay)
app.add_typer(
    lab.app, name="lab", cls=Commands, help="Research questions, each answered by an experiment: list, run."
)


def main(argv: list[str] | None = None) -> None:
    """Run the command line; always leaves by SystemExit with the documented code. argv None: this process's
    own, whose streams are guarded.
    """
    if argv is None:
        terminal.guard()
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    with on_sigterm():
        code = _code(lambda: _invoke([a for a in args if a != "--debug"]), debug)
    raise SystemExit(code)


def leave(run: Callable[[], Any]) -> NoReturn:
    """Run the main function of a script as a command is run: its errors are one line, its exit codes the
    documented ones.
    """
    terminal.guard()
    with on_sigterm():
        code = _code(run, debug=False)
    raise SystemExit(code)


def _code(run: Callable[[], Any], debug: bool) -> int:
    """The exit code of a command, after its error was told."""
    try:
        code = _returned(run)
        if sys.stdout:
            sys.stdout.flush()
        return code
    except BaseException as e:
        code, line = verdict(e)
        if debug and code in (1, 2):
            raise
        _tell(line)
        return code


def _returned(run: Callable[[], Any]) -> int:
    """What a main function returns, or leaves with, as an exit code."""
    try:
        result = run()
    except SystemExit as e:
        result = e.code
    if isinstance(result, str):
        raise BadInput(result)
    return result if isinstance(result, int) else 0


def _invoke(args: list[str]) -> None:
    """Run a command; what it raises comes through as it is (typer's own way turns Ctrl-C into a silent
    exit).
    """
    args = _completion(args)
    command = typer.main.get_command(app)
    if "_UNNOISE_COMPLETE" in os.environ:  # a shell asks for completions
        command(args, prog_name="unnoise")
    with command.make_context("unnoise", args) as context:
        command.invoke(context)


SHELLS = ("bash", "zsh", "fish", "pwsh", "powershell")


def _completion(args: list[str]) -> list[str]:
    """The arguments with the shell that a wish for completions means: the one named after it, else the one
    that this runs in.
    """
    wish, _, shell = args[0].partition("=") if args else ("", "", "")
    if wish not in ("--install-completion", "--show-completion"):
        return args
    shell = shell or next(iter(args[1:2]), "") or _own_shell()
    if shell not in SHELLS:
        raise BadInput(
            f"{wish}: no completions for {short(shell) if shell else 'an unknown shell'} (accepted after it:"
            f" {', '.join(SHELLS)})"
        )
    os.environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = (
        "1"  # typer's word for: the shell is named, do not look for it
    )
    return [wish, shell]


def _own_shell() -> str:
    """The shell in which this command was typed; "" where that cannot be told."""
    import shellingham

    try:
        return shellingham.detect_shell()[0]
    except (shellingham.ShellDetectionFailure, OSError):
        return ""


def verdict(e: BaseException) -> tuple[int, str]:
    """(exit code, the line for stderr, which may be empty) of what ended a command: the one place that knows
    them.
    """
    if isinstance(e, KeyboardInterrupt):
        word = "terminated" if isinstance(e, Terminated) else "interrupted"
        return exit_code(e), f"{word}: {e}" if str(e) else word
    if hasattr(e, "exit_code") and not hasattr(e, "format_message"):  # typer's Exit and Abort
        return int(e.exit_code), ""  # type: ignore[attr-defined]
    if isinstance(e, BrokenPipeError) and _stdout_is_broken():
        return 0, ""
    told = str(e) if isinstance(e, BadInput) else _usage(e) or _environment(e)
    if told is not None:
        return 2, f"error: {told}"
    return (
        1,
        (
            f"error: {type(e).__name__}: {e or 'no further word'} (a fault of unnoise itself; --debug shows"
            " where)"
        ),
    )


def _environment(e: BaseException) -> str | None:
    """What the machine could not do: memory, disk, names that the locale cannot write; None for other
    errors.
    """
    text = str(e)
    lack = (
        isinstance(e, MemoryError)
        or type(e).__name__ == "OutOfMemoryError"
        or getattr(e, "errno", None) == errno.ENOMEM
    )
    if lack or (isinstance(e, RuntimeError) and _NO_MEMORY.search(text)):
        return (
            f"not enough memory{f' ({one_line(text, 200)})' if text else ''}: ask for fewer or smaller"
            " pictures at once, or give --memory-budget"
        )
    if isinstance(e, RecursionError):
        return "what was given is nested too deep"
    if isinstance(e, UnicodeEncodeError):
        return f"{short(e.object)} cannot be written in this locale ({e.encoding}): set LC_ALL=C.UTF-8"
    if isinstance(e, OSError):
        where = f": {e.filename}" if e.filename is not None else ""
        return f"{e.strerror or text or type(e).__name__}{where}"
    return None


_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|ALLOC_FAILED", re.IGNORECASE
)


def _stdout_is_broken() -> bool:
    """Whether it was stdout whose reader has gone (`| head`): what is left goes nowhere from here on."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), select.POLLOUT)
    except (OSError, ValueError):
        return False
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        return False
    _drop_stdout()
    return True


def _drop_stdout() -> None:
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(line: str) -> None:
    """Print a line on stderr, whatever is left of this process. What stdout still holds and cannot write is
    dropped.
    """
    try:
        if line:
            print(one_line(line, 4000), file=sys.stderr, flush=True)
    except (MemoryError, OSError, ValueError):
        with suppress(OSError):
            os.write(2, b"error: not enough memory\n")
    try:
        if sys.stdout:
            sys.stdout.flush()
    except (OSError, ValueError):
        _drop_stdout()


def _usage(e: BaseException) -> str | None:
    """The text of typer's own complaints about the command line, with what is meant by an unknown name; None
    for other errors.

    They are told by what they offer, as typer takes them from click or from its own copy of it, by version.
    """
    if not hasattr(e, "format_message"):
        return None
    context, option = getattr(e, "ctx", None), getattr(e, "option_name", None)
    if context is None:
        return e.format_message()  # type: ignore[attr-defined]
    known = [o for p in context.command.params for o in p.opts if o.startswith("--")]
    if option and option not in known:
        return _unknown_option(option, known)
    return e.format_message()  # type: ignore[attr-defined]


def _unknown_option(given: str, known: list[str]) -> str:
    """The line for an option that a command does not have."""
    meant, plain = names.spelled(given, known), given.strip("-").replace("-", "_").lower()
    own = names.spelled(plain, names.SAMPLER_OPTIONS) if meant is None and "--option" in known else None
    if own:
        return (
            f"unknown option {short(given)}: options of a sampler are given as --option {own}=VALUE (see"
            " `unnoise samplers`)"
        )
    instead = None if meant else names.hint(given)
    return f"unknown option {short(given)}: {instead}" if instead else str(unknown("option", given, known))


if __name__ == "__main__":
    main()
