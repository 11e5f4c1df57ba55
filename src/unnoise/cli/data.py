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
    from unnoise.data import SOURCES, load, order

    if what in SOURCES and SOURCES[what].size and split != "unseen":
        return _preview_scenes(what, output, count, seed, split, overwrite, as_json)
    data = load(what, split)
    indices = [order(len(data), seed, i) for i in range(min(count, len(data)))]
    sheet = contact_sheet(data.x[indices], what)
    output = _save(sheet, output, overwrite)
    captions = [data.caption(i) for i in indices]
    if as_json:
        return _print_json(
            {"file": str(output), "indices": indices, "captions": captions, "size": list(sheet.size)}
        )
    say(output)


def _preview_scenes(
    name: str, output: Path, count: int, seed: int, split: str, overwrite: bool, as_json: bool
) -> None:
    from unnoise.worlds.emoji.scenes import Scenes

    x, captions = Scenes(name, split).render_many(seed, range(count), 128 if name == "emoji-128" else 64)
    sheet = labelled_sheet(x, captions)
    output = _save(sheet, output, overwrite)
    if as_json:
        return _print_json(
            {
                "file": str(output),
                "indices": list(range(count)),
                "captions": captions,
                "size": list(sheet.size),
            }
        )
    say(output)


def labelled_sheet(x: np.ndarray, captions: list[str]) -> Image.Image:
    """Images (n, h, h, 3) uint8 in rows, near square, each 128 pixels wide with its caption below."""
    import textwrap

    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    side, below, letters = LABELLED
    columns, font = int(np.ceil(np.sqrt(len(x)))), ImageFont.load_default(10)
    cell = side + 2 * MARGIN, side + below
    sheet = Image.new("RGB", (columns * cell[0], -(-len(x) // columns) * cell[1]), (225, 225, 225))
    pen = ImageDraw.Draw(sheet)
    for i, (pixels, text) in enumerate(zip(x, captions)):
        left, top = i % columns * cell[0] + MARGIN, i // columns * cell[1] + MARGIN
        sheet.paste(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC), (left, top))
        pen.text((left, top + side + 1), "\n".join(textwrap.wrap(text, letters)[:3]), fill="black", font=font)
    return sheet


def contact_sheet(x: np.ndarray, name: str) -> Image.Image:
    """Images (n, h, w, c) uint8 in rows from the left on white, near square; small ones enlarged by a whole
    factor.
    """
    import numpy as np
    from PIL import Image

    from unnoise.base.errors import BadInput

    if x.dtype != np.uint8 or x.ndim != 4:
        raise BadInput(f"{name} holds {x.dtype} {x.shape[1:]}, not images; preview draws uint8 (h, w, c)")
    n, h, w, c = x.shape
    factor, columns = max(1, TILE // max(h, w)), int(np.ceil(np.sqrt(n)))
    cell = (w * factor + MARGIN, h * factor + MARGIN)
    sheet = Image.new("RGB", (columns * cell[0] + MARGIN, -(-n // columns) * cell[1] + MARGIN), "white")
    for i, pixels in enumerate(x):
        image = Image.fromarray(pixels[..., 0] if c == 1 else pixels).convert("RGBA")
        image = image.resize((w * factor, h * factor), Image.Resampling.NEAREST)
        sheet.paste(image, (i % columns * cell[0] + MARGIN, i // columns * cell[1] + MARGIN), image)
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
    import io

    from PIL import Image

    from unnoise.base.errors import BadInput, unknown
    from unnoise.base.write import put, put_beside

    formats = Image.registered_extensions()
    if path.suffix.lower() not in formats:
        raise unknown("image suffix", path.suffix, [".png", ".jpg", ".webp"])
    if not path.parent.is_dir():
        raise BadInput(f"cannot write {path}: there is no folder {path.parent}")
    body = io.BytesIO()
    try:
        image.save(body, format=formats[path.suffix.lower()])
    except (OSError, ValueError, KeyError) as e:
        raise BadInput(f"cannot write {path}: {e}") from None
    if overwrite:
        return put(path, body.getvalue())
    made = put_beside(path, body.getvalue())
    if made != path:
        note(f"{path} is there already: written to {made} (--overwrite replaces it)")
    return made


def _print_json(value: dict) -> None:
    emit(value, True)
