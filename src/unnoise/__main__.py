"""`python -m unnoise` and the installed command: the same as `unnoise`."""

from __future__ import annotations


def main() -> None:
    """Run the command line; Ctrl-C while it is being loaded ends it without a traceback too."""
    try:
        from unnoise.cli.main import main as command
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    command()


if __name__ == "__main__":
    main()
