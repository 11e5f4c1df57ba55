"""Parts of folders by the number: an autoencoder's scale and shift, defaults that a folder does not say,
schedulers' files key by key.
"""

import numpy as np
import pytest
import torch

import unnoise
from tests.support import painter
from unnoise import hub
from unnoise.codec import Latents
from unnoise.hub import parts, schedulers
from unnoise.process import schedule
from unnoise.process.section import ProcessSection


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(70, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_trained_autoencoder_is_measured_to_unit_latents(images):
    net = painter.codec().net
    codec = parts.measured(net, images, 16)
    with torch.no_grad():
        plain = net.encode(images).mean
    assert codec.scale == pytest.approx(float(1 / plain.std()), rel=1e-5)
    assert codec.shift == 0  # which has moved into the network
    with torch.no_grad():
        z = codec.net.encode(images).mean * codec.scale
    assert float(z.mean()) == pytest.approx(0, abs=1e-4)
    assert float(z.std()) == pytest.approx(1, rel=1e-4)


def test_a_shift_moves_into_the_biases_and_pictures_stay(images):
    """(z - shift) scale before and after, and the same decoding."""
    codec = painter.codec()
    moved = parts.centred(codec)
    assert moved.shift == 0
    assert moved.scale == codec.scale
    x = ((images[:2].permute(0, 2, 3, 1) + 1) * 127.5).round().byte().numpy()
    torch.testing.assert_close(moved.encode(x), codec.encode(x), atol=1e-5, rtol=1e-5)
    assert np.abs(moved.decode(codec.encode(x)).astype(int) - codec.decode(codec.encode(x))).max() <= 1
    torch.testing.assert_close(
        moved.net.decode(moved.unscale(moved.encode(x))),
        codec.net.decode(codec.unscale(codec.encode(x))),
        atol=1e-4,
        rtol=1e-4,
    )


def test_latents_by_hand():
    codec = Latents(painter.codec().net, 16, 16, scale=0.5, shift=2.0)
    assert codec.unscale(torch.tensor(3.0)) == 8.0
    assert codec.shape(2, (32, 8)) == (2, 4, 16, 4)


# --- what folders leave out ---------------------------------------------------------------------------------


def test_what_a_folder_does_not_say(tiny):
    pipe = unnoise.load(tiny, device="cpu", dtype="fp32")
    assert pipe.defaults["num_inference_steps"] == 4
    assert pipe.defaults["guidance_scale"] == 1.5
    from unnoise.pipeline import DEFAULTS

    assert DEFAULTS["num_inference_steps"] == 20
    assert DEFAULTS["guidance_scale"] == 2.0


def test_text_models_are_guided_as_stable_diffusion_is(tmp_path):
    f = hub.load(painter.painter(tmp_path / "model"))
    silent = hub.save(
        tmp_path / "silent",
        name="silent",
        kind="unet",
        net=f.net,
        weights=None,
        codec=f.codec,
        words=None,
        process=f.process,
        text=f.text,
    )
    assert unnoise.load(silent, device="cpu", dtype="fp32").defaults["guidance_scale"] == 7.5


# --- schedulers ---------------------------------------------------------------------------------------------

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


@pytest.mark.parametrize(
    ("config", "sampler", "spacing"),
    [
        ({"_class_name": "DDIMScheduler"}, ("ddim", {}), ("leading", {"offset": 0})),
        ({"_class_name": "DDIMScheduler", "steps_offset": 1}, ("ddim", {}), ("leading", {})),
        (
            {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "steps_offset": 1},
            ("plms", {}),
            ("leading", {}),
        ),
        ({"_class_name": "EulerDiscreteScheduler"}, ("euler", {}), ("linspace", {})),
        ({"_class_name": "EulerDiscreteScheduler", "use_beta_sigmas": True}, ("euler", {}), ("beta", {})),
        (
            {"_class_name": "EulerDiscreteScheduler", "use_exponential_sigmas": True},
            ("euler", {}),
            ("logsnr", {}),
        ),
        ({"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True}, ("euler", {}), ("karras", {})),
        (
            {"_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing"},
            ("euler_ancestral", {}),
            ("trailing", {}),
        ),
        ({"_class_name": "DPMSolverMultistepScheduler"}, ("dpmpp_2m", {}), ("trailing", {})),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3},
            ("dpmpp_3m", {}),
            ("trailing", {}),
        ),
        ({"_class_name": "DPMSolverMultistepScheduler", "solver_order": 1}, ("ddim", {}), ("trailing", {})),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"},
            ("dpmpp_2m_sde", {}),
            ("trailing", {}),
        ),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "timestep_spacing": "leading", "steps_offset": 1},
            ("dpmpp_2m", {}),
            ("leading", {"extra": 1}),
        ),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "use_lu_lambdas": True},
            ("dpmpp_2m", {}),
            ("logsnr", {}),
        ),
        (
            {"_class_name": "UniPCMultistepScheduler", "solver_order": 3},
            ("unipc", {"order": 3}),
            ("trailing", {}),
        ),
        (
            {"_class_name": "UniPCMultistepScheduler", "solver_type": "bh1"},
            ("unipc", {"b_h": "bh1"}),
            ("trailing", {}),
        ),
        ({"_class_name": "DDPMScheduler"}, ("ddpm", {}), ("leading", {"offset": 0})),
        (
            {"_class_name": "DDPMScheduler", "variance_type": "fixed_large"},
            ("ddpm", {"variance": "large"}),
            ("leading", {"offset": 0}),
        ),
        ({"_class_name": "LCMScheduler"}, ("consistency", {}), ("trailing", {})),
        ({"_class_name": "KDPM2AncestralDiscreteScheduler"}, ("dpmpp_2s", {"eta": 1.0}), ("linspace", {})),
    ],
)
def test_what_a_published_scheduler_does(config, sampler, spacing):
    d = schedulers.read({**SD, **config}).defaults
    assert (d["sampler"], d.get("options", {})) == sampler
    assert (d["spacing"], d.get("spacing_options", {})) == spacing


@pytest.mark.parametrize(
    ("config", "name", "options", "predict"),
    [
        ({"_class_name": "DDIMScheduler"}, "ddpm", {}, "eps"),
        ({"_class_name": "DDIMScheduler", **SD}, "scaled_linear", {}, "eps"),
        (
            {
                "_class_name": "DDIMScheduler",
                **SD,
                "prediction_type": "v_prediction",
                "rescale_betas_zero_snr": True,
            },
            "scaled_linear-zsnr",
            {},
            "v",
        ),
        (
            {
                "_class_name": "DDIMScheduler",
                "beta_schedule": "squaredcos_cap_v2",
                "prediction_type": "sample",
            },
            "cosine",
            {},
            "x0",
        ),
        (
            {"_class_name": "DDPMScheduler", "beta_end": 0.03, "num_train_timesteps": 500},
            "ddpm",
            {"T": 500, "end": 0.03},
            "eps",
        ),
        ({"_class_name": "HeunDiscreteScheduler"}, "ddpm", {"start": 0.00085, "end": 0.012}, "eps"),
    ],
)
def test_the_process_that_a_published_scheduler_names(config, name, options, predict):
    p = schedulers.read(config).process
    assert (p.schedule, p.schedule_options, p.predict, p.frame, p.clock) == (
        name,
        options,
        predict,
        "unit",
        "table",
    )


def test_latents_are_not_clipped_and_begin_one_step_later():
    """As diffusers' Stable Diffusion pipelines read the same file."""
    config = {"_class_name": "DDIMScheduler", **SD, "clip_sample": True, "steps_offset": 0}
    pixels, latents = (schedulers.read(config, latents=v).defaults for v in (False, True))
    assert pixels["clip"] == 1.0
    assert pixels["spacing_options"] == {"offset": 0}
    assert "clip" not in latents
    assert "spacing_options" not in latents


@pytest.mark.parametrize(
    ("defaults", "want"),
    [
        (
            {},
            {
                "_class_name": "DDIMScheduler",
                "timestep_spacing": "trailing",
                "steps_offset": 1,
                "clip_sample": False,
                "set_alpha_to_one": True,
            },
        ),
        (
            {"sampler": "dpmpp_3m"},
            {
                "_class_name": "DPMSolverMultistepScheduler",
                "solver_order": 3,
                "algorithm_type": "dpmsolver++",
            },
        ),
        (
            {"sampler": "euler", "spacing": "karras"},
            {
                "_class_name": "EulerDiscreteScheduler",
                "use_karras_sigmas": True,
                "timestep_spacing": "linspace",
            },
        ),
        (
            {"sampler": "ddpm", "options": {"variance": "large"}, "clip": 2.0},
            {
                "_class_name": "DDPMScheduler",
                "variance_type": "fixed_large",
                "clip_sample": True,
                "clip_sample_range": 2.0,
            },
        ),
        ({"sampler": "plms"}, {"_class_name": "PNDMScheduler", "skip_prk_steps": True}),
        (
            {"sampler": "dpmpp_2m_sde"},
            {
                "_class_name": "DPMSolverMultistepScheduler",
                "algorithm_type": "sde-dpmsolver++",
                "solver_order": 2,
            },
        ),
    ],
)
def test_what_is_written_for_a_default_sampler(defaults, want):
    d = schedulers.write(ProcessSection(schedule="scaled_linear", predict="eps"), defaults)
    assert {k: d.get(k) for k in want} == want
    assert (d["beta_start"], d["beta_end"], d["num_train_timesteps"]) == (0.00085, 0.012, 1000)


def test_an_edm_file_is_edms():
    s = schedulers.read({"_class_name": "EDMDPMSolverMultistepScheduler"})
    p = s.process
    assert (p.schedule, p.predict, p.frame, p.clock, p.weight) == (
        "edm",
        "edm:0.5",
        "whiten",
        "c_noise",
        "edm",
    )
    curve = schedule.named(p.schedule, **p.schedule_options)
    assert s.defaults["sampler"] == "dpmpp_2m"
    assert s.defaults["spacing"] == "karras"
    assert curve.T == 1000
