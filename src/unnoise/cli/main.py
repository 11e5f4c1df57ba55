"""`unnoise`: the command. Exit 0 done; 2 bad input, told in one line; 130 interrupted, 143 by SIGTERM; a traceback only with --debug."""
from __future__ import annotations

import os
import sys

import typer

from unnoise.base.stop import exit_code, on_sigterm
from unnoise.cli import data, edit, evaluate, fetch, generate, info, lab, models, replay, samplers, tokens, train
from unnoise.errors import BadInput, unknown

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
                  context_settings={"help_option_names": ["-h", "--help"]},
                  help="Diffusion models: generate, train, evaluate. Every command takes --json and --help.")


@app.callback(invoke_without_command=True)
def _options(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from unnoise import __version__

        print(__version__)
        raise typer.Exit


app.command("generate")(generate.generate)
app.add_typer(edit.app, name="edit", help="Change a picture: by a prompt, inside a mask, its size, its style, …")
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(data.app, name="data", help="Data sets: list, fetch, look at.")
app.command("models")(models.models)
app.command("fetch")(fetch.fetch)
app.command("info")(info.info)
app.command("tokens")(tokens.tokens)
app.command("samplers")(samplers.samplers)
app.command("replay")(replay.replay)
app.add_typer(lab.app, name="lab", help="Research questions, each answered by an experiment: list, run.")


def main(argv: list[str] | None = None) -> None:
    """Run the command line; always leaves by SystemExit with the documented code."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    try:
        with on_sigterm(): code = app(args, standalone_mode=False) or 0
    except BadInput as e: code = _fail(e, str(e), debug)
    except KeyboardInterrupt as e:
        print(f"interrupted{f': {e}' if str(e) else ''}", file=sys.stderr)
        code = exit_code(e)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as e:
        usage = _usage(e)
        if usage: raise SystemExit(_fail(e, usage, debug)) from None
        if debug: raise
        print(f"error: {type(e).__name__}: {' '.join(str(e).split()) or 'no further word'} (--debug shows where)", file=sys.stderr)
        code = 1
    raise SystemExit(code if isinstance(code, int) else 0)


def _fail(e: Exception, text: str, debug: bool) -> int:
    if debug: raise e
    print("error: " + " ".join(text.split()), file=sys.stderr)
    return 2


def _usage(e: Exception) -> str | None:
    """The text of typer's own complaints about the command line, with the nearest name for an unknown option; None for other errors.

    They are told by what they offer, as typer takes them from click or from its own copy of it, by version.
    """
    if not hasattr(e, "format_message"): return None
    context, name = getattr(e, "ctx", None), getattr(e, "option_name", None)
    if context is not None and name:
        names = [o for p in context.command.params for o in p.opts if o.startswith("--")]
        if name not in names: return str(unknown("option", name, names))
    return e.format_message()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
