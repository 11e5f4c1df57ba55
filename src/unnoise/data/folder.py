"""A folder of images as one uint8 array (n, h, w, c), with captions or class labels where the folder holds them.

    captions   `metadata.jsonl` in the folder, a line an image: {"file_name": "a/1.png", "text": "a red apple"}; else a
               text file beside each image (a/1.txt). Captions for some images only are an error.
    labels     without captions: the first subfolder's name, when every image lies in one ("ankle_boot" -> "ankle boot")
    splits     a folder of nothing but `train/`, `test/` and `validation/` is read by split; any other is all "train"

Images are found recursively in the order of their paths, turned as their EXIF says, first frame only. Channels: the fewest
that hold every image without loss: grey among colours becomes colour, opaque among transparent gets alpha 255.
"""
from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from unnoise.data.dataset import Data
from unnoise.errors import BadInput, unknown

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
SPLITS = ("train", "test", "validation")
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
GREY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L")
TURNED = (5, 6, 7, 8)  # the EXIF orientations that swap width and height
ORIENTATION = 0x0112


def load_folder(path: Path, split: str = "train") -> Data:
    """The images under `path`. Raises BadInput, naming the file, for no images, mixed sizes, a broken image or caption."""
    root = _split_root(path, split)
    files = _images(root)
    if not files:
        raise BadInput(f"no images in {root} (looked in all its subfolders for {' '.join(SUFFIXES)})")
    (width, height), channels = _survey(files)
    x = np.empty((len(files), height, width, channels), dtype=np.uint8)
    for into, file in zip(x, files):
        into[:] = _decode(file, channels)
    captions = _captions(root, files)
    labels, words = (None, ()) if captions else _labels(root, files)
    return Data(x, labels, words, captions, str(path), split, "unknown")


def _images(root: Path) -> list[Path]:
    found = (p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    visible = (p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts))
    return sorted(visible, key=lambda p: p.relative_to(root).as_posix())


def _split_root(path: Path, split: str) -> Path:
    """`path/split` in a folder of splits alone, so that a class that happens to be called "train" is not taken for one."""
    inside = [p.name for p in sorted(path.iterdir()) if p.is_dir() or p.suffix.lower() in SUFFIXES]
    splits = inside if inside and set(inside) <= set(SPLITS) else []
    if split not in (splits or ["train"]):
        raise unknown(f"split of {path}", split, splits or ["train"])
    return path / split if splits else path


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """The image, open; whatever its decoder raises in the body becomes one BadInput that names the file."""
    try:
        with Image.open(file) as image:
            yield image
    except BadInput:
        raise
    except Exception as error:  # OSError, SyntaxError, ValueError, struct.error, …: Pillow promises none in particular
        raise BadInput(f"cannot read image {file}: {error}") from error


def _survey(files: list[Path]) -> tuple[tuple[int, int], int]:
    """((width, height), channels) of all images, from their headers alone: a folder that cannot be used is refused early."""
    colour = alpha = False
    first = (0, 0)
    for file in files:
        with _opened(file) as image:
            w, h = image.size
            size = (h, w) if image.getexif().get(ORIENTATION) in TURNED else (w, h)
            colour |= image.mode not in GREY
            alpha |= image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info
        first = size if file is files[0] else first
        if size != first:
            raise BadInput(f"images of different sizes: {files[0]} is {first[0]}x{first[1]}, {file} is {size[0]}x{size[1]}; "
                           "make them one size first")
    return first, 1 + 2 * colour + alpha


def _decode(file: Path, channels: int) -> np.ndarray:
    """(h, w, channels) uint8; 16-bit grey is scaled, not cut, to 8 bits."""
    with _opened(file) as image:
        if image.mode in ("I", "F"):
            raise BadInput(f"cannot read image {file}: mode {image.mode} (32 bits a value); store it as .npy instead")
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):
            image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
        pixels = np.asarray(image.convert(MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def _captions(root: Path, files: list[Path]) -> tuple[str, ...] | None:
    metadata = root / "metadata.jsonl"
    names = [file.relative_to(root).as_posix() for file in files]
    if metadata.is_file():
        texts = _read_metadata(metadata)
        if strange := next((name for name in texts if name not in set(names)), None):
            raise BadInput(f"{metadata} names {strange!r}, which is not an image in {root}")
    else:
        beside = {name: file.with_suffix(".txt") for name, file in zip(names, files)}
        texts = {name: _text(text).strip() for name, text in beside.items() if text.is_file()}
        if not texts:
            return None
    if missing := next((name for name in names if name not in texts), None):
        where = metadata if metadata.is_file() else f"text files beside the images in {root}"
        raise BadInput(f"captions for {len(texts)} of {len(files)} images ({where}): none for {missing}")
    return tuple(texts[name] for name in names)


def _read_metadata(metadata: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, line in enumerate(_text(metadata).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, text = row["file_name"], row["text"]
        except (json.JSONDecodeError, KeyError, TypeError):
            name = text = None
        if not (isinstance(name, str) and isinstance(text, str)):
            raise BadInput(f'{metadata}, line {number}: expected {{"file_name": "…", "text": "…"}}, got {line.strip()[:80]}')
        if name in texts:
            raise BadInput(f"{metadata}, line {number}: a second caption for {name!r}")
        texts[name] = text
    return texts


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _labels(root: Path, files: list[Path]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    parts = [file.relative_to(root).parts for file in files]
    if any(len(part) == 1 for part in parts):
        return None, ()
    names = [part[0].replace("_", " ").replace("-", " ").strip() for part in parts]
    number = {name: i for i, name in enumerate(sorted(set(names)))}
    return np.array([number[name] for name in names], dtype=np.int64), tuple(number)
