"""What people type who come from other tools leads to ours, everywhere that a name is asked for; letters
alone do not mislead.
"""

import inspect

import pytest

import unnoise
from unnoise.base import names
from unnoise.base.names import hint, nearest, spelled
from unnoise.errors import BadInput, unknown
from unnoise.pipeline import Pipeline, load
from unnoise.process.schedule import GRIDS
from unnoise.sample import SAMPLERS, resolve

CALL = [p for p in inspect.signature(Pipeline.__call__).parameters if p not in ("self", "options")]
GENERATE = [
    "--num-images",
    "--output",
    "--model",
    "--steps",
    "--guidance",
    "--negative",
    "--seed",
    "--sampler",
    "--spacing",
    "--noise",
    "--guidance-rescale",
    "--option",
    "--width",
    "--height",
    "--clip-skip",
    "--batch-size",
    "--device",
    "--dtype",
    "--json",
]
PYTHON = {
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "guidance": "guidance_scale",
    "CFGScale": "guidance_scale",
    "neg": "negative_prompt",
    "uncond": "negative_prompt",
    "n_iter": "num_images",
    "batch_count": "num_images",
    "num_images_per_prompt": "num_images",
    "n_samples": "num_images",
    "bs": "batch_size",
    "steps": "num_inference_steps",
    "ddim_steps": "num_inference_steps",
    "W": "width",
    "H": "height",
    "image_width": "width",
    "sampler_name": "sampler",
    "scheduler": "sampler",
    "generator": "seed",
    "random_seed": "seed",
    "use_karras_sigmas": "spacing",
    "callback_on_step_end": "on_state",
    "text": "prompt",
    "guidance_rescale_phi": "guidance_rescale",
    "clip_stop_at_last_layers": "clip_skip",
}
COMMAND = {
    "--cfg": "--guidance",
    "--cfg-scale": "--guidance",
    "--guidance-scale": "--guidance",
    "--guidance_scale": "--guidance",
    "--neg": "--negative",
    "--negative-prompt": "--negative",
    "--n_iter": "--num-images",
    "--batch-count": "--num-images",
    "--batch_size": "--batch-size",
    "-W": "--width",
    "-H": "--height",
    "-s": "--steps",
    "--num_inference_steps": "--steps",
    "--ckpt": "--model",
    "--checkpoint": "--model",
    "--outdir": "--output",
    "--out": "--output",
    "--output-dir": "--output",
    "--scheduler": "--sampler",
    "--schedule": "--spacing",
    "--half": "--dtype",
    "--precision": "--dtype",
    "--cuda": "--device",
    "--CFG": "--guidance",
    "--stpes": "--steps",
    "--widht": "--width",
}


@pytest.mark.parametrize(("typed", "ours"), PYTHON.items())
def test_keywords_of_other_libraries(typed, ours):
    assert nearest(typed, CALL) == ours


@pytest.mark.parametrize(("typed", "ours"), COMMAND.items())
def test_options_of_other_commands(typed, ours):
    assert nearest(typed, GENERATE) == ours


@pytest.mark.parametrize(
    "typed", ["--strength", "--denoise", "--denoising-strength", "--image", "--init-image", "--prompt"]
)
def test_a_word_that_means_something_else_is_never_guessed_by_its_letters(typed):
    """`--denoise` is not `--noise`, `--image` not `--num-images`."""
    assert nearest(typed, GENERATE) is None and hint(typed)


@pytest.mark.parametrize("typed", ["", "-", "--", "zzzz", "\x1b[2J", "q" * 3000, "№", "--foo-bar"])
def test_what_is_like_nothing_leads_nowhere(typed):
    assert nearest(typed, GENERATE) is None and spelled(typed, GENERATE) is None


def test_prose_is_listed_and_never_meant():
    e = unknown("model", "a safetensor checkpoint", ["emoji", "digits"], ("a .safetensors checkpoint",))
    assert "did you mean" not in str(e) and "a .safetensors checkpoint)" in str(e)
    with pytest.raises(BadInput) as e:
        unnoise.load("checkpoint.safetensor")
    assert "did you mean" not in str(e.value)


def test_rows_lead_to_names_that_exist():
    """A row whose names nobody has would lead nowhere; commands' own names are tried in
    tests/cli/test_words.py.
    """
    arguments = {*CALL, *inspect.signature(load).parameters}
    for ours, theirs in names.OPTIONS:
        known = [n.strip() for n in ours.split("|")]
        assert theirs.split() and len(set(known)) == len(known), ours
        keyword = [n for n in known if n.isidentifier() and n in arguments]
        for typed in theirs.split() if keyword else []:
            assert nearest(typed, sorted(arguments)) in arguments, typed
    for ours, _ in names.VALUES:
        assert ours in {*SAMPLERS, *GRIDS, "fp16", "bf16", "fp32", "cuda", "epsilon", "v_prediction"}


def test_the_list_of_sampler_options_is_the_samplers():
    assert sorted({o for s in SAMPLERS.values() for o in s.options}) == sorted(names.SAMPLER_OPTIONS)


_ELSEWHERE = """DPM2|DPM2 a Karras|DPM++ 2S a|DPM++ 2M SDE Heun|DPM++ 3M SDE|DPM fast|DPM adaptive|DDIM CFG++
euler_cfg_pp|heunpp2|dpm_2|dpm_2_ancestral|dpmpp_2s_ancestral_cfg_pp|dpmpp_sde_gpu|dpmpp_3m_sde_gpu|ipndm|ipndm_v
res_multistep|er_sde|seeds_2|k_dpm_2|sa_solver|KDPM2DiscreteScheduler|DPMSolverSinglestepScheduler
EDMEulerScheduler|EDMDPMSolverMultistepScheduler|ScoreSdeVeScheduler|IPNDMScheduler|TCDScheduler"""
ELSEWHERE = _ELSEWHERE.replace("\n", "|")


@pytest.mark.parametrize("typed", ELSEWHERE.split("|"))
def test_samplers_that_we_do_not_have_lead_to_one_of_their_kind(typed):
    with pytest.raises(BadInput, match="did you mean") as e:
        resolve(typed)
    meant = str(e.value).split("did you mean '")[1].split("'")[0]
    assert meant in SAMPLERS
    if "ancestral" in typed.lower():
        assert meant == "euler_ancestral"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (dict(cfg_scale=3), "did you mean 'guidance_scale'"),
        (dict(n_iter=2), "did you mean 'num_images'"),
        (dict(W=8), "did you mean 'width'"),
        (dict(steps=3), "did you mean 'num_inference_steps'"),
        (dict(sampler="ddim", etaa=1), "did you mean 'eta'"),
        (dict(sampler="euler", eta=1), "sampler 'euler' has no option 'eta'.*it is one of ddim"),
        (dict(sampler="ddim", nothing=1), "options of sampler 'ddim': eta"),
        (dict(sampler="euler", nothing=1), "arguments of a call: prompt, .*options of sampler 'euler': none"),
    ],
)
def test_a_call_says_what_is_meant_and_tells_arguments_from_options(given, said):
    with pytest.raises(BadInput, match=said):
        unnoise.load("digits")("seven", **given)


@pytest.mark.parametrize(
    "given",
    [
        dict(torch_dtype="fp16"),
        dict(ckpt="x"),
        dict(compile=1),
        dict(once="yes"),
        dict(device=3.5),
        dict(device=[1]),
        dict(dtype=["fp32"]),
        dict(dtype=3),
        dict(memory_budget="9" * 400),
        dict(memory_budget=True),
        dict(variant=3),
        dict(prediction=2),
        dict(tokenizer=5),
        dict(tokenizer=""),
        *({"name": n} for n in (None, 3, "", "a\0b", "a\ud800", b"digits", ["x"], {}, "a/\0b")),
    ],
    ids=str,
)
def test_load_refuses_wrong_arguments_in_one_line(given):
    with pytest.raises(BadInput) as e:
        unnoise.load(**{"name": "digits", **given})
    assert "\n" not in str(e.value) and (
        set(given) & set(str(e.value).replace("memory", "memory_budget").split())
        or "argument of load" in str(e.value)
    )


def test_the_modules_names_are_told_without_torch():
    import subprocess
    import sys

    code = (
        "import unnoise, sys; d = dir(unnoise); assert {'load', 'Pipeline', 'Result', 'BadInput', 'sample'}"
        " <= set(d), d; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    for name in dir(unnoise):
        assert getattr(unnoise, name) is not None
