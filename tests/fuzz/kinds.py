"""The kinds of input, each a function (rng, nest, place) -> (command line, names in `out` it may write into).

A case's own copies of what it damages lie in place/in; what is only needed lies in the nest.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz import mutate
from tests.fuzz.nest import RECIPE, png_with

Made = tuple[list[str], tuple[str, ...]]
NAMES = ("given",) * 8 + (
    "gi ven é",
    "g\x1b]0;owned\x07",
    "[/b][bold]",
    "g\u202e",
    "\udcff",
    "g\nh",
    "%s{}",
    "x" * 120,
)
DRAW = ("--steps", "1", "--seed", "1", "--device", "cpu", "--dtype", "fp32")
SMALL = (
    "--height",
    "16",
    "--width",
    "16",
)  # single files say nothing of a size: they are taken to draw 512 x 512


def make(kind: str, number: int, seed: int, nest: Path, place: Path) -> Made:
    """Build case `number` of a kind in the folder `place`; returns its command line and what may change."""
    (place / "in").mkdir(parents=True)
    (place / "out").mkdir()
    return KINDS[kind](Random(f"{kind}/{seed}/{number}"), nest, place)


# --- models ---------------------------------------------------------------------------------------------


def folders(rng: Random, nest: Path, place: Path) -> Made:
    """A model folder with one or a few files damaged; mostly without the hashes that would tell at once."""
    source = rng.choice(("pixels", "pixels", "sd", "sd", "vectors"))
    folder = _copy(rng, nest / source, place)
    if rng.random() < 0.8:
        _without_hashes(folder / "model_index.json")
    for _ in range(rng.choice((1, 1, 1, 2))):
        _damage(rng, folder)
    return _use_model(rng, folder, source), ()


def _damage(rng: Random, folder: Path) -> None:
    """One file of a model folder, tokenizer or run: its text, its JSON, its tensors, or the file itself."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink()]
    if not files:
        return
    file = (
        rng.choice([p for p in files if p.suffix == ".json"] or files)
        if rng.random() < 0.6
        else rng.choice(files)
    )
    kind = rng.random()
    if kind < 0.08:
        mutate.odd_file(rng, file, folder)
    elif file.suffix == ".json" and kind < 0.85:
        mutate.odd_json_file(rng, file)
    elif file.suffix == ".safetensors" and kind < 0.85:
        mutate.change(file, lambda raw: mutate.odd_safetensors(rng, raw))
    else:
        mutate.change(file, lambda raw: mutate.some_bytes(rng, raw))


def _use_model(rng: Random, model: Path, source: str) -> list[str]:
    prompt = {"pixels": "a t-shirt", "sd": "a red cat"}.get(source, "")
    ways = [
        ["info", str(model), "--json"],
        ["info", str(model)],
        ["info", str(model), "--no-hash"],
        ["generate", prompt, "--model", str(model), *DRAW, "-o", "made.png"],
    ]
    if source == "sd":
        ways += [["tokens", prompt, "--model", str(model)]]
    if source == "pixels":
        ways += [["generate", prompt, "--model", str(model), *DRAW, "-o", "made.png", "--json"]]
    return rng.choice(ways)


def checkpoints(rng: Random, nest: Path, place: Path) -> Made:
    """A single-file checkpoint whose header, shapes or numbers are damaged."""
    file = _file(
        rng, place, rng.choice((".safetensors", ".safetensors", ".safetensors", ".SAFETENSORS", ".ckpt", ""))
    )
    shutil.copy(nest / "sd.safetensors", file)
    if rng.random() < 0.05:
        mutate.odd_file(rng, file, place / "in")
    else:
        mutate.change(file, lambda raw: mutate.odd_safetensors(rng, raw))
    more = rng.choice(
        ((), (), ("--prediction", rng.choice(("epsilon", "v_prediction", "x"))), ("--variant", "fp16"))
    )
    draw = [
        "generate",
        "a red cat",
        "--model",
        str(file),
        "--tokenizer",
        str(nest / "tokenizer"),
        *DRAW,
        *SMALL,
        "-o",
        "made.png",
        *more,
    ]
    return rng.choice((["info", str(file)], ["info", str(file), "--json"], draw, draw)), ()


def tokenizers(rng: Random, nest: Path, place: Path) -> Made:
    """A tokenizer's folder in one of its two forms, damaged."""
    folder = _copy(rng, nest / rng.choice(("tokenizer", "whole")), place)
    for _ in range(rng.choice((1, 1, 2))):
        _damage(rng, folder)
    text = rng.choice(("a red cat", "a (red:1.2) cat é 富", "", "🙂 apples"))
    draw = [
        "generate",
        "a red cat",
        "--model",
        str(nest / "sd.safetensors"),
        "--tokenizer",
        str(folder),
        *DRAW,
        *SMALL,
        "-o",
        "made.png",
    ]
    tell = ["tokens", text, "--tokenizer", str(folder)]
    return rng.choice((tell, tell, [*tell, "--json"], draw)), ()


# --- pictures -------------------------------------------------------------------------------------------


def pictures(rng: Random, nest: Path, place: Path) -> Made:
    """A damaged picture as what is edited, as a mask, as the target of a guide."""
    source = rng.choice(sorted((nest / "pictures").iterdir()))
    file = _file(rng, place, rng.choice((source.suffix, source.suffix, ".png", ".jpg", "")))
    shutil.copy(source, file)
    if rng.random() < 0.04:
        mutate.odd_file(rng, file, place / "in")
    else:
        mutate.change(file, lambda raw: mutate.odd_picture(rng, raw))
    whole, model = str(nest / "pictures" / "rgb.png"), ("--model", str(nest / "sd"), *SMALL)
    short = ("--steps", "1", "--seed", "1", "-o", "made.png")
    ways = (
        ["edit", "image-to-image", str(file), "a cat", *model, *short],
        ["edit", "denoise", str(file), *model, "-o", "made.png"],
        ["edit", "inpaint", str(file), "a cat", "--mask", whole, *model, *short],
        ["edit", "inpaint", whole, "a cat", "--mask", str(file), *model, *short],
        ["generate", "a cat", *model, *short, "--guide", f"target={file}:1"],
        ["replay", str(file), "--model", str(nest / "sd"), "-o", "made.png"],
    )
    return rng.choice(ways), ()


def recipes(rng: Random, nest: Path, place: Path) -> Made:
    """A PNG whose recipe was edited, shortened, written by another version or by somebody else."""
    source = rng.choice(sorted((nest / "recipes").glob("*.png")))
    file = _file(rng, place, ".png")
    text = _recipe_of(source)
    kind = rng.random()
    if kind < 0.75:
        file.write_bytes(png_with(_latin(mutate.odd_json(rng, json.loads(text)))))
    elif kind < 0.85:
        file.write_bytes(png_with(_latin(mutate.some_bytes(rng, text.encode()))))
    else:
        file.write_bytes(mutate.odd_png(rng, source.read_bytes()))
    name = json.loads(text).get("model") or json.loads(text).get("grid", [{}])[0].get("model", "")
    model = str(nest / ("sd" if source.stem in ("latent", "edit") else "pixels"))
    argv = ["replay", str(file), "-o", "made.png", *(("--json",) if rng.random() < 0.3 else ())]
    return [*argv, *(("--model", model) if name and rng.random() < 0.95 else ())], ()


@cache
def _recipe_of(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as im:
        return im.text["unnoise"]  # type: ignore[attr-defined]


def _latin(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


# --- data and training ----------------------------------------------------------------------------------


def datasets(rng: Random, nest: Path, place: Path) -> Made:
    """A folder or a file of data, damaged."""
    source = rng.choice(
        [p for p in sorted((nest / "data").iterdir()) if p.name != "files"]
        + sorted((nest / "data" / "files").iterdir()) * 2
    )
    if source.is_dir():
        given = _copy(rng, source, place)
        for _ in range(rng.choice((1, 1, 2, 3))):
            _damage_data(rng, given)
    else:
        given = _file(rng, place, source.suffix)
        how = {".npy": mutate.odd_npy, ".npz": mutate.odd_npz}.get(source.suffix, mutate.some_bytes)
        how = how if rng.random() < 0.75 else mutate.some_bytes
        given.write_bytes(how(rng, source.read_bytes()))
    split = ("--split", rng.choice(("test", "val", "x"))) if rng.random() < 0.15 else ()
    return (
        rng.choice(
            (
                ["data", "info", str(given), *split],
                ["data", "info", str(given), "--json", *split],
                ["data", "preview", str(given), "-o", "made.png", "-n", "4", *split],
            )
        ),
        (),
    )


def _damage_data(rng: Random, folder: Path) -> None:
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink()]
    if not files:
        return
    file, kind = rng.choice(files), rng.random()
    if kind < 0.15:
        mutate.odd_file(rng, file, folder)
    elif kind < 0.25:
        file.with_name(
            rng.choice((".DS_Store", "x.txt", "notes.md", "metadata.jsonl", "y.png", "z.gif"))
        ).write_bytes(mutate.foreign(rng, b"x"))
    elif kind < 0.3:
        (file.parent / rng.choice(("Train", "val", "a\x1b[31m", "empty"))).mkdir(exist_ok=True)
    elif file.suffix in (".png", ".jpg"):
        mutate.change(file, lambda raw: mutate.odd_picture(rng, raw))
    elif file.suffix == ".jsonl" and kind < 0.8:
        mutate.odd_lines(rng, file)
    else:
        mutate.change(file, lambda raw: mutate.some_bytes(rng, raw))


def runs(rng: Random, nest: Path, place: Path) -> Made:
    """A training to go on with, whose folder was damaged."""
    run = place / "out" / "run"
    shutil.copytree(nest / "run", run)
    recipe = place / "in" / "recipe.toml"
    shutil.copy(nest / "recipe.toml", recipe)
    for _ in range(rng.choice((1, 1, 2))):
        _damage_run(rng, run)
    steps = ("--steps", "3") if rng.random() < 0.2 else ()
    return [
        "train",
        str(recipe),
        "--out",
        "run",
        "--resume",
        *steps,
        *(("--json",) if rng.random() < 0.5 else ()),
    ], ("run",)


def _damage_run(rng: Random, run: Path) -> None:
    if rng.random() < 0.7:
        return _damage(rng, run)
    point = sorted((run / "checkpoints").iterdir())[-1]
    kind = rng.choice(("gone", "later", "odd", "log", "signed"))
    if kind == "gone":
        shutil.rmtree(point)
    elif kind == "later" and point.is_dir():
        with suppress(OSError):  # pipes that are in it; or it is there already
            shutil.copytree(point, point.with_name("step-99999999"), symlinks=True)
    elif kind == "odd":
        (
            point.parent
            / rng.choice(("step-" + "9" * 40, "step-٣", "step-x", "step-00000003", "a\x1b[2J", ".tmp-step-1"))
        ).mkdir()
    elif kind == "log":
        (run / "log.jsonl").write_bytes(
            mutate.odd_json(rng, {"event": "train", "step": 1}) + b"\n" + mutate.foreign(rng, b"{}\n")
        )
    elif kind == "signed":
        _sign(rng, point)


def _sign(rng: Random, point: Path) -> None:
    """Damage a file of a checkpoint, and put its new hash into the manifest: somebody meant it."""
    import hashlib

    files = [p for p in sorted(point.glob("*")) if p.is_file() and p.name != "manifest.json"]
    if not files or not (point / "manifest.json").is_file():
        return
    file = rng.choice(files)
    if file.suffix == ".json":
        mutate.odd_json_file(rng, file)
    else:
        mutate.change(file, lambda raw: mutate.odd_safetensors(rng, raw))
    try:
        manifest = json.loads((point / "manifest.json").read_bytes())
    except ValueError:
        return
    if isinstance(manifest, dict):
        manifest[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
        (point / "manifest.json").write_text(json.dumps(manifest))


TOML = (
    "nan",
    "inf",
    "-inf",
    "true",
    "1e400",
    "-1",
    "0",
    "9" * 400,
    "9" * 5000,
    '"x"',
    "[]",
    "{}",
    "[[1]]",
    '"\\u001b]0;owned\\u0007"',
    "1979-05-27",
    "1e9",
    "{ a = 1 }",
    "'''\n'''",
    '"[/b] [bold]"',
    "2",
    "1000000000",
    "[" * 3000 + "]" * 3000,
    '"\\ud800"',
    '"/dev/zero"',
    '""',
    "0.5",
    "[0.5, 0.5, 0.5]",
    '"classifier"',
    '"unet"',
    '"mlp"',
    '"classify"',
    '"linear"',
    '"bf16"',
    "0x10",
    '"\\u202e"',
)
LINES = (
    "[train]",
    "[net]",
    "name = 1",
    "x = 1",
    "[data.x]\ny = 1",
    "[[train]]",
    "low = 2",
    "masked = true",
    'start = "digits"',
    "\x1b[31m = 1",
    '"\\u001b]0;owned\\u0007" = 1',
    "seed = 1",
    "patch = 3",
    'text = "x"',
    "= 1",
    "[",
    'task = "score"',
    "compile = 1",
    "workers = 1000000",
    "a.b.c.d = 1",
    "# \x00",
    "#\x85",
    "é = 1",
    'export = "ema2"',
    "size = 64",
)


def toml(rng: Random, nest: Path, place: Path) -> Made:
    """A recipe of a training with other values, keys, lines or bytes."""
    lines = RECIPE.replace("DATA", str(nest / "data.npy")).split("\n")
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        i = rng.randrange(len(lines))
        valued = [k for k, line in enumerate(lines) if " = " in line]
        kind = rng.choice(("put", "put", "put", "drop", "name", "add", "twice"))
        if kind == "put" and valued:
            i = rng.choice(valued)
            lines[i] = f"{lines[i].split(' = ')[0]} = {rng.choice(TOML)}"
        elif kind == "drop":
            del lines[i]
        elif kind == "name":
            lines[i] = lines[i].replace(" = ", rng.choice(("s = ", "\x1b[31m = ", " == ", " = = ", ".x = ")))
        elif kind == "add":
            lines.insert(i, rng.choice(LINES))
        else:
            lines.insert(i, lines[i])
    raw = "\n".join(lines).encode("utf-8", "surrogatepass")
    if rng.random() < 0.15:
        raw = mutate.some_bytes(rng, raw)
    file = _file(rng, place, ".toml")
    file.write_bytes(raw)
    if rng.random() < 0.03:
        mutate.odd_file(rng, file, place / "in")
    steps = (
        () if len(re.findall(rb"(?m)^steps *= *\d{1,3}$", raw)) == 1 else ("--steps", "2")
    )  # a billion would be meant
    return ["train", str(file), "--out", "run", *steps, *(("--json",) if rng.random() < 0.3 else ())], ()


# --- what is typed --------------------------------------------------------------------------------------

PIECES = (
    "a",
    "red",
    "cat",
    "t-shirt",
    "(",
    ")",
    "((",
    "))",
    "[",
    "]",
    "{",
    "}",
    ":",
    "::",
    "|",
    "||",
    ",",
    "\\",
    "\\(",
    "AND",
    "BREAK",
    "1.2",
    "0",
    "-1",
    "1e999",
    "nan",
    "inf",
    "0.5",
    ":1.3)",
    ":0.5]",
    ":2:",
    " ",
    "\t",
    "\n",
    "é",
    "e\u0301",
    "富士山",
    "🙂",
    "👩‍👩‍👧",
    "ﷺ" * 9,
    "<|endoftext|>",
    "<|startoftext|>",
    "<lora:x:1>",
    "</w>",
    "\u200b",
    "ｆｕｌｌ",
    "İ",
    "ß",
    "a" * 90,
    *mutate.ESCAPES,
)


def prompts(rng: Random, nest: Path, place: Path) -> Made:
    """A prompt that no grammar expects, wherever a prompt can stand."""
    text = odd_prompt(rng)
    sd, pixels = ("--model", str(nest / "sd")), ("--model", str(nest / "pixels"))
    tell = [
        "tokens",
        text,
        "--tokenizer",
        str(nest / rng.choice(("tokenizer", "whole"))),
        "--steps",
        rng.choice(("1", "20")),
    ]
    ways = (
        tell,
        [*tell, "--json"],
        ["generate", text, *sd, *DRAW, "-o", "made.png"],
        ["generate", text, *pixels, *DRAW, "-o", "made.png"],
        ["generate", "a cat", *sd, *DRAW, "-o", "made.png", "--negative", text],
        ["generate", text, *sd, *DRAW, "--json"],
        ["generate", "a cat", *sd, *DRAW, "-o", "made.png", "--guide", text],
        ["generate", "a cat", *sd, *DRAW, "-o", "made.png", "--guide", f"clip={text}:1"],
        ["generate", "a cat", *pixels, *DRAW, "-o", "made.png", "--option", text],
    )
    return [a for a in rng.choice(ways) if a is not None], ()


def odd_prompt(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.05:
        return rng.choice(("(", "[", "((", "[a:", "a|", "{")) * rng.choice((100, 3000))
    if kind < 0.1:
        return rng.choice(("a ", "cat, ", "[a:b:0.5]", "[a|b]", "(a:1.1)", "\\", "🙂")) * rng.choice(
            (100, 5000)
        )
    if kind < 0.15:
        return "[" * 50 + "a" + ":b:0.5]" * 50
    if kind < 0.2:
        return "[a|b|c]" * rng.choice((8, 20))
    return "".join(
        rng.choice(PIECES) + rng.choice(("", "", " ")) for _ in range(rng.choice((1, 2, 4, 8, 20)))
    )


WORDS = (
    "",
    "x",
    "-",
    "--",
    "---",
    "--x",
    "-n",
    "--help",
    "--json",
    "--debug=1",
    "=",
    "a=b",
    "eta=",
    "=0.5",
    "eta=x",
    "0",
    "1",
    "-1",
    "1.5",
    "nan",
    "inf",
    "-inf",
    "1e3",
    "1e400",
    "9" * 30,
    "9" * 5000,
    "0x10",
    "1_000",
    "１２",
    "٣",
    " 1",
    "1 ",
    "true",
    "None",
    "/",
    ".",
    "..",
    "/dev/null",
    "/dev/zero",
    "~",
    "https://x.y/z",
    "owner/model",
    "a/b/c",
    "ddim",
    "euler a",
    "emoji2",
    "digit",
    "cuda",
    "cuda:99",
    "meta",
    "fp32",
    "fp8",
    "2GB",
    "-2GB",
    "1e99GB",
    "guidance=1,2",
    "guidance=",
    "seed=1,1",
    "steps=1,x",
    "color=green:2",
    "color=green:nan",
    "target=x:1",
    "mean=0.5:1e400",
    "out/",
    "a.jpg",
    "x.png/y",
    "a\nb",
    *mutate.ESCAPES,
)
# what would work for minutes, or look for a network, if all were right: one word more than there should be
LONG = ("evaluate", "lab run", "data fetch", "fetch", "models", "edit imagic")
OWN = {
    **{"image": "pictures/rgb.png", "mask": "pictures/bits.png", "file": "recipes/one.png", "what": "pixels"},
    **{
        "recipe": "recipe.toml",
        "text": "a red cat",
        "prompt": "a red cat",
        "target": "a blue cat",
        "model": "sd",
    },
    **{
        "tokenizer": "tokenizer",
        "output": "made.png",
        "out": "run",
        "steps": "1",
        "seed": "1",
        "height": "16",
    },
    **{"width": "16", "device": "cpu", "dtype": "fp32", "n": "1", "count": "2"},
    **{"embedding_steps": "1", "tuning_steps": "1"},
}


def commands(rng: Random, nest: Path, place: Path) -> Made:
    """A command line with options and values that do not belong there; of every command there is."""
    name, params = rng.choice(_all_commands())
    argv = _expected(name, params, nest)
    if name in LONG:
        argv.append(rng.choice(WORDS))
    for _ in range(rng.choice((1, 1, 2, 3))):
        argv = _misspelt(rng, argv, params)
    return [*name.split(), *argv], ()


@cache
def _all_commands() -> list[tuple[str, tuple[Any, ...]]]:
    """(name, its parameters) of every command, from the command line's own tree."""
    import typer

    from unnoise.cli.main import app

    found: list[tuple[str, tuple[Any, ...]]] = []

    def walk(command: Any, name: str) -> None:
        for part, inner in sorted(getattr(command, "commands", {}).items()):
            walk(inner, f"{name} {part}".strip())
        if not hasattr(command, "commands"):
            found.append((name, tuple(command.params)))

    walk(typer.main.get_command(app), "")
    return found


def _expected(name: str, params: tuple[Any, ...], nest: Path) -> list[str]:
    """A command line that works, or nearly: arguments, and those options that keep it short."""
    own = lambda key: str(nest / v) if (v := OWN[key]).split("/")[0] in os.listdir(nest) else v
    argv = [own(p.name) if p.name in OWN else "x" for p in params if p.param_type_name == "argument"]
    if name.startswith("data"):
        argv = [str(nest / "data" / "captions") for _ in argv]
    for p in params:
        if p.param_type_name == "option" and p.name in OWN and p.name not in ("mask", "prompt", "tokenizer"):
            argv += [max(p.opts, key=len), own(p.name)]
    return argv


def _misspelt(rng: Random, argv: list[str], params: tuple[Any, ...]) -> list[str]:
    """One word left out, put in, replaced, doubled or exchanged; or one more option with an odd value."""
    argv, i = list(argv), rng.randrange(len(argv) + 1)
    options = [p for p in params if p.param_type_name == "option"]
    kind = rng.choice(("option", "option", "option", "put", "put", "drop", "add", "twice", "swap", "letters"))
    if kind == "option" and options:
        p = rng.choice(options)
        return [*argv, rng.choice(p.opts), *(() if getattr(p, "is_flag", False) else (rng.choice(WORDS),))]
    if kind == "add" or not argv:
        return [*argv[:i], rng.choice(WORDS), *argv[i:]]
    i %= len(argv)
    if kind == "drop":
        del argv[i]
    elif kind == "twice":
        argv.insert(i, argv[i])
    elif kind == "letters":
        argv[i] = argv[i][: rng.randrange(len(argv[i]) + 1)] + rng.choice(("", "s", "é", "\x1b[31m"))
    elif kind == "swap":
        argv[i], argv[0] = argv[0], argv[i]
    else:
        argv[i] = rng.choice(WORDS)
    return argv


# --- small helpers --------------------------------------------------------------------------------------


def _file(rng: Random, place: Path, suffix: str) -> Path:
    """Where the case's file shall lie: half of the time under a name that terminals stumble over."""
    path = place / "in" / (rng.choice(NAMES) + suffix)
    path.parent.mkdir(exist_ok=True)
    return path


def _copy(rng: Random, source: Path, place: Path) -> Path:
    return Path(shutil.copytree(source, place / "in" / rng.choice(NAMES)))


def _without_hashes(index: Path) -> None:
    d = json.loads(index.read_bytes())
    d.pop("_sha256", None)
    index.write_text(json.dumps(d))


KINDS: dict[str, Callable[[Random, Path, Path], Made]] = {
    "folders": folders,
    "checkpoints": checkpoints,
    "tokenizers": tokenizers,
    "pictures": pictures,
    "recipes": recipes,
    "datasets": datasets,
    "runs": runs,
    "toml": toml,
    "prompts": prompts,
    "commands": commands,
}
