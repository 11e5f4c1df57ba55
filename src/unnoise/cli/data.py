"""`unnoise data`: what data there is, fetch it, look at it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unnoise.base.text import clean
from unnoise.cli.common import console, emit, note, say

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from unnoise.data import Data

app = typer.Typer(help="Real data: list, fetch, preview.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Split = Annotated[
    str,
    typer.Option(
        help=(
            "train or test; scenes of emoji also have held_out and personal, their pictures personal and"
            " unseen."
        )
    ),
]
What = Annotated[
    str,
    typer.Argument(metavar="NAME_OR_PATH", help="A known set, or a folder of images, .npy, .npz or .csv."),
]
TILE = 56  # pixels a small image is enlarged to, so that 8x8 digits can be seen
LABELLED = (
    128,
    44,
    24,
)  # of a sheet with captions: pixels of a picture and of the lines under it, letters to a line
MARGIN = 2


@app.command("list")
def list_(as_json: Json = False) -> None:
    """The data sets known by name, their licence, and whether they are in the cache."""
    from unnoise.data import describe

    sets = describe()
    if as_json:
        return _print_json({"sets": sets})
    for s in sets:
        state = "in the cache" if s["cached"] else f"not fetched; run: unnoise data fetch {s['name']}"
        counts = ", ".join(f"{n} {split}" for split, n in s["count"].items())
        say(f"{s['name']:15}{s['what']} ({counts}); {state}")
        say(f"{'':15}licence: {s['licence']}\n{'':15}from: {s['provenance']}")


@app.command("fetch")
def fetch_(
    name: Annotated[str, typer.Argument(help="A known set, see `unnoise data list`.")], as_json: Json = False
) -> None:
    """Fetch a known set into the cache; what is there and whole is not fetched again."""
    from rich.text import Text

    from unnoise.data import fetch

    screen = console()
    try:
        with screen.status(
            Text(f"fetching {clean(name)}")
        ):  # as a Text, since a string would be read as markup
            files = fetch(name, lambda line: screen.print(clean(line)))
    except KeyboardInterrupt as e:
        raise type(e)("every file that was verified is kept; the same command goes on") from None
    if as_json:
        return _print_json({"name": name, "files": [str(file) for file in files]})
    for file in files:
        say(file)


@app.command("info")
def info(what: What, split: Split = "train", as_json: Json = False) -> None:
    """Shape, classes, licence, sha256 and pixel statistics of a set."""
    from unnoise.data import load

    facts = _facts(load(what, split))
    if as_json:
        return _print_json(facts)
    for key, value in facts.items():
        say(f"{key:9} {value}")


@app.command("preview")
def preview(
    what: What,
    output: Annotated[Path, typer.Option("-o", "--output", help="The image file to write.")] = Path(
        "sheet.png"
    ),
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many images.")] = 64,
    seed: Annotated[int, typer.Option(help="Which ones.")] = 0,
    split: Split = "train",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file of that name; else the new one gets a number.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a contact sheet of images, drawn as training would draw them; of the emoji sets, scenes with
    their captions.
    """
    from unnoise.data import SOURCES

    of_scenes = what in SOURCES and SOURCES[what].size and split != "unseen"
    sheet, indices, captions = (_scenes if of_scenes else _items)(what, count, seed, split)
    output = _save(sheet, output, overwrite)
    if as_json:
        return _print_json(
            {"file": str(output), "indices": indices, "captions": captions, "size": list(sheet.size)}
        )
    say(output)


def _items(what: str, count: int, seed: int, split: str) -> tuple[Image.Image, list[int], list[str | None]]:
    """A sheet of a set's items, which they are, and their captions."""
    from unnoise.data import load, order

    data = load(what, split)
    indices = [order(len(data), seed, i) for i in range(min(count, len(data)))]
    return contact_sheet(data.x[indices], what), indices, [data.caption(i) for i in indices]


def _scenes(name: str, count: int, seed: int, split: str) -> tuple[Image.Image, list[int], list[str]]:
    """A sheet of scenes of an emoji set under their captions."""
    from unnoise.worlds.emoji.scenes import Scenes

    indices, size = list(range(count)), 128 if name == "emoji-128" else 64
    x, captions = Scenes(name, split).render_many(seed, indices, size)
    return labelled_sheet(x, captions), indices, captions


def labelled_sheet(x: np.ndarray, captions: list[str]) -> Image.Image:
    """Images (n, h, h, 3) uint8 in rows, near square, each 128 pixels wide with its caption below."""
    import textwrap

    from PIL import Image, ImageDraw, ImageFont

    from unnoise.base.sheet import cells

    side, below, letters = LABELLED
    size, corners = cells(len(x), side + 2 * MARGIN, side + below)
    sheet, font = Image.new("RGB", size, (225, 225, 225)), ImageFont.load_default(10)
    pen = ImageDraw.Draw(sheet)
    for pixels, text, (left, top) in zip(x, captions, corners):
        picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
        sheet.paste(picture, (left + MARGIN, top + MARGIN))
        lines = "\n".join(textwrap.wrap(text, letters)[:3])
        pen.text((left + MARGIN, top + MARGIN + side + 1), lines, fill="black", font=font)
    return sheet


def contact_sheet(x: np.ndarray, name: str) -> Image.Image:
    """Images (n, h, w, c) uint8 in rows from the left on white, near square; small ones enlarged by a whole
    factor.
    """
    import numpy as np
    from PIL import Image

    from unnoise.base.errors import BadInput
    from unnoise.base.sheet import cells

    if x.dtype != np.uint8 or x.ndim != 4:
        raise BadInput(f"{name} holds {x.dtype} {x.shape[1:]}, not images; preview draws uint8 (h, w, c)")
    n, h, w, c = x.shape
    factor = max(1, TILE // max(h, w))
    (width, height), corners = cells(n, w * factor + MARGIN, h * factor + MARGIN)
    sheet = Image.new("RGB", (width + MARGIN, height + MARGIN), "white")
    for pixels, (left, top) in zip(x, corners):
        image = Image.fromarray(pixels[..., 0] if c == 1 else pixels).convert("RGBA")
        image = image.resize((w * factor, h * factor), Image.Resampling.NEAREST)
        sheet.paste(image, (left + MARGIN, top + MARGIN), image)
    return sheet


def _facts(data: Data) -> dict:
    import numpy as np

    facts = {
        "name": data.name,
        "split": data.split,
        "count": len(data),
        "shape": list(data.x.shape[1:]),
        "dtype": str(data.x.dtype),
        "mean": round(float(data.x.mean(dtype=np.float64)), 4),
        "std": round(float(data.x.std(dtype=np.float64)), 4),
        "licence": data.licence,
        "sha256": data.sha256,
    }
    if data.labels is not None:
        facts["classes"] = dict(zip(data.words, np.bincount(data.labels, minlength=len(data.words)).tolist()))
    if data.captions is not None:
        facts["captions"] = list(data.captions[:10])
    return facts


def _save(image: Image.Image, path: Path, overwrite: bool) -> Path:
    """Whole or not at all; the suffix chooses the format. Returns where: under a number where the name is
    taken, which is said.
    """
    from PIL import Image

    from unnoise.base.errors import BadInput, unknown
    from unnoise.base.write import put, put_beside

    formats = Image.registered_extensions()
    if path.suffix.lower() not in formats:
        raise unknown("image suffix", path.suffix, [".png", ".jpg", ".webp"])
    if not path.parent.is_dir():
        raise BadInput(f"cannot write {path}: there is no folder {path.parent}")
    body = _encoded(image, formats[path.suffix.lower()], path)
    if overwrite:
        return put(path, body)
    placed = put_beside(path, body)
    if placed != path:
        note(f"{path} is there already: written to {placed} (--overwrite replaces it)")
    return placed


def _encoded(image: Image.Image, form: str, path: Path) -> bytes:
    """The file's bytes. BadInput: this form cannot hold such an image."""
    import io

    from unnoise.base.errors import BadInput

    body = io.BytesIO()
    try:
        image.save(body, format=form)
    except (OSError, ValueError, KeyError) as e:
        raise BadInput(f"cannot write {path}: {e}") from None
    return body.getvalue()


def _print_json(value: dict) -> None:
    emit(value, True)
