"""`unnoise`: the command. Exit 0 done; 2 bad input, told in one line; 130 interrupted; a traceback only with --debug."""
from __future__ import annotations

import os
import sys

import click
import typer

from unnoise.cli import data, evaluate, generate, models, replay, samplers, train
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
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(data.app, name="data", help="Data sets: list, fetch, look at.")
app.command("models")(models.models)
app.command("samplers")(samplers.samplers)
app.command("replay")(replay.replay)


def main(argv: list[str] | None = None) -> None:
    """Run the command line; always leaves by SystemExit with the documented code."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    try: code = app(args, standalone_mode=False) or 0
    except (BadInput, click.UsageError, typer.Abort) as e: code = _fail(e, debug)
    except KeyboardInterrupt as e:
        print(f"interrupted{f': {e}' if str(e) else ''}", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as e:
        if debug: raise
        print(f"error: {type(e).__name__}: {' '.join(str(e).split()) or 'no further word'} (--debug shows where)", file=sys.stderr)
        code = 1
    raise SystemExit(code if isinstance(code, int) else 0)


def _fail(e: Exception, debug: bool) -> int:
    if debug: raise e
    text = _usage(e) if isinstance(e, click.UsageError) else str(e)
    print("error: " + " ".join(text.split()), file=sys.stderr)
    return 2


def _usage(e: click.UsageError) -> str:
    """Typer's own complaints, with the nearest name where an option or command is unknown."""
    if isinstance(e, click.NoSuchOption) and e.ctx is not None:
        names = [o for p in e.ctx.command.params for o in p.opts]
        return str(unknown("option", e.option_name, [n for n in names if n.startswith("--")]))
    return e.format_message()


if __name__ == "__main__":
    main()
