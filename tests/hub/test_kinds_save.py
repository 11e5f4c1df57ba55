"""Saving into a folder where something lies: nothing of others is lost, wherever it stops and however many
save.
"""

import json
import os
import shutil
import threading
from pathlib import Path

import pytest
import torch

from tests.support import sd
from unnoise import hub
from unnoise.base import lock
from unnoise.errors import BadInput
from unnoise.hub import store

FILE = f"unet/{hub.WEIGHTS}"


@pytest.fixture
def model(tiny):
    return hub.load(tiny)


def save(f, folder, name="new", **options):
    weights = {k: v + 1 if v.is_floating_point() else v for k, v in f.net.state_dict().items()}
    return hub.save(
        folder,
        name=name,
        kind=f.kind,
        net=f.net,
        weights=weights,
        codec=f.codec,
        words=f.words,
        process=f.process,
        **options,
    )


def listed(folder):
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())


OTHERS = [
    "README.md",
    ".git/HEAD",
    ".gitattributes",
    "lora/x.safetensors",
    "samples/1.png",
    "unet/notes.txt",
    "unet/my-lora.safetensors",
    "tokenizer/mine.json",
    "text_encoder/model.safetensors",
    "words/old.json",
    "my.part",
    ".m.old/a",
    ".m.part/b",
    "model.ckpt",
]


def test_what_is_not_the_models_stays(tiny, model, tmp_path):
    m = shutil.copytree(tiny, tmp_path / "m")
    before = listed(m)
    for name in OTHERS:
        (m / name).parent.mkdir(parents=True, exist_ok=True)
        (m / name).write_text(name)
    for where in (".m.old", ".m.part"):  # what an earlier version left beside the folder
        (tmp_path / where).mkdir()
        (tmp_path / where / "x").write_text("x")
    save(model, m)
    assert listed(m) == sorted([*before, *OTHERS])
    assert [(m / n).read_text() for n in OTHERS] == OTHERS
    assert listed(tmp_path / ".m.old") == listed(tmp_path / ".m.part") == ["x"]
    assert torch.equal(
        hub.load(m).net.state_dict()["conv_in.bias"], model.net.state_dict()["conv_in.bias"] + 1
    )


def test_a_card_replaces_the_card_alone(model, tmp_path):
    m = save(model, tmp_path / "m", card="first")
    save(model, m, card="second")
    assert (m / "README.md").read_text() == "second"


@pytest.mark.parametrize("given", [".", "./", "../here", "m/..", "{}"])
def test_the_folder_may_be_this_one(model, tmp_path, monkeypatch, given):
    here = tmp_path / "here"
    (here / "m").mkdir(parents=True)
    (here / "m").rmdir() if "m" not in given else None
    monkeypatch.chdir(here)
    if "m" in given:
        save(model, "m")
    save(model, given.format(here) if "m" not in given else "m")
    target = here / "m" if "m" in given else here
    assert hub.load(target).name == "new" and not [n for n in os.listdir(target) if n.startswith(".")]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "path is empty"),
        ("a\0b", "cannot be followed"),
        ("file", "no folder"),
        ("gone", "no folder"),
        ("full", "not a model folder"),
        ("circle", "no folder|cannot be followed"),
    ],
)
def test_what_is_no_folder_for_a_model_is_said(model, tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x")
    Path("gone").symlink_to("nowhere")
    Path("circle").symlink_to("circle")
    Path("full").mkdir()
    Path("full/letter.txt").write_text("dear")
    before = listed(tmp_path)
    with pytest.raises(BadInput, match=said) as e:
        save(model, given)
    assert (
        "\n" not in str(e.value)
        and listed(tmp_path) == before
        and Path("full/letter.txt").read_text() == "dear"
    )


def test_a_fresh_repository_takes_a_model(model, tmp_path):
    for name in (".git/HEAD", ".gitattributes", "README.md", "LICENSE.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    save(model, tmp_path)
    assert hub.load(tmp_path).name == "new" and (tmp_path / "README.md").read_text() == "mine"


def test_links_are_followed(tiny, model, tmp_path):
    disk = shutil.copytree(tiny, tmp_path / "disk")
    (disk / "mine.txt").write_text("mine")
    link = tmp_path / "link"
    link.symlink_to("disk")
    save(model, link)
    assert link.is_symlink() and (disk / "mine.txt").read_text() == "mine" and hub.load(disk).name == "new"
    (tmp_path / "elsewhere").mkdir()
    shutil.move(disk / "unet", tmp_path / "elsewhere/unet")
    (disk / "unet").symlink_to(tmp_path / "elsewhere/unet")
    (disk / "codec/config.json").rename(tmp_path / "codec.json")
    (disk / "codec/config.json").symlink_to(tmp_path / "codec.json")
    save(model, link, name="newer")
    assert (
        (disk / "unet").is_symlink()
        and (disk / "codec/config.json").is_symlink()
        and hub.load(link).name == "newer"
    )
    assert sorted(os.listdir(tmp_path / "elsewhere/unet")) == ["config.json", hub.WEIGHTS]


def test_a_store_named_by_content_is_not_written_into(tiny, model, tmp_path):
    m, blob = shutil.copytree(tiny, tmp_path / "m"), tmp_path / ("0123456789abcdef" * 4)
    shutil.move(m / FILE, blob)
    raw = blob.read_bytes()
    (m / FILE).symlink_to(blob)
    save(model, m)
    assert blob.read_bytes() == raw and not (m / FILE).is_symlink() and hub.load(m).name == "new"


def test_old_shards_and_variants_do_not_outlive_their_part(tiny, model, tmp_path):
    m = shutil.copytree(tiny, tmp_path / "m")
    gone = [
        "diffusion_pytorch_model.fp16.safetensors",
        "diffusion_pytorch_model-00001-of-00002.safetensors",
        "diffusion_pytorch_model.safetensors.index.json",
        "diffusion_pytorch_model-00001-of-00002.fp16.safetensors",
    ]
    for name in gone:
        (m / "unet" / name).write_text("{}")
    (m / "vae").mkdir()
    (m / "vae" / gone[0]).write_text("{}")  # of a part that this model does not have
    save(model, m)
    assert sorted(os.listdir(m / "unet")) == ["config.json", hub.WEIGHTS] and os.listdir(m / "vae") == [
        gone[0]
    ]


def killed(f, folder, call: str, n: int) -> bool:
    """Save in a process of its own, which dies at its nth call of os.replace (or another): whether it came to
    that.
    """
    child = os.fork()
    if child == 0:
        real, count = getattr(os, call), [0]

        def dies(*args, **kwargs):
            count[0] += 1
            if count[0] == n:
                os._exit(9)
            return real(*args, **kwargs)

        setattr(os, call, dies)
        try:
            save(f, folder)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.slow
@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_kill_anywhere_leaves_the_old_model_or_the_new(tiny, model, tmp_path, call):
    old, n, seen = model.sha256, 1, []
    while True:
        m = shutil.copytree(tiny, tmp_path / f"m{n}")
        (m / "mine.txt").write_text("mine")
        if not killed(model, m, call, n):
            break
        seen.append("old" if hub.load(m).sha256 == old else hub.load(m).name)
        again = hub.load(m)
        assert torch.isfinite(again.net.state_dict()["conv_in.bias"]).all()
        save(model, m, name="third")
        assert hub.load(m).name == "third" and (m / "mine.txt").read_text() == "mine"
        assert (
            not [x for x in listed(m) if "unnoise-save" in x or x.endswith(".part")]
            and not (m / lock.NAME).exists()
        )
        n += 1
    assert n > 8 and set(seen) == {"old", "new"} and seen == sorted(seen, key=["old", "new"].index), seen


def test_a_kill_in_a_new_folder_does_not_block_it(model, tmp_path):
    for n in range(1, 6):
        killed(model, tmp_path / "m", "replace", n)
    assert save(model, tmp_path / "m") == tmp_path / "m"
    assert hub.load(tmp_path / "m").name == "new" and not [
        x for x in os.listdir(tmp_path / "m") if x.startswith(".")
    ]


@pytest.mark.slow
def test_a_published_folder_without_hashes_is_never_a_mixture(tmp_path):
    """There the old index could not tell that a file is another model's."""
    import unnoise

    source = sd.make(tmp_path / "source")
    f = hub.load(source)
    other = unnoise.load(source)
    with torch.no_grad():
        for p in f.net.parameters():
            p.add_(1)
    ends = []
    for n in (1, 3, 8, 9, 10, 11, 12, 13, 14, 16, 18):
        m = shutil.copytree(source, tmp_path / f"m{n}")
        child = os.fork()
        if child == 0:
            real, count = os.replace, [0]

            def dies(*args, real=real, count=count, n=n):
                count[0] += 1
                if count[0] == n:
                    os._exit(9)
                return real(*args)

            os.replace = dies
            try:
                other.save_pretrained(m)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        ends.append("_sha256" in json.loads((m / "model_index.json").read_text()))
        hub.load(m)  # either of them, whole: hashes are compared where the index is the new one
    assert True in ends and False in ends


def test_an_interrupted_save_is_not_completed_beyond_its_folder(tiny, tmp_path):
    """A folder from elsewhere may hold anything: reading it must not write through its links."""
    m, name = shutil.copytree(tiny, tmp_path / "m"), ".unnoise-save-0123456789ab"
    (tmp_path / "home/unet").mkdir(parents=True)
    (tmp_path / "home/profile").write_text("mine")
    (tmp_path / "home/unet/model.fp16.safetensors").write_text("mine")
    (m / name / "words").mkdir(parents=True)
    (m / name / "words/config.json").write_text('{"words": []}')
    (m / "words/config.json").unlink()
    (m / "words/config.json").symlink_to(tmp_path / "home/profile")
    index = json.loads((m / "model_index.json").read_text()) | {"_saving": name}
    index["_sha256"] |= {"../home/unet/model.safetensors": "0" * 64, "../unet/model.safetensors": "0" * 64}
    (m / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(BadInput):
        hub.load(m)
    assert (tmp_path / "home/profile").read_text() == "mine" and (
        tmp_path / "home/unet/model.fp16.safetensors"
    ).exists()
    (m / name / "words").mkdir(parents=True, exist_ok=True)
    (m / name / "words/x.json").write_text("{}")
    shutil.rmtree(m / "words")
    (m / "words").symlink_to(tmp_path / "home")
    (m / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(BadInput, match="leads out of it"):
        hub.load(m)
    assert sorted(os.listdir(tmp_path / "home")) == ["profile", "unet"]


def test_a_full_disk_leaves_the_old_model(tiny, model, tmp_path, monkeypatch):
    m = shutil.copytree(tiny, tmp_path / "m")
    before = {n: (m / n).read_bytes() for n in listed(m)}
    monkeypatch.setattr(
        "unnoise.hub.saving.save_file",
        lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    with pytest.raises(BadInput, match="No space left"):
        save(model, m)
    assert {n: (m / n).read_bytes() for n in listed(m)} == before


def test_an_interrupt_leaves_nothing(tiny, model, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "unnoise.hub.saving.save_file", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt())
    )
    with pytest.raises(KeyboardInterrupt):
        save(model, tmp_path / "a/b/m")
    assert os.listdir(tmp_path) == []


def test_savers_of_one_folder_take_turns(tiny, model, tmp_path):
    m, errors = tmp_path / "m", []

    def run(i):
        try:
            save(model, m, name=f"model-{i}")
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert (
        not errors
        and hub.load(m).name.startswith("model-")
        and not [x for x in os.listdir(m) if x.startswith(".")]
    )


def test_a_locked_folder_says_who_has_it(model, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "WAIT", 0.1)
    save(model, tmp_path / "m")
    with (
        lock.alone(tmp_path / "m", "something long"),
        pytest.raises(BadInput, match="in use: something long"),
    ):
        save(model, tmp_path / "m")


def test_a_broken_index_does_not_block_a_save(tiny, model, tmp_path):
    m = shutil.copytree(tiny, tmp_path / "m")
    for broken in (
        b"",
        b"{",
        b"[" * 100_000,
        b'{"_saving": 5}',
        b'{"_saving": ".unnoise-save-ffffffffffff"}',
    ):
        (m / "model_index.json").write_bytes(broken)
        save(model, m)
        assert hub.load(m).name == "new"


def test_values_beyond_a_saved_type_are_refused(tiny, model, tmp_path):
    f = model
    big = {**f.net.state_dict(), "conv_in.bias": torch.full_like(f.net.state_dict()["conv_in.bias"], 1e6)}
    with pytest.raises(BadInput, match=r"conv_in.bias.*beyond float16"):
        hub.save(
            tmp_path / "m",
            name="x",
            kind=f.kind,
            net=f.net,
            weights=big,
            codec=f.codec,
            words=f.words,
            process=f.process,
            dtype=torch.float16,
        )
    assert not (tmp_path / "m").exists()
