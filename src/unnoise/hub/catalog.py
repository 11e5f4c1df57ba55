"""Which folder or file a model's name stands for: a bundled one, a local one, one that was fetched."""

from __future__ import annotations

import os
from pathlib import Path

from unnoise.base.errors import BadInput, unknown
from unnoise.base.text import one_line, short
from unnoise.hub.index import read_index

BUNDLED = Path(__file__).parent.parent / "models"
FAMILIES = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "UnnoisePipeline",
)
# parts of families that are not built here
_FOREIGN = {"text_encoder_2", "text_encoder_3", "transformer", "prior", "image_encoder_2", "vqvae", "movq"}


def find(name: str | os.PathLike) -> Path:
    """Where a model lies: a local folder or checkpoint file, a bundled name, or a hub id that was fetched.
    BadInput names these.
    """
    given, path = os.fspath(name), Path(name)
    if given and os.path.isdir(path):
        return path
    if given in bundled():
        return BUNDLED / given
    if os.path.isfile(path):
        return path
    if os.path.lexists(path):
        raise BadInput(
            f"{path} is neither a folder nor a file that can be read (a broken link?): give a model folder"
        )
    from unnoise.hub import fetch

    fetched = fetch.local(given)
    if fetched:
        return fetched
    if given.count("/") == 1 and not given.startswith((".", "/", "~")):
        raise BadInput(
            f"model {short(given, 200)} is neither a folder nor fetched: unnoise fetch {one_line(given, 200)}"
            f" gets it (bundled: {', '.join(bundled())})"
        )
    raise unknown(
        "model",
        name,
        [*bundled(), "a model folder", "a .safetensors checkpoint", "owner/model, once fetched"],
    )


def bundled() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(p.parent.name for p in BUNDLED.glob("*/model_index.json"))


def model_of(path: Path) -> Path:
    """The model folder: `path`, or the one above where `path` is the folder of one of its parts."""
    above = path.absolute().parent
    alone = not os.path.lexists(path / "model_index.json") and os.path.isfile(path / "config.json")
    if alone and os.path.isfile(above / "model_index.json") and path.absolute().name in read_index(above):
        return above
    return path


def check_family(index: dict, path: Path) -> None:
    """BadInput for a model of another family (SDXL, SD3, Flux, …), which it names."""
    family = index.get("_class_name")
    foreign = [k for k in sorted(set(index) & _FOREIGN) if isinstance(index[k], list) and any(index[k])]
    ours = "unnoise" in str(index.get("_unnoise_version", ""))
    if foreign or (isinstance(family, str) and family not in FAMILIES and not ours):
        part = f" with {foreign[0]}" if foreign else ""
        raise BadInput(
            f"{path} holds a {family}{part}, which is not supported"
            f" (supported: Stable Diffusion 1.x and 2.x in one of {', '.join(FAMILIES)})"
        )
