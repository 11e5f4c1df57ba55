import shutil

import numpy as np
import pytest
import torch

from tests.evaluate.conftest import save_judge
from unnoise import hub
from unnoise.codec import Pixels, Vectors
from unnoise.data import load
from unnoise.errors import BadInput
from unnoise.nets.mlp import MLP, MLPConfig
from unnoise.worlds.judge import load as load_judge


@pytest.fixture
def copy(judge_folder, tmp_path):
    return shutil.copytree(judge_folder, tmp_path / "judge")


def weights_of(folder):
    return folder / "classifier" / hub.WEIGHTS


def test_looks_at_bytes_through_its_codec(judge):
    d = load("digits8", "test")
    seen = judge.look(d.x, batch=64)
    assert (
        seen.features.shape == (300, 16) and seen.features.dtype == np.float64 and seen.said().shape == (300,)
    )
    x = torch.from_numpy(d.x[..., 0]).float()[:, None] / 127.5 - 1
    with torch.no_grad():
        features, logits = judge.net.embed(x), judge.net(x)
    np.testing.assert_allclose(seen.features, features.numpy(), atol=1e-4)
    assert (seen.said() == logits.argmax(1).numpy()).all()
    assert 0.9 < (seen.said() == d.labels).mean() < 1


def test_batches_and_neighbours_do_not_matter(judge):
    x = load("digits8", "test").x[:50]
    whole, parts = judge.look(x), judge.look(x, batch=7)
    np.testing.assert_allclose(whole.features, parts.features, atol=1e-5)
    assert (whole.said() == parts.said()).all()
    again = judge.look(x)
    assert (again.features == whole.features).all()


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (np.zeros((2, 9, 8, 1), np.uint8), r"\(n, 8, 8, 1\), given uint8 \(2, 9, 8, 1\)"),
        (np.zeros((2, 8, 8, 1)), "float64"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"\(2, 8, 8, 3\)"),
        (np.zeros((0, 8, 8, 1), np.uint8), "none"),
    ],
)
def test_refuses_images_that_it_cannot_look_at(judge, images, told):
    with pytest.raises(BadInput, match=told):
        judge.look(images)


def test_hash_names_the_weights(judge, judge_folder, tmp_path, copy):
    assert load_judge(copy).sha256 == judge.sha256 and len(judge.sha256) == 64
    net = load_judge(judge_folder).net
    net.head.bias += 1e-3
    assert load_judge(save_judge(tmp_path / "other", net, judge.words)).sha256 != judge.sha256


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda f: weights_of(f).write_bytes(b"\x80\x02}q\x00."), "a pickle, not safetensors"),
        (lambda f: weights_of(f).write_bytes(weights_of(f).read_bytes()[:-9]), "truncated"),
        (lambda f: weights_of(f).write_bytes(weights_of(f).read_bytes()[:-1] + b"\x11"), "damaged"),
        (lambda f: weights_of(f).unlink(), "is missing"),
    ],
)
def test_is_decided_by_the_bytes(copy, break_it, told):
    break_it(copy)
    with pytest.raises(BadInput, match=told) as e:
        load_judge(copy)
    assert hub.WEIGHTS in str(e.value) and "\n" not in str(e.value)


def test_only_a_classifier_of_images_with_a_word_a_class_judges(judge, tmp_path, model_folder):
    with pytest.raises(BadInput, match="kind unet: a judge is a model folder of kind classifier"):
        load_judge(model_folder)
    few = save_judge(tmp_path / "few", judge.net, judge.words[:9])
    with pytest.raises(BadInput, match="10 classes and 9 words"):
        load_judge(few)
    with pytest.raises(BadInput, match="no-such"):
        load_judge("no-such")
    net = MLP(MLPConfig(size=2, width=8, layers=1))
    other = hub.save(
        tmp_path / "mlp",
        name="m",
        kind="mlp",
        net=net,
        weights=None,
        codec=Vectors((2,)),
        words=None,
        process=None,
    )
    with pytest.raises(BadInput):
        load_judge(other)
    assert isinstance(judge.codec, Pixels)
