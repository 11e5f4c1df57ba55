"""What people type who come from other tools, and what it is called here: the one table behind every "did you
mean".

    nearest("--cfg-scale", ["--steps", "--guidance"])    # "--guidance": the same thing under another name
    nearest("stpes", ["steps", "seed"])                  # "steps": a slip of the pen
    spelled("--W", …)                                    # the table alone, no guess by letters

A row holds our names (as an option of a command, as a keyword in Python, in a recipe, …) and theirs. Letters
alone count: capitals, dashes, underscores and spaces do not. Nothing is imported here, so that a slip is told
at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

# ours | in several places,   theirs
OPTIONS: tuple[tuple[str, str], ...] = (
    (
        "--guidance | guidance_scale | guidance",
        (
            "cfg cfg_scale cfgs scale cfg_weight cfg_strength guidance_weight guidance_strength"
            " classifier_free_guidance text_guidance text_guidance_scale unconditional_guidance_scale"
            " uncond_scale cond_scale true_cfg_scale gs c"
        ),
    ),
    (
        "--guidance-rescale | guidance_rescale | guidance-rescale",
        "rescale rescale_cfg cfg_rescale rescale_guidance guidance_rescale_phi phi rescale_multiplier",
    ),
    (
        "guidance_interval",
        "cfg_interval interval guidance_start guidance_end guidance_limits cfg_start cfg_end",
    ),
    (
        "--steps | num_inference_steps | steps | train.steps",
        (
            "num_steps n_steps step ddim_steps ddpm_steps sample_steps sampling_steps inference_steps"
            " infer_steps number_of_steps iterations num_sampling_steps num_sample_steps sampler_steps nfe s"
            " max_steps max_train_steps num_train_steps train_steps total_steps epochs num_epochs"
            " max_train_epochs num_train_epochs n_epochs"
        ),
    ),
    (
        "--num-images | num_images | --count | num",
        (
            "n_iter niter batch_count num n_samples num_samples num_images_per_prompt images_per_prompt"
            " number count amount how_many num_outputs n quantity images num_image number_of_images n_images"
            " repeat repeats generations num_generations samples"
        ),
    ),
    (
        "--batch-size | batch_size | batch | train.batch",
        (
            "bs b max_batch train_batch_size per_device_batch_size per_device_train_batch_size micro_batch"
            " micro_batch_size minibatch eval_batch_size"
        ),
    ),
    (
        "--negative | negative_prompt | negative",
        (
            "neg neg_prompt negative_text negative_conditioning uncond unconditional uc np nprompt exclude"
            " without avoid ucg"
        ),
    ),
    ("prompt", "text caption txt description prompts positive positive_prompt pos cond query"),
    (
        "--strength | strength",
        (
            "denoise denoising denoising_strength denoise_strength img2img_strength image_strength"
            " init_strength init_image_strength noise_strength prompt_strength image_denoise f"
        ),
    ),
    (
        "--width | width",
        "w wide image_width img_width x_size size resolution res dimensions image_size img_size",
    ),
    (
        "--height | height",
        "h high image_height img_height y_size size resolution res dimensions image_size img_size",
    ),
    ("size | data.size", "resolution res image_size img_size"),
    (
        "--sampler | sampler",
        (
            "sampler_name sampler_index sampler_type scheduler scheduler_name scheduler_class sampling_method"
            " sample_method sampling method solver ddim plms a"
        ),
    ),
    (
        "--spacing | spacing",
        (
            "schedule noise_schedule scheduler_type schedule_type schedule_name grid timestep_spacing"
            " sigma_schedule karras use_karras_sigmas karras_sigmas use_karras exponential"
            " use_exponential_sigmas"
        ),
    ),
    (
        "--model | model | name",
        (
            "ckpt checkpoint ckpt_path ckpt_name ckpt_file model_id model_path model_name model_dir"
            " pretrained pretrained_model model_name_or_path pretrained_model_name_or_path"
            " pretrained_model_path repo repo_id base_model sd_model sd_model_checkpoint weights hub m unet"
            " path"
        ),
    ),
    (
        "--output | --out | output",
        (
            "out o outfile outdir out_dir output_dir output_path output_folder output_file save save_path"
            " save_dir save_to dest destination file filename file_name outpath folder dir directory logdir"
            " logging_dir run_dir"
        ),
    ),
    (
        "--seed | seed",
        "seeds random_seed rng generator manual_seed noise_seed variation_seed initial_seed rand",
    ),
    (
        "--clip-skip | clip_skip",
        "clip_stop_at_last_layers clip_layer skip clip_last_layer stop_at_clip_layer clip_layers",
    ),
    (
        "--device | device",
        "cpu gpu cuda mps use_cpu use_gpu use_cuda no_gpu no_cuda cuda_device accelerator gpus d",
    ),
    (
        "--dtype | dtype | train.precision | precision",
        (
            "precision half fp16 fp32 bf16 no_half float16 float32 bfloat16 torch_dtype full_precision"
            " weight_dtype mixed_precision amp autocast half_precision"
        ),
    ),
    (
        "--memory-budget | memory_budget",
        (
            "lowvram medvram low_vram vram offload cpu_offload sequential_cpu_offload"
            " enable_model_cpu_offload enable_sequential_cpu_offload max_memory memory low_memory"
            " attention_slicing enable_attention_slicing vae_slicing vae_tiling"
        ),
    ),
    ("--variant | variant", "weights_variant weight_variant"),
    ("--compile | compile", "torch_compile compiled jit"),
    ("progress", "progress_bar pbar verbose show_progress"),
    ("on_state", "callback callbacks callback_on_step_end callback_steps step_callback on_step"),
    ("--guide | guide", "loss losses guides guidance_fn cond_fn classifier_guidance clip_guidance"),
    ("--mask | mask", "mask_image mask_img inpaint_mask mask_path image_mask"),
    ("image | picture", "init_image init_img input_image source_image img picture init input i"),
    ("--overwrite | overwrite", "force yes y replace clobber exist_ok"),
    ("--resume | resume", "continue cont restart resume_from_checkpoint resume_from load_checkpoint"),
    ("--json", "format output_format as_json machine"),
    ("--tokenizer | tokenizer", "tokenizer_name tokenizer_path tokenizer_dir"),
    (
        "--prediction | prediction | predict | process.predict",
        (
            "prediction_type v_prediction v_pred vpred parameterization parametrization parameterisation"
            " objective pred_type v v2"
        ),
    ),
    ("--preview | preview", "show display live live_preview preview_method"),
    ("--preview-every", "preview_steps preview_interval every show_every_n_steps"),
    ("--sweep", "xy xyz xyz_plot xy_plot plot compare"),
    ("--stages", "intermediates save_intermediates log_every_t save_steps show_intermediates"),
    ("--vae | vae", "vae_path vae_name vae_file autoencoder"),
    ("lr | train.lr", "learning_rate lrate initial_lr base_lr"),
    ("lr_end | train.lr_end", "min_lr lr_min final_lr"),
    ("warmup | train.warmup", "lr_warmup_steps warmup_steps num_warmup_steps lr_warmup"),
    (
        "accumulate | train.accumulate",
        "gradient_accumulation_steps grad_accum gradient_accumulation accumulation accumulate_grad_batches",
    ),
    ("clip | train.clip", "max_grad_norm grad_clip gradient_clip gradient_clip_val clip_grad_norm clip_grad"),
    ("weight_decay | train.weight_decay", "wd adam_weight_decay decay"),
    ("betas | train.betas", "adam_beta1 adam_beta2 beta1 beta2"),
    ("every | log.every", "log_every logging_steps log_interval log_steps print_every"),
    ("save | log.save", "checkpointing_steps save_every save_steps save_interval checkpoint_every"),
    ("keep | log.keep", "checkpoints_total_limit save_total_limit keep_last max_checkpoints"),
    (
        "validate_every | log.validate_every",
        "validation_steps eval_every eval_steps validation_interval val_every",
    ),
    ("ema | train.ema", "ema_decay use_ema ema_rate"),
    (
        "drop_label | process.drop_label",
        (
            "cfg_dropout uncond_prob p_uncond cond_drop_prob label_dropout conditioning_dropout_prob"
            " proportion_empty_prompts"
        ),
    ),
    ("schedule | process.schedule", "beta_schedule noise_schedule noise_scheduler scheduler"),
    ("mirror | data.mirror", "flip random_flip hflip horizontal_flip"),
    ("name | data.name", "dataset dataset_name train_data_dir data_dir instance_data_dir path folder root"),
    ("workers | train.workers", "num_workers dataloader_num_workers n_workers"),
    ("start | train.start", "init_from finetune pretrained init_weights"),
    ("kind | net.kind", "type class arch architecture model"),
    ("eta", "ddim_eta eta_ddim eta_ancestral ancestral_eta"),
    ("s_churn", "churn"),
    ("s_min", "s_tmin tmin"),
    ("s_max", "s_tmax tmax"),
    ("order", "solver_order"),
    ("b_h", "solver_type bh"),
)
COMMANDS: tuple[tuple[str, str], ...] = (
    (
        "generate",
        (
            "txt2img text2img text2image text_to_image t2i draw create make sample imagine paint render gen"
            " dream run infer inference predict prompt txt2image txt2pic"
        ),
    ),
    (
        "edit image-to-image | image-to-image",
        "img2img i2i image2image imgtoimg img2image variation variations remix img_to_img pix2pix",
    ),
    ("edit inpaint | inpaint", "inpainting fill erase mask infill"),
    ("edit outpaint | outpaint", "outpainting uncrop expand extend canvas"),
    ("edit zoom-out | zoom-out", "zoom infinite_zoom"),
    (
        "edit upscale | upscale",
        "upscaling superres super_resolution sr enlarge hires hires_fix highres esrgan upsample extras",
    ),
    ("edit denoise | denoise", "denoising clean despeckle restore"),
    ("edit style | style", "style_transfer restyle"),
    ("edit prompt-to-prompt | prompt-to-prompt", "p2p prompt2prompt"),
    ("edit invert | invert", "inversion ddim_inversion null_text reverse"),
    ("edit imagic | imagic", "text_edit"),
    ("edit anomaly | anomaly", "anomalies detect"),
    ("train", "fit finetune fine_tune training"),
    ("evaluate", "eval fid score test benchmark metrics validate measure"),
    ("models", "list ls model checkpoints list_models"),
    ("fetch", "download pull get install"),
    ("info", "show inspect describe about card"),
    ("tokens", "tokenize tokenizer token"),
    ("samplers", "schedulers scheduler sampler schedules spacings"),
    ("replay", "reproduce rerun recipe redo repeat regenerate"),
    ("data", "dataset datasets"),
    ("lab", "experiment experiments"),
    ("lab list | list", "questions"),
    ("--help", "help usage man"),
    ("--version", "version v"),
)
VALUES: tuple[tuple[str, str], ...] = (
    (
        "dpmpp_2m",
        (
            "dpm_fast dpm_adaptive dpmpp dpm default auto best ipndm ipndm_v res_multistep "
            "edm_dpmsolver_multistep"
        ),
    ),
    ("dpmpp_2s", "dpm2 dpm_2 k_dpm_2 kdpm2 dpmsolver_singlestep"),
    ("euler_ancestral", "dpm2_a dpm_2_ancestral k_dpm_2_a kdpm2_ancestral dpmpp_2s_a dpmpp_2s_ancestral k"),
    ("heun", "heunpp2 heunpp"),
    ("dpmpp_2m_sde", "dpmpp_3m_sde dpmpp_2m_sde_heun er_sde sa_solver seeds_2"),
    ("edm", "edm_euler"),
    ("predictor_corrector", "score_sde_ve"),
    ("consistency", "tcd turbo"),
    ("trailing", "simple sgm_uniform"),
    ("linspace", "normal linear uniform"),
    ("leading", "ddim_uniform"),
    ("fp16", "half float16 torch_float16 f16"),
    ("bf16", "bfloat16 torch_bfloat16"),
    ("fp32", "float float32 full single torch_float32 f32"),
    ("cuda", "gpu nvidia"),
    ("epsilon", "eps noise"),
    ("v_prediction", "v vpred velocity"),
)
# Options that we have no name for, and what to do instead.
HINTS: tuple[tuple[str, str], ...] = (
    (
        "prompt p text caption positive",
        'the prompt is no option but an argument, as in: unnoise generate "a red apple"',
    ),
    (
        "image img init_image init_img input_image init input i",
        "the picture is no option but the first argument of `unnoise edit …`, which changes pictures",
    ),
    (
        "strength denoise denoising denoising_strength denoise_strength f",
        (
            "how much of a picture changes is said to the command that takes one: "
            "unnoise edit image-to-image PICTURE PROMPT --strength 0.6"
        ),
    ),
    (
        "xformers sdp flash_attention enable_xformers_memory_efficient_attention",
        "attention takes the fastest form by itself",
    ),
    ("safety_checker nsfw disable_nsfw_checker", "there is no filter to turn off"),
    ("verbose quiet q silent progress", "progress is shown on terminals only; --json prints one object"),
)
# Every option that some sampler has: told apart without loading one. A test holds the list against the
# samplers.
SAMPLER_OPTIONS = (
    "b_h",
    "beta",
    "beta1",
    "beta2",
    "correct",
    "corrections",
    "eta",
    "gamma",
    "high",
    "knee",
    "low",
    "order",
    "s_churn",
    "s_max",
    "s_min",
    "s_noise",
    "scale",
    "snr",
    "step",
    "steps",
    "times",
    "variable",
    "variance",
)


def spelled(given: str, accepted: Iterable[str]) -> str | None:
    """The accepted name for what other tools call `given`, or that `given` is but for capitals and dashes;
    None where the table has none.
    """
    forms, names = _forms(given), list(accepted)
    same = next((name for name in names if _plain(name) in forms), None)
    return same or next((name for known in _rows(forms) for name in known if name in names), None)


def nearest(given: str, accepted: Iterable[str]) -> str | None:
    """The accepted name that is meant: by the table, else by likeness of letters; None where none is like
    it.
    """
    names = list(accepted)
    found = spelled(given, names)
    if found is not None or any(
        _rows(_forms(given))
    ):  # a word of the table that means something else is no slip of the pen
        return found
    plain = {_plain(name): name for name in reversed(names)}
    near = get_close_matches(
        min(_forms(given), key=len, default=""), [p for p in plain if p], n=1, cutoff=0.6
    )
    return plain[near[0]] if near else None


def hint(given: str) -> str | None:
    """What to do instead of an option that has no counterpart here."""
    plain = _plain(given)
    return next((told for words, told in HINTS if plain in map(_plain, words.split())), None)


def _rows(forms: set[str]) -> Iterator[list[str]]:
    """Our names in each row of the table where one of the words stands."""
    for ours, theirs in (*OPTIONS, *COMMANDS, *VALUES):
        known = [name.strip() for name in ours.split("|")]
        if not forms.isdisjoint(map(_plain, (*known, *theirs.split()))):
            yield known


def _forms(given: str) -> set[str]:
    """What was given as small letters and digits, and without the words that other tools add to a sampler's
    name.
    """
    forms = {_plain(given)}
    for word in ("scheduler", "karras", "exponential", "gpu", "discrete", "cfgpp"):
        forms |= {f.removesuffix(word) for f in forms}
    return forms - {""}


def _plain(name: str) -> str:
    """Small letters and digits."""
    return "".join(c for c in name.lower() if c.isalnum())
