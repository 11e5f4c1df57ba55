"""What people type at the command line: other tools' commands and options lead to ours, no words at all to
the help.
"""

import pytest
import typer

from tests.cli.test_cli import bad, run
from unnoise.base import names
from unnoise.cli.main import app

TOP = {
    "txt2img": "generate",
    "text2image": "generate",
    "draw": "generate",
    "img2img": "edit image-to-image",
    "image-to-image": "edit image-to-image",
    "inpaint": "edit inpaint",
    "inpainting": "edit inpaint",
    "upscale": "edit upscale",
    "outpainting": "edit outpaint",
    "p2p": "edit prompt-to-prompt",
    "diffedit": "edit diffedit",
    "eval": "evaluate",
    "fid": "evaluate",
    "list": "models",
    "download": "fetch",
    "pull": "fetch",
    "finetune": "train",
    "schedulers": "samplers",
    "tokenize": "tokens",
    "datasets": "data",
    "help": "--help",
    "version": "--version",
    "gnerate": "generate",
    "experiments": "lab",
    "reproduce": "replay",
}


@pytest.mark.parametrize(("typed", "ours"), TOP.items())
def test_commands(capfd, typed, ours):
    assert f"unknown command {typed!r}; did you mean {ours!r}?" in bad(capfd, typed)


@pytest.mark.parametrize(
    ("args", "ours"),
    [
        (("edit", "img2img"), "image-to-image"),
        (("edit", "zoom"), "zoom-out"),
        (("edit", "superres"), "upscale"),
        (("data", "download"), "fetch"),
        (("data", "ls"), None),
        (("lab", "questions"), "list"),
        (("edit", "qqqq"), None),
    ],
)
def test_commands_of_a_group(capfd, args, ours):
    err = bad(capfd, *args)
    assert (f"did you mean {ours!r}?" in err) if ours else "did you mean" not in err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("generate", "x", "--cfg", 3), "'--guidance'"),
        (("generate", "x", "--n_iter", 3), "'--num-images'"),
        (("generate", "x", "-W", 64), "'--width'"),
        (("generate", "x", "--eta", 1), "--option eta=VALUE"),
        (("generate", "x", "--s-churn", 1), "--option s_churn=VALUE"),
        (("generate", "--prompt", "x"), "argument"),
        (("generate", "x", "--init-image", "a.png"), "unnoise edit"),
        (("generate", "x", "--strength", 0.5), "image-to-image"),
        (("generate", "x", "--outdir", "y"), "'--output'"),
        (("train", "smoke", "--output_dir", "y"), "'--out'"),
        (("train", "smoke", "--max_train_steps", 5, "--out", "y"), "'--steps'"),
        (("edit", "image-to-image", "a.png", "x", "--denoising-strength", 0.5), "'--strength'"),
        (("generate", "x", "--option", "guidance=3"), "give --guidance"),
        (("generate", "x", "--option", "etaa=3"), "did you mean 'eta'"),
        (("generate", "a car", "--sampler", "DPM2 Karras"), "did you mean 'dpmpp_2s'"),
        (("generate", "x", "--ckpt", "m"), "'--model'"),
        (("generate", "x", "--bogus-thing", "m"), "unknown option '--bogus-thing' (accepted: --num-images"),
        (("--versoin",), "'--version'"),
        (("edit", "inpaint", "a.png", "x", "--mask-image", "m.png"), "'--mask'"),
    ],
)
def test_options(capfd, args, said):
    assert said in bad(capfd, *args)


def test_every_command_of_the_table_exists():
    root = typer.main.get_command(app)
    paths = set(root.commands) | {
        f"{n} {sub}" for n, c in root.commands.items() for sub in getattr(c, "commands", ())
    }
    for ours, _ in names.COMMANDS:
        first = ours.split("|")[0].strip()
        assert first in paths or first in ("--help", "--version"), first


def test_every_option_of_the_table_exists():
    known: set[str] = set()
    todo = [typer.main.get_command(app)]
    while todo:
        command = todo.pop()
        known |= {o for p in command.params for o in p.opts}
        todo += getattr(command, "commands", {}).values()
    missing = {
        n.strip() for ours, _ in names.OPTIONS for n in ours.split("|") if n.strip().startswith("--")
    } - known
    assert missing <= {"--vae", "--resume", "--overwrite"}, missing  # not of every branch of the work


@pytest.mark.parametrize("args", [(), ("edit",), ("data",), ("lab",)])
def test_a_group_alone_prints_its_help_as_help(capfd, args):
    code, out, err = run(capfd, *args)
    assert code == 0 and err == "" and out.startswith("Usage: unnoise") and out.count("\n") > 8
    assert out.strip() == run(capfd, *args, "--help")[1].strip()
