"""Model folders: the round trip, the other library's reading of them, and every way in which a file can be
broken.
"""

import json
import pickle
import shutil

import pytest
import torch

from unnoise import hub
from unnoise.errors import BadInput
from unnoise.hub import schedulers
from unnoise.nets.unet import UNet, config_from
from unnoise.process.section import ProcessSection

FILE = f"unet/{hub.WEIGHTS}"


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "model")


def test_round_trip_keeps_every_byte(tiny, tmp_path):
    f = hub.load(tiny)
    again = hub.save(
        tmp_path / "again",
        name=f.name,
        kind=f.kind,
        net=f.net,
        weights=None,
        codec=f.codec,
        words=f.words,
        process=f.process,
        defaults=f.defaults,
    )
    for part in (
        FILE,
        "unet/config.json",
        "codec/config.json",
        "words/config.json",
        "scheduler/scheduler_config.json",
        "model_index.json",
    ):
        assert (again / part).read_bytes() == (tiny / part).read_bytes(), part
    assert hub.load(again).sha256 == f.sha256


def test_diffusers_opens_the_unet_and_agrees(tiny):
    from diffusers import DDIMScheduler, UNet2DConditionModel

    theirs, ours = UNet2DConditionModel.from_pretrained(tiny / "unet"), hub.load(tiny).net
    x, t, y = torch.randn(3, 1, 8, 8), torch.tensor([0, 500, 999]), torch.tensor([0, 3, 4])
    with torch.no_grad():
        torch.testing.assert_close(
            ours(x, t, labels=y), theirs(x, t, None, class_labels=y).sample, atol=1e-5, rtol=1e-5
        )
    scheduler = DDIMScheduler.from_pretrained(tiny / "scheduler")
    from unnoise.process import schedule

    torch.testing.assert_close(
        scheduler.alphas_cumprod.double(),
        torch.from_numpy(schedule.cosine().alphas ** 2),
        atol=1e-6,
        rtol=1e-4,
    )
    assert scheduler.config.prediction_type == "v_prediction"


class Gadget:
    """What a hostile checkpoint would hold: unpickling it leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("pickle", "a pickle"),
        ("zip", "zip archive"),
        ("html", "a web page"),
        ("empty", "is empty"),
        ("lfs", "LFS pointer"),
        ("truncated", "truncated"),
        ("flipped", "damaged"),
        ("missing", "missing"),
    ],
)
def test_broken_weights_are_named_and_never_run(folder, tmp_path, what, said):
    file, trace = folder / FILE, tmp_path / "trace"
    raw = file.read_bytes()
    if what == "zip":
        torch.save({"x": Gadget(trace)}, file)
    else:
        middle = len(raw) - 100
        file.write_bytes(
            {
                "pickle": pickle.dumps(Gadget(trace)),
                "html": b"\n<!DOCTYPE html><html>404</html>",
                "empty": b"",
                "lfs": b"version https://git-lfs.github.com/spec/v1\n",
                "truncated": raw[:-1],
                "missing": raw,
                "flipped": raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :],
            }[what]
        )
    if what == "missing":
        file.unlink()
    with pytest.raises(BadInput, match=said) as e:
        hub.load(folder)
    assert hub.WEIGHTS in str(e.value) and "\n" not in str(e.value)
    assert not trace.exists()


@pytest.mark.parametrize("cut", [1, 7, 8, 100, 2000])
def test_every_truncation_is_refused(folder, cut):
    raw = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(raw[:cut])
    with pytest.raises(BadInput, match=hub.WEIGHTS):
        hub.load(folder)


def test_a_tensor_of_another_shape_or_name_is_named(folder):
    config = json.loads((folder / "unet/config.json").read_text())
    config["block_out_channels"] = [16, 64]
    (folder / "unet/config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match=r"unet/config.json is damaged or was changed"):
        hub.load(folder)
    index = json.loads((folder / "model_index.json").read_text())
    del index["_sha256"]["unet/config.json"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(BadInput, match=r"tensor 'down_blocks.1.*shape"):
        hub.load(folder)


PARTS = [
    "model_index.json",
    "unet/config.json",
    "codec/config.json",
    "words/config.json",
    "scheduler/scheduler_config.json",
]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("content", [None, b"{", b"[]", b"<html>"])
def test_broken_json_is_named(folder, part, content):
    if content is None:
        (folder / part).unlink()
    else:
        (folder / part).write_bytes(content)
    with pytest.raises(BadInput, match=part.split("/")[-1]):
        hub.load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("act_fn", "gelu"),
        ("class_embed_type", "timestep"),
        ("resnet_time_scale_shift", "scale_shift"),
        ("sampel_size", 3),
        ("block_out_channels", [16]),
        ("down_block_types", ["A", "B"]),
        ("norm_num_groups", 7),
        ("layers_per_block", "two"),
    ],
)
def test_a_config_that_is_not_built_is_refused_by_its_key(folder, key, value):
    config = json.loads((folder / "unet/config.json").read_text()) | {key: value}
    with pytest.raises(BadInput, match="UNet"):
        UNet(config_from(config))


def test_non_finite_weights_are_neither_written_nor_read(tiny, tmp_path):
    f = hub.load(tiny)
    bad = dict(f.net.state_dict())
    bad["conv_in.weight"] = bad["conv_in.weight"].clone().fill_(float("nan"))
    with pytest.raises(BadInput, match=r"conv_in.weight.*not finite"):
        hub.save(
            tmp_path / "bad",
            name="bad",
            kind=f.kind,
            net=f.net,
            weights=bad,
            codec=f.codec,
            words=f.words,
            process=f.process,
        )
    assert not (tmp_path / "bad").exists()


def test_a_folder_of_other_things_is_left_alone(tiny, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    f = hub.load(tiny)
    with pytest.raises(BadInput, match="not a model folder"):
        hub.save(
            tmp_path / "mine",
            name="x",
            kind=f.kind,
            net=f.net,
            weights=None,
            codec=f.codec,
            words=f.words,
            process=f.process,
        )
    assert (tmp_path / "mine/letter.txt").read_text() == "dear"


def test_a_failing_write_leaves_the_old_model(tiny, tmp_path, monkeypatch):
    target = shutil.copytree(tiny, tmp_path / "m")
    f = hub.load(target)
    monkeypatch.setattr(
        "pathlib.Path.write_bytes", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(BadInput, match="No space left"):
        hub.save(
            target,
            name="x",
            kind=f.kind,
            net=f.net,
            weights=None,
            codec=f.codec,
            words=f.words,
            process=f.process,
        )
    monkeypatch.undo()
    assert hub.load(target).sha256 == f.sha256 and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("schedule", ["ddpm", "scaled_linear", "cosine", "flow", "edm", "scaled_linear-zsnr"])
def test_scheduler_config_round_trips(schedule):
    p = ProcessSection(schedule=schedule)
    assert ProcessSection(**schedulers.write(p)["_unnoise"]) == p


def test_unknown_model_names_the_bundled_ones():
    with pytest.raises(BadInput, match="digits-judge"):
        hub.load("digtis-judge")


@pytest.mark.parametrize("length", [640, 896, 1152, 1408])
def test_a_header_whose_length_begins_like_a_pickle_is_none(tmp_path, length):
    """640 is 80 02 in the file's first bytes, as a pickle of protocol 2 begins; byte 8 tells them apart."""
    import json

    from unnoise.hub import weights

    head = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode().ljust(length)
    (tmp_path / "w.safetensors").write_bytes(
        length.to_bytes(8, "little") + head + torch.tensor([1.0, 2.0]).numpy().tobytes()
    )
    assert weights.read(tmp_path / "w.safetensors")["w"].tolist() == [1.0, 2.0]
