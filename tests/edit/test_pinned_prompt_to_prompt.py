"""Local words: from which step on they bind the target to the source, and where."""

import pytest
import torch

import unnoise
from tests.support import normal
from tests.support.painter import painter
from unnoise.edit.invert import Steps
from unnoise.edit.prompt_to_prompt import Control
from unnoise.nets.unet import Place
from unnoise.process.level import move


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return unnoise.load(painter(tmp_path_factory.mktemp("models") / "painter"), device="cpu", dtype="fp32")


def begun(pipe, steps: int, **how) -> Control:
    how = {"cross": 0.8, "self_": 0.4, "weights": {}, "local": ["apple"], **how}
    return Control.of(pipe, "a red apple", "a green apple", **how).begin(
        1, Steps(pipe.schedule.path(steps)), None
    )


def test_local_words_bind_from_a_fifth_of_the_steps_on(pipe):
    """Of 10 steps the first two are free. Then outside of the words the target moves to where the source
    moves, inside it is its own.
    """
    c = begun(pipe, 10)
    look = torch.tensor([[0.0, 0.4], [0.6, 1.0]])[None, None]
    c.looks = [torch.cat([torch.zeros_like(look), look])]
    x, x0 = normal(2, 4, 2, 2), normal(2, 4, 2, 2, seed=1)
    denoise = c.wrap(lambda y, l: x0)
    path = c.steps.path
    for i in range(9):
        out, (a, b) = denoise(x, path[i]), path[i : i + 2]
        if i < 2:
            assert torch.equal(out, x0)
            assert c.mask is None
            continue
        assert c.mask is not None
        assert c.mask[0, 0].tolist() == [[0, 0], [1, 1]]  # above half of the most
        assert torch.equal(out[0], x0[0])
        assert torch.equal(out[1, :, 1], x0[1, :, 1])
        landed = move(x[1:], out[1:], a, b)[0, :, 0], move(x[:1], x0[:1], a, b)[0, :, 0]
        torch.testing.assert_close(*landed)


def test_words_are_located_in_small_places_alone(pipe):
    """Up to 16 cells a side; maps of the words are summed over their tokens and averaged over the heads."""
    c = begun(pipe, 10)
    q, k, v = (normal(2, 3, n, 5, seed=s).float() for n, s in ((32, 0), (16, 1), (16, 2)))
    c.hook(q, k, v, Place("mid", "cross", (2, 16)))
    c.hook(q, k, v, Place("mid", "cross", (32, 1)))
    weights = (q @ k.transpose(-1, -2) / 5**0.5).softmax(-1)
    at = c.words
    assert len(c.looks) == 1
    assert all(at)
    want = torch.stack([weights[i][..., at[i]].sum(-1).mean(0).reshape(1, 2, 16) for i in (0, 1)])
    torch.testing.assert_close(c.looks[0], want)


@pytest.mark.parametrize(("steps", "cross", "self_"), [(10, 8, 4), (5, 4, 2)])
def test_attention_is_replaced_for_these_shares_of_the_steps(pipe, steps, cross, self_):
    c = begun(pipe, steps, local=[])
    q, k, v = (normal(2, 3, 16, 5, seed=s).float() for s in (0, 1, 2))
    plain = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    held = {"cross": 0, "self": 0}
    for i in range(steps):
        c.steps.now = i
        for kind in held:
            held[kind] += not torch.allclose(
                c.hook(q, k, v, Place("mid", kind, (4, 4)))[1], plain[1], atol=1e-5
            )
    assert held == {"cross": cross, "self": self_}
