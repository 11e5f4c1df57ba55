"""Folders of pictures as people have them: each is read, or refused in one line that names the file; nothing
is passed over.
"""

import json
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from unnoise.base import picture
from unnoise.data import load, splits
from unnoise.errors import BadInput

NFD, NFC = (unicodedata.normalize(form, "é.png") for form in ("NFD", "NFC"))


def put(path, colour="red", size=(6, 6), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def refuses(path, split="train"):
    with pytest.raises(BadInput) as error:
        load(path, split)
    assert "\n" not in str(error.value)
    return str(error.value)


def pair(folder, *names):
    for name in names or ("a.png", "b.png"):
        put(folder / name)
    return folder


def jsonl(file, rows, encoding="utf-8", end="\n"):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(
        end.join(r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in rows).encode(
            encoding
        )
    )


# --- metadata -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inside",
    ["line one\u2028line two", "wait\x85 what", "a\u2029b", "tab\there", "form\x0cfeed", "a cat, a dog"],
)
@pytest.mark.parametrize("end, encoding", [("\n", "utf-8"), ("\r\n", "utf-8-sig"), ("\n", "utf-16")])
def test_a_line_ends_at_a_line_feed_alone(tmp_path, inside, end, encoding):
    jsonl(
        pair(tmp_path) / "metadata.jsonl",
        [{"file_name": n, "text": f"{inside} {n}"} for n in ("a.png", "b.png")],
        encoding,
        end,
    )
    assert load(tmp_path).captions == (f"{inside} a.png", f"{inside} b.png")


@pytest.mark.parametrize(
    "name", ["./s/a.png", "s\\a.png", ".\\s\\a.png", "s//a.png", "./s/./a.png", "s/a.png"]
)
@pytest.mark.parametrize(
    "key, said", [("text", "file_name"), ("caption", "file_name"), ("prompt", "image"), ("text", "filename")]
)
def test_names_and_keys_as_people_write_them(tmp_path, name, key, said):
    jsonl(pair(tmp_path, "s/a.png") / "metadata.jsonl", [{said: name, key: "a cat", "width": 6, "tags": [1]}])
    assert load(tmp_path).captions == ("a cat",)


@pytest.mark.parametrize("there, told", [(NFD, NFC), (NFC, NFD), (NFD, NFD)])
def test_accents_composed_or_not(tmp_path, there, told):
    jsonl(pair(tmp_path, there) / "metadata.jsonl", [{"file_name": told, "text": "a cat"}])
    assert load(tmp_path).captions == ("a cat",)
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / told.replace(".png", ".txt")).write_text("a dog")
    assert load(tmp_path).captions == ("a dog",)


@pytest.mark.parametrize(
    "name", ["/a.png", "../a.png", "s/../a.png", "C:\\a.png", "A.PNG", "a", "file:///a.png", "s"]
)
def test_a_name_of_no_image_is_refused(tmp_path, name):
    jsonl(
        pair(tmp_path) / "metadata.jsonl",
        [{"file_name": name, "text": "x"}, {"file_name": "b.png", "text": "y"}],
    )
    assert "metadata.jsonl, line 1 names" in refuses(tmp_path) and "is not an image in" in refuses(tmp_path)


def test_two_files_in_one_spelling(tmp_path):
    pair(tmp_path, NFD, NFC)
    jsonl(
        tmp_path / "metadata.jsonl",
        [{"file_name": NFC, "text": "composed"}, {"file_name": "./" + NFD, "text": "not"}],
    )
    assert "could be" in refuses(tmp_path)
    jsonl(
        tmp_path / "metadata.jsonl",
        [{"file_name": NFC, "text": "composed"}, {"file_name": NFD, "text": "not"}],
    )
    assert set(load(tmp_path).captions) == {"composed", "not"}


def test_metadata_of_subfolders_and_in_capitals(tmp_path):
    pair(tmp_path, "cat/1.png", "cat/2.png", "dog/1.png")
    jsonl(tmp_path / "cat/metadata.jsonl", [{"file_name": f"{i}.png", "text": f"cat {i}"} for i in (1, 2)])
    assert "2 of 3 images" in refuses(tmp_path) and "dog/1.png" in refuses(tmp_path)
    (tmp_path / "dog/Metadata.CSV").write_text("file_name,text\n1.png,a dog\n")
    assert load(tmp_path).captions == ("cat 1", "cat 2", "a dog")
    jsonl(tmp_path / "metadata.jsonl", [{"file_name": "cat/1.png", "text": "again"}])
    assert "a second caption for" in refuses(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        'file_name,text\na.png,a cat\nb.png,"a dog, wet"\n',
        "\ufefffile_name;caption\r\na.png;a cat\r\nb.png;a dog, wet\r\n",
        "text\tfile_name\tn\na cat\ta.png\t1\na dog, wet\tb.png\t2",
        'Prompt,Image\na cat,.\\a.png\n\n"a dog, wet",./b.png\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_metadata_as_a_table(tmp_path, text, encoding):
    (pair(tmp_path) / "metadata.csv").write_bytes(
        text.lstrip("\ufeff").encode(encoding) if encoding == "utf-16" else text.encode(encoding)
    )
    assert load(tmp_path).captions == ("a cat", "a dog, wet")


@pytest.mark.parametrize(
    "text, reason",
    [
        ("file_name,text\na.png,a cat, wet\nb.png,x\n", "line 2: 3 cells"),
        ("file_name,text\na.png\nb.png,x\n", "line 2: 1 cells"),
        ("file_name,label\na.png,0\nb.png,1\n", "line 2: expected"),
        ("name,words\na.png,x\n", "expected a header"),
        ("", "expected a header"),
        ("a.png,a cat\nb.png,a dog\n", "expected a header"),
        ("file_name,text\na.png,a cat\n", "none for b.png"),
        ("file_name,text\na.png,\nb.png,x\n", "the caption is empty"),
        ("file_name,text\n", "captions for 0 of 2"),
        ("file_name,text,text\na.png,x,y\nb.png,x,y\n", "twice"),
        ("file_name,text\na.png,x\na.png,y\n", "a second caption"),
        ("file_name,text,caption\na.png,x,y\nb.png,x,y\n", "text and caption differ"),
        ('file_name,text\na.png,"x\nb.png,y\n', "comma-separated"),
        ("file_name,text\na.png,x\x00\nb.png,y\n", "NUL"),
    ],
)
def test_tables_that_are_refused(tmp_path, text, reason):
    (pair(tmp_path) / "metadata.csv").write_text(text)
    assert reason in refuses(tmp_path) and "metadata.csv" in refuses(tmp_path)


@pytest.mark.parametrize(
    "row",
    [
        '{"file_name": "a.png", "text": "x", "text": "y"}',
        "[" * 100_000,
        '{"file_name": "a.png", "text": "\\ud800"}',
        '{"file_name": "a\\u0000.png", "text": "x"}',
        '{"file_name": ["a.png"], "text": "x"}',
        '{"file_name": "a.png", "label": 3}',
        '{"file_name": "a.png", "text": ""}',
        '{"file_name": "a.png", "text": "x", "caption": "y"}',
        "1" * 5000,
        "a.png x",
    ],
)
def test_lines_that_are_refused(tmp_path, row):
    jsonl(pair(tmp_path) / "metadata.jsonl", [{"file_name": "b.png", "text": "fine"}, row])
    assert "metadata.jsonl, line 2" in refuses(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "metadata.json",
        "metadata.parquet",
        "metadata.tsv",
        "captions.json",
        "captions.txt",
        "Captions.csv",
        "prompts.txt",
        "captions.jsonl",
        "annotations.json",
    ],
)
def test_what_looks_like_captions_is_not_passed_over(tmp_path, name):
    (pair(tmp_path) / name).write_text("a.png a cat")
    assert name in refuses(tmp_path) and "accepted: metadata.jsonl or metadata.csv" in refuses(tmp_path)


# --- beside the images --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a.txt", "a.TXT", "a.caption", "a.Caption", "a.png.txt", "a.png.TXT", "a.png.caption"]
)
def test_names_of_caption_files(tmp_path, name):
    (pair(tmp_path, "a.png") / name).write_text("a cat\n")
    assert load(tmp_path).captions == ("a cat",)
    put(tmp_path / "b.png")
    assert "1 of 2 images" in refuses(tmp_path) and "none for b.png" in refuses(tmp_path)


@pytest.mark.parametrize(
    "raw, text",
    [
        ("un café".encode(), "un café"),
        ("\ufeffun café".encode(), "un café"),
        ("un café\r\n".encode("utf-16"), "un café"),
        (b"\xfe\xff" + "un café".encode("utf-16-be"), "un café"),
        ("a\u2028b".encode(), "a\u2028b"),
    ],
)
def test_encodings_that_are_read(tmp_path, raw, text):
    (pair(tmp_path, "a.png") / "a.txt").write_bytes(raw)
    assert load(tmp_path).captions == (text,)


@pytest.mark.parametrize(
    "raw, reason",
    [
        ("un café".encode("latin-1"), "not UTF-8"),
        ("wait…".encode("cp1252"), "not UTF-8"),
        ("一只红色的猫".encode("gb18030"), "UTF-8"),
        ("a cat".encode("utf-16-le"), "UTF-8"),
        ("a cat".encode("utf-16")[:-1], "UTF-16"),
        (b"", "empty"),
        (b" \n", "empty"),
        (b"a cat\na dog\n", "2 lines"),
        (b"x" * 70_000, "at most"),
    ],
)
def test_captions_that_are_refused(tmp_path, raw, reason):
    (pair(tmp_path, "a.png") / "a.txt").write_bytes(raw)
    assert reason in refuses(tmp_path) and "a.txt" in refuses(tmp_path)


@pytest.mark.parametrize(
    "pictures, texts, reason",
    [
        (["x.png", "x.jpg"], ["x.txt"], "x.txt could be the caption of x.jpg or of x.png"),
        (["x.png"], ["x.txt", "x.png.txt"], "both captions"),
        (["x.png"], ["x.txt", "x.caption"], "both captions"),
        (["cat 1.png"], ["cat1.txt"], "cat1.txt is the caption of no image"),
        (["images/a.png"], ["captions/a.txt"], "a.txt is the caption of no image"),
        (["a.png"], ["A.txt"], "A.txt is the caption of no image"),
        (["a.png"], ["a.txt", "b.txt"], "b.txt is the caption of no image"),
        (["a.png"], ["a.json"], "a.json lies beside an image"),
        (["a.png"], ["a.tags"], "a.tags lies beside"),
        (["c/a.png"], ["c/b.caption"], "b.caption is the caption of no image"),
    ],
)
def test_texts_that_belong_to_none_or_to_two(tmp_path, pictures, texts, reason):
    pair(tmp_path, *pictures)
    for name in texts:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("words")
    assert reason in refuses(tmp_path)


def test_two_images_of_one_stem_have_texts_of_their_own(tmp_path):
    pair(tmp_path, "x.png", "x.jpg")
    for name in ("x.png.txt", "x.jpg.txt"):
        (tmp_path / name).write_text(name[:5])
    assert load(tmp_path).captions == ("x.jpg", "x.png")


def test_texts_that_are_no_captions(tmp_path):
    pair(tmp_path, "cat/1.png", "dog/1.png")
    for name in ("README.txt", "LICENSE.txt", "cat/boxes.txt", "classes.txt"):
        (tmp_path / name).write_text("words")
    assert load(tmp_path).words == ("cat", "dog") and load(tmp_path).captions is None
    (tmp_path / "captions").mkdir()
    (tmp_path / "captions/1.txt").write_text("a cat")
    assert "captions/1.txt is the caption of no image" in refuses(tmp_path)


def test_captions_in_two_places(tmp_path):
    (pair(tmp_path, "a.png") / "a.txt").write_text("one")
    jsonl(tmp_path / "metadata.jsonl", [{"file_name": "a.png", "text": "two"}])
    assert "captions both in" in refuses(tmp_path)
    (tmp_path / "a.txt").unlink()
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,three\n")
    assert "metadata.csv and metadata.jsonl" in refuses(tmp_path)


# --- pictures -----------------------------------------------------------------------------------------------


def test_every_suffix_is_read(tmp_path):
    for name, kind in (
        ("1.png", "PNG"),
        ("2.jfif", "JPEG"),
        ("3.jpe", "JPEG"),
        ("4.JPG", "JPEG"),
        ("5.avif", "AVIF"),
        ("6.TIF", "TIFF"),
        ("7.ppm", "PPM"),
    ):
        put(tmp_path / name, format=kind)
    assert len(load(tmp_path)) == 7 and {".jfif", ".jpe", ".avif"} <= set(picture.SUFFIXES)


@pytest.mark.parametrize("name", ["b.heic", "b.HEIF", "sub/b.jxl", "b.svg", "b.tga", "b.psd", "b.nef"])
def test_pictures_that_are_not_read_are_named(tmp_path, name):
    pair(tmp_path, "a.png")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"anything")
    assert name in refuses(tmp_path) and ".avif" in refuses(tmp_path)


@pytest.mark.parametrize("cut", [1, 4, 8, 12, 13, 20, 40])
@pytest.mark.parametrize("content", ["flat", "noise"])
def test_a_png_without_its_end_is_refused(tmp_path, cut, content):
    x = (
        np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        if content == "noise"
        else np.full((16, 16, 3), 9, np.uint8)
    )
    Image.fromarray(x).save(tmp_path / "1.png")
    raw = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(raw[:-cut])
    assert "1.png cannot be read as a picture" in refuses(tmp_path)
    (tmp_path / "1.png").write_bytes(raw + b"what some cameras add")
    assert np.array_equal(load(tmp_path).x[0], x)


def test_a_png_with_changed_pixels_is_refused(tmp_path):
    put(tmp_path / "1.png", size=(32, 32))
    raw = bytearray((tmp_path / "1.png").read_bytes())
    raw[-17] ^= 1  # the check sum of its pixels
    (tmp_path / "1.png").write_bytes(raw)
    assert "1.png" in refuses(tmp_path)


@pytest.mark.parametrize(
    "first, mode, colour",
    [
        ("RGB", "RGBA", (1, 2, 3, 255)),
        ("RGB", "LA", (7, 255)),
        ("L", "LA", (7, 255)),
        ("RGBA", "RGBA", (1, 2, 3, 255)),
    ],
)
def test_opaque_alpha_is_dropped(tmp_path, first, mode, colour):
    plain = {"RGB": (9, 9, 9), "L": 9, "RGBA": (9, 9, 9, 255)}[first]
    put(tmp_path / "1.png", plain, mode=first), put(tmp_path / "2.png", colour, mode=mode)
    x = load(tmp_path).x
    assert x.shape[3] == (1 if first == "L" else 3)
    assert x[1, 0, 0].tolist() == ([7] * x.shape[3] if mode == "LA" else [1, 2, 3])


@pytest.mark.parametrize("alpha", [0, 4, 254])
def test_true_alpha_is_asked_about(tmp_path, alpha):
    put(tmp_path / "1.png"), put(tmp_path / "2.png", (1, 2, 3, alpha), mode="RGBA")
    said = refuses(tmp_path)
    assert (
        "2.png has transparent pixels" in said
        and "1.png has no alpha channel" in said
        and "background" in said
    )
    put(tmp_path / "1.png", (4, 5, 6, 255), mode="RGBA")
    assert load(tmp_path).x[:, 0, 0].tolist() == [[4, 5, 6, 255], [1, 2, 3, alpha]]


def test_sixteen_bits_are_told_by_the_file_not_by_its_values(tmp_path):
    for top in (200, 260, 65535):
        Image.fromarray(np.full((3, 3), top, np.uint16)).save(tmp_path / "1.png")
        assert (load(tmp_path).x == round(top / 257)).all()


# --- links and litter ---------------------------------------------------------------------------------------


def test_links_to_folders_and_files_are_followed(tmp_path):
    put(tmp_path / "elsewhere/2.png", "blue"), put(tmp_path / "set/cat/1.png")
    (tmp_path / "set/dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/cat/3.png").symlink_to(tmp_path / "elsewhere/2.png")
    data = load(tmp_path / "set")
    assert (
        data.words == ("cat", "dog")
        and data.labels.tolist() == [0, 0, 1]
        and (data.x[1:, 0, 0] == [0, 0, 255]).all()
    )
    (tmp_path / "only").mkdir()
    (tmp_path / "only/all").symlink_to(tmp_path / "elsewhere")
    assert len(load(tmp_path / "only")) == 1


@pytest.mark.parametrize("where", ["set", "set/cat", "self"])
def test_circles_of_links_are_refused(tmp_path, where):
    put(tmp_path / "set/cat/1.png")
    link = tmp_path / "set/cat/again"
    link.symlink_to(link if where == "self" else tmp_path / where)
    if where == "self":
        link.rename(link.with_suffix(".png"))
    assert "again" in refuses(tmp_path / "set")


def test_a_broken_link_is_refused(tmp_path):
    put(tmp_path / "1.png")
    (tmp_path / "2.png").symlink_to("gone.png")
    assert "2.png" in refuses(tmp_path)
    (tmp_path / "set").symlink_to("nowhere")
    assert "link to nothing" in refuses(tmp_path / "set")


def test_litter_is_passed_over(tmp_path):
    put(tmp_path / "1.png")
    (tmp_path / "__MACOSX").mkdir()
    for name in ("._1.png", ".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/2.png"):
        (tmp_path / name).write_bytes(b"x")
    assert len(load(tmp_path)) == 1


# --- splits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("train", "val"), ("Train", "Valid"), ("training", "validation"), ("TRAIN", "dev")]
)
def test_splits_by_their_other_names(tmp_path, names):
    put(tmp_path / names[0] / "cat/1.png", "red"), put(tmp_path / names[1] / "cat/1.png", "blue")
    (tmp_path / "notes").mkdir()
    assert splits(tmp_path) == ("train", "validation")
    assert load(tmp_path).words == ("cat",) and load(tmp_path).x[0, 0, 0].tolist() == [255, 0, 0]
    for asked in ("val", "validation", "valid"):
        assert (
            load(tmp_path, asked).x[0, 0, 0].tolist() == [0, 0, 255]
            and load(tmp_path, asked).split == "validation"
        )
    assert "accepted: train, validation" in refuses(tmp_path, "test")


@pytest.mark.parametrize(
    "names, reason",
    [
        (("train", "test", "bus"), "beside them 'bus'"),
        (("cat", "dog", "val"), "beside them 'cat'"),
        (("train", "val", "validation"), "both mean"),
        (("train", "Train"), "both mean"),
        (("train2017", "val2017"), "call them train"),
        (("seg_train", "seg_test", "seg_pred"), ""),
        (("train_images", "test_images"), "call them"),
        (("cat/train", "cat/test", "dog/train", "dog/test"), "below cat, dog"),
        (("data/train", "data/test"), "data"),
    ],
)
def test_what_may_be_splits_is_never_taken_for_classes(tmp_path, names, reason):
    for name in names:
        put(tmp_path / name / "1.png")
    if names[-1] == "seg_pred":
        return
    assert reason in refuses(tmp_path) and "\n" not in refuses(tmp_path)


@pytest.mark.parametrize("names", [("bus", "train"), ("train set", "contest"), ("a", "b")])
def test_classes_stay_classes(tmp_path, names):
    for name in names:
        put(tmp_path / name / "1.png")
    assert load(tmp_path).words == names[:: -1 if names[0] > names[1] else 1] and splits(tmp_path) == (
        "train",
    )


def test_metadata_above_the_splits(tmp_path):
    put(tmp_path / "train/1.png"), put(tmp_path / "test/2.png")
    jsonl(tmp_path / "metadata.jsonl", [{"file_name": "train/1.png", "text": "one"}])
    assert load(tmp_path).captions == ("one",)
    assert "captions for 0 of 1" in refuses(tmp_path, "test")
    jsonl(
        tmp_path / "metadata.jsonl",
        [{"file_name": "train/1.png", "text": "one"}, {"file_name": "test/2.png", "text": "two"}],
    )
    assert load(tmp_path, "test").captions == ("two",)


@pytest.mark.parametrize("names", [("Cat", "cat"), ("ankle_boot", "ankle-boot"), ("a b", "a_b")])
def test_classes_that_no_prompt_could_tell_apart(tmp_path, names):
    for name in names:
        put(tmp_path / name / "1.png")
    assert "make them one folder" in refuses(tmp_path)


@pytest.mark.parametrize(
    "given, split", [(5, "train"), (None, "train"), (["a"], "train"), ("digits8", 3), ("a\0b", "train")]
)
def test_wrong_types_are_told(given, split):
    with pytest.raises(BadInput) as error:
        load(given, split)
    assert "\n" not in str(error.value)


def test_a_loop_of_links_as_the_path(tmp_path):
    os.symlink(tmp_path / "b", tmp_path / "a"), os.symlink(tmp_path / "a", tmp_path / "b")
    assert "link" in refuses(tmp_path / "a")
