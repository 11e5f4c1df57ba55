"""A runner's own copy of the weights, retries in float32, arguments of every kind, Brownian noise, what a
Result shows.
"""

import itertools
import threading

import numpy as np
import pytest
import torch

import unnoise
from unnoise.errors import BadInput
from unnoise.hub import weights
from unnoise.process import noise, schedule
from unnoise.sample import SAMPLERS

ASK = {"num_inference_steps": 2, "seed": [4, 5, 6], "prompt": "one"}


@pytest.fixture(scope="module")
def pipe(tiny):
    return unnoise.load(tiny, device="cpu", dtype="fp32")


# --- weights ---


def test_a_16_bit_load_saves_what_the_folder_held(tiny, pipe, tmp_path):
    half = unnoise.load(tiny, device="cpu", dtype="bf16")
    half(**ASK)
    assert {p.dtype for p in half.net.parameters()} == {torch.bfloat16} and {
        p.dtype for p in half.folder.net.parameters()
    } == {torch.float32}
    again = unnoise.load(half.save_pretrained(tmp_path / "copy"), device="cpu", dtype="fp32")
    for a, b in zip(again.net.parameters(), pipe.net.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_was_written_to_a_16_bit_model_is_saved(tiny, tmp_path):
    half = unnoise.load(tiny, device="cpu", dtype="bf16")
    with torch.no_grad():
        half.net.conv_out.bias.fill_(0.25)
    saved = unnoise.load(half.save_pretrained(tmp_path / "copy"), device="cpu", dtype="fp32")
    assert (saved.net.conv_out.bias == 0.25).all() and saved.net.conv_out.bias.dtype == torch.float32


def test_pipelines_of_one_folder_do_not_touch_each_other(tiny, pipe):
    from unnoise.pipeline import Pipeline

    want = pipe(**ASK).arrays
    shared = unnoise.load(tiny, device="cpu", dtype="fp32")
    Pipeline(shared.folder, device="cpu", dtype="bf16")(**ASK)
    assert np.array_equal(shared(**ASK).arrays, want)


def test_mapped_weights_stay_in_their_file(tiny, monkeypatch):
    monkeypatch.setattr(weights, "MAP_ABOVE", 1000)
    pipe = unnoise.load(tiny, device="cpu", dtype="fp32")
    pipe(**ASK)
    assert all(weights.mapped(p) for p in pipe.folder.net.parameters())
    half = unnoise.load(tiny, device="cpu", dtype="bf16")
    assert all(weights.mapped(p) for p in half.folder.net.parameters())


def overflowing(pipe, monkeypatch, seeds):
    """The network of a 16-bit pipeline gives infinities in the rows of some seeds."""
    plain, bad = pipe.net.forward, torch.cat([pipe.noise(pipe.request("one", seed=s)) for s in seeds])

    def forward(x, *args, **kwargs):
        y = plain(x, *args, **kwargs)
        rows = [any(float((v.float() - b).abs().max()) < 0.05 * float(b.abs().max()) for b in bad) for v in x]
        return torch.where(
            torch.tensor(rows + [False] * (len(y) - len(rows)))[:, None, None, None], torch.inf, y
        )

    monkeypatch.setattr(pipe.net, "forward", forward)


def test_a_retry_concerns_one_image(tiny, pipe, monkeypatch):
    half = unnoise.load(tiny, device="cpu", dtype="bf16")
    before, wide = half(**ASK), pipe(**ASK).arrays
    with monkeypatch.context() as m:
        overflowing(half, m, [5])
        made = half(**ASK)
    assert np.array_equal(made.arrays[[0, 2]], before.arrays[[0, 2]]) and made.nfe == before.nfe
    assert np.array_equal(made.arrays[1], wide[1]) and not np.array_equal(before.arrays[1], wide[1])
    assert half.runner.dtype == torch.bfloat16 and {p.dtype for p in half.net.parameters()} == {
        torch.bfloat16
    }
    assert np.array_equal(half(**ASK).arrays, before.arrays)


def test_a_retry_does_not_reach_other_threads(tiny, monkeypatch):
    half = unnoise.load(tiny, device="cpu", dtype="bf16")
    seen = []
    with half.runner.widened():
        assert half.runner.dtype == torch.float32
        t = threading.Thread(target=lambda: seen.append(half.runner.dtype))
        t.start()
        t.join()
        other = unnoise.load(tiny, device="cpu", dtype="bf16")
        assert other.runner.dtype == torch.bfloat16
    assert seen == [torch.bfloat16] and half.runner.dtype == torch.bfloat16


# --- arguments ---

WRONG = {
    "prompt": (5, b"x", {"a": 1}, {"a"}, [5], [None], ["a \ud800"], [], True),
    "negative_prompt": (5, b"x", {}, [5], [], ["one", "boot"]),
    "seed": (3.7, "x", "7", ["x"], True, 2**70, [1.5], [True], b"1", {}, [], np.array([1.5]), [2**64]),
    "num_images": (0, -1, 1.5, "2", True, None, [1], 10**12),
    "num_inference_steps": (0, -1, 1.5, "2", True, [1], 10**6),
    "guidance_scale": ("2", True, float("nan"), float("inf"), [2], 10**400),
    "guidance_rescale": ("a", -0.1, 1.1, True, None, float("nan")),
    "guidance_interval": (1, "ab", (1,), (1, 2, 3), ("a", "b"), (2, 1), (float("nan"), 1), {}),
    "sampler": (5, "", "dimm", ["ddim"], b"ddim"),
    "spacing": (5, "", "trialing", ["karras"]),
    "timesteps": (5, "abc", [], ["a"], [1, 2], [float("nan")], [10**9], {}, [True]),
    "sigmas": (5, "abc", [], ["a"], [1, 2], [float("inf")], {}),
    "noise": (5, "", "browian", None, []),
    "height": (0, -8, 9, "8", 8.5, True, 10**9),
    "width": (0, 9, "8", [8]),
    "clip_skip": (-1, 1.5, "1", True, None, 1),
    "guide": (5, "nonsense=1", [5], ["colour"], 1.5, {"colour": 1}, [("x", 1)]),
    "guide_through": (1, "yes", None),
    "guide_linear": (0, "no", None),
    "batch_size": (0, -5, 1.5, "a", True, [1]),
    "progress": (5, "x", []),
    "on_state": (5, "x", []),
    "eta": ("x", -1, None, [0.5], float("nan")),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_arguments_of_a_wrong_kind_are_one_line(pipe, name):
    for value in WRONG[name]:
        how = {
            "prompt": "one",
            "num_inference_steps": 1,
            **({"sampler": "ddim"} if name == "eta" else {}),
            name: value,
        }
        if name in ("timesteps", "sigmas"):
            del how["num_inference_steps"]
        for call in (pipe, pipe.stream) if name not in ("batch_size", "progress", "on_state") else (pipe,):
            with pytest.raises(BadInput) as e:
                call(**how)
            assert "\n" not in str(e.value) and len(str(e.value)) < 2000, (name, value)


def test_numbers_of_other_libraries_are_taken(pipe):
    a = pipe(
        "one",
        seed=np.int64(3),
        num_images=np.int32(2),
        num_inference_steps=torch.tensor(2),
        guidance_scale=np.float32(1.5),
    )
    b = pipe(
        ["one"] * 2, seed=np.array([3, 4]), num_inference_steps=2, guidance_scale=1.5, batch_size=np.int8(1)
    )
    c = pipe("one", seed=torch.tensor([3, 4]), num_inference_steps=2, guidance_scale=1.5)
    assert (
        a.seeds == b.seeds == c.seeds == (3, 4)
        and all(type(s) is int for s in a.seeds)
        and np.array_equal(a.arrays, c.arrays)
    )


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_options_of_a_wrong_kind_are_refused_at_the_request(pipe, name):
    for option, usual in SAMPLERS[name].options.items():
        for value in ("x", [], None, float("nan"), {}):
            if type(value) is type(usual):
                continue
            with pytest.raises(BadInput):
                pipe.request("one", sampler=name, **{option: value})


@pytest.mark.parametrize("path", [5, "", b"x", None, "a\0b.png", "x.jpg", 1.5, ["x.png"]])
def test_paths_that_are_none(pipe, tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput):
        pipe(**ASK).save(path)
    assert list(tmp_path.iterdir()) == []


# --- noise ---


def test_brownian_noise_keeps_what_the_next_step_needs_alone():
    made = noise.brownian(range(2))
    kept = lambda: next(c.cell_contents for c in made.__closure__ if isinstance(c.cell_contents, dict))
    path = list(schedule.cosine().path(200, "trailing"))
    for a, b in itertools.pairwise(path):
        made(torch.zeros(2, 3), a, b)
    assert 0 < len(kept()) < 60


def test_brownian_increments_add_up_whatever_is_forgotten():
    path = schedule.cosine().path(40, "trailing")
    x, w = (
        torch.zeros(1, 5, dtype=torch.float64),
        lambda f, i, j: (
            f(x, path[i], path[j])
            * abs(noise.places(path[i], path[j])[1] - noise.places(path[i], path[j])[0]) ** 0.5
        ),
    )
    one, other = noise.brownian([3]), noise.brownian([3])
    parts = sum(w(one, i, i + 1) for i in range(5, 25))
    torch.testing.assert_close(parts, w(other, 5, 25), atol=1e-6, rtol=1e-9)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_brownian_noise_runs_or_is_refused_before_a_call(pipe, name):
    try:
        r = pipe.request("one", sampler=name, noise="brownian", seed=1, num_inference_steps=4)
    except BadInput as e:
        assert "'seeded'" in str(e) and name in ("langevin", "predictor_corrector", "restart", "edm"), str(e)
    else:
        assert name not in ("langevin", "predictor_corrector", "restart")
        assert len(list(pipe.run(r))) >= 2


# --- what is shown ---


def test_summaries_are_one_whole_sentence():
    for s in SAMPLERS.values():
        assert (
            s.summary.endswith((".", ")."))
            and s.summary.count("(") == s.summary.count(")")
            and len(s.summary) <= 120
        ), s.summary


def test_results_are_short_and_show_themselves(pipe, vectors):
    import html

    one, many = (
        pipe("one", seed=3, num_inference_steps=1),
        pipe("one", seed=3, num_images=70, num_inference_steps=1),
    )
    assert repr(one) == "Result(1 picture of 8 x 8 x 1, seed 3, 1 calls each)" and len(repr(many)) < 120
    assert one._repr_png_().startswith(b"\x89PNG") and many._repr_png_().startswith(b"\x89PNG")
    assert (
        many._repr_html_().count("<img ") == 64
        and "6 more" in many._repr_html_()
        and "one · seed 3" in one._repr_html_()
    )
    told = unnoise.Result(one.arrays, one.seeds, 1, ({"prompt": "<script>&\"'", "seed": 3},))._repr_html_()
    assert "<script>" not in told and html.escape("<script>&\"'") in told
    numbers = unnoise.load(vectors)(seed=0)
    assert numbers._repr_png_() is None and numbers._repr_html_() is None and "sample of 3" in repr(numbers)


def test_a_result_saves_every_picture(pipe, tmp_path):
    r = pipe(["one", "boot"], seed=[7, 7], num_inference_steps=1)
    for path in (tmp_path / "x.png", tmp_path / "folder"):
        files = r.save(path)
        assert len({*files}) == 2 and all(f.exists() for f in files)
        before = {p: p.read_bytes() for p in tmp_path.rglob("*.png")}
        again = r.save(path)
        assert not {*files} & {*again} and all(p.read_bytes() == raw for p, raw in before.items())
        assert {*r.save(path, overwrite=True)} == {*files}
    with pytest.raises(BadInput, match="overwrite"):
        r.save(tmp_path / "x.png", overwrite="yes")
