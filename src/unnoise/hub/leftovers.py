"""What files of weights hold beside the weights: names that training tools wrap, and tensors that no network
reads.

`tidied` undoes the wrapping; `reason` says why a tensor that has no place is left out. Neither looks at a
value.

    state_dict.x, module.x, x._orig_mod.y, x.base_layer.y     the same tensor: written from inside of a
                                                              wrapper (DDP, torch.compile, PEFT)
    lora_…, bundle_emb.…, model_ema.…, lm_head.weight, betas  of something else than the network: left out,
                                                              and told by `info`
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_FIRST = ("state_dict", "model_state_dict", "module", "_orig_mod", "_fsdp_wrapped_module")
_INSIDE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "base_layer")
_REASONS = (  # a piece of a name -> what such tensors are; the first that is found counts
    (r"lora[._]|lora_|hada_w|lokr_w|\.lora", "of a LoRA that lies in the file, which is not applied"),
    (r"string_to_param|emb_params|bundle_emb", "an embedding (textual inversion) that lies in the file"),
    (
        r"(^|\.)model_ema(\.|_|$)|(^|\.)ema(\.|_|$)|ema_model|\.ema_",
        "an averaged copy (EMA) of weights, or its bookkeeping",
    ),
    (
        r"^(betas|alphas_|sqrt_|log_one|posterior_|lvlb|logvar|scale_factor|v_pred|ztsnr|edm_|noise_|snr|sigmas)",
        "a table of the schedule",
    ),
    (
        r"(^|\.)loss\.|discriminator|optimizer|global_step|(^|\.)(step|epoch|iteration)s?$|num_updates|decay|logit_scale",
        "of its training",
    ),
    (r"position_ids$|attn_mask$|causal_mask$", "a table that is computed here"),
    (r"lm_head\.", "a tied copy of the token embedding"),
    (
        r"text_projection|visual_projection|(^|\.)visual\.|vision_model\.",
        "of CLIP's comparison with pictures, which is not used",
    ),
    (
        r"scale_(weight|input)$|(weight|input)_scale$|scaled_fp8$|comfy_quant",
        "a scale of 8-bit weights: used, and then gone",
    ),
)


def tidied(names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """(name in the file -> plain name, name in the file -> why it is left out).

    Where a tensor stands there wrapped and plain, the plain one is taken.
    """
    kept: dict[str, str] = {}
    left: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(names, key=lambda n: (plain(n) != n, n)):
        short = plain(name)
        if short in taken:
            left[name] = f"a second copy of {short}"
        else:
            kept[name] = short
            taken.add(short)
    return kept, left


def plain(name: str) -> str:
    """The name without the wrappers that it was written from."""
    parts = name.split(".")
    while len(parts) > 1 and parts[0] in _FIRST:
        parts = parts[1:]
    return ".".join(p for i, p in enumerate(parts) if p not in _INSIDE or i == len(parts) - 1)


def reason(name: str) -> str | None:
    """What a tensor is that belongs to no network; None where nothing is known of such a name."""
    return next((why for piece, why in _REASONS if re.search(piece, name)), None)


def stray(extra: Iterable[str], own: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Tensors that have no place in a network, parted: (those to be left out, with why; those that contradict
    its config).

    own: the names that the network has. A name that begins like one of them (`down_blocks.3.…` of a network
    with three) is of a larger network than the config says; a known leftover, or one of another beginning, is
    not.
    """
    first = {n.split(".")[0] for n in own} | set(_MEANT)
    left: dict[str, str] = {}
    wrong: list[str] = []
    for name in sorted(extra):
        why = reason(name)
        if why is None and name.split(".")[0] in first:
            wrong.append(name)
        else:
            left[name] = why or "nothing of the network is called so"
    return left, wrong


_MEANT = (
    "class_embedding",
    "add_embedding",
    "encoder_hid_proj",
    "position_net",
    "label_emb",
    "input_hint_block",
    "time_mix_blocks",
    "time_stack",
)
