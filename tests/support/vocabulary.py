"""A small tokenizer, trained here, in the files of the published ones: the layout of clip-vit-large-patch14
and of SD 2.x, by hand.
"""

import json

from unnoise.text.tokenizer import BOS, END, EOS, Tokenizer

CORPUS = [
    "a photograph of an astronaut riding a horse on the moon",
    "a cat and a dog, they're friends; I'll say it's 12 o'clock",
    "a red apple on a wooden table, oil painting",
    "an old typewriter and a new keyboard",
    "we've seen what you'd seen, don't we? I'm sure!",
    "un café à la crème, naïve façade, größe",
    "富士山の写真 · кот на крыше",
    "puppy skunk puppy skunk wow!! ... (yes) [no] {both}",
    "🙂🙂 🍎",
] * 3


def trained(size: int = 700) -> Tokenizer:
    return Tokenizer.train(CORPUS, size)


def published(folder, tokenizer: Tokenizer, pad=EOS, whole=False):
    """Write the files as OpenAI's (pad "!": Stability's) repositories have them; `whole`: tokenizer.json
    instead of vocabulary and merges.
    """
    folder.mkdir(parents=True, exist_ok=True)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
    names = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS}
    write = lambda name, d: (folder / name).write_text(json.dumps(d), encoding="utf-8")
    if whole:
        d = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "normalizer": None,
            "pre_tokenizer": None,
            "decoder": None,
            "post_processor": None,
            "added_tokens": [
                {"id": tokenizer.vocab[t], "content": t, **flags, "special": True} for t in (BOS, EOS)
            ],
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": EOS,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": END,
                "fuse_unk": False,
                "vocab": tokenizer.vocab,
                "merges": [f"{a} {b}" for a, b in tokenizer.merges],
            },
        }
        write("tokenizer.json", d)
    else:
        write("vocab.json", tokenizer.vocab)
        (folder / "merges.txt").write_text(
            "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in tokenizer.merges), encoding="utf-8"
        )
    write(
        "special_tokens_map.json",
        {**{k: {"content": t, **flags} for k, t in names.items()}, "pad_token": pad},
    )
    write(
        "tokenizer_config.json",
        {
            **{k: {"__type": "AddedToken", "content": t, **flags} for k, t in names.items()},
            "pad_token": EOS,
            "add_prefix_space": False,
            "errors": "replace",
            "do_lower_case": True,
            "model_max_length": 77,
            "tokenizer_class": "CLIPTokenizer",
            "name_or_path": "./clip_ViT_L_14/",
        },
    )
    return folder
