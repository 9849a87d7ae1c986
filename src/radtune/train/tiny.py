"""A tiny random Qwen3-VL with the real classes, built without a download: the demo's and the tests' base model.

    radtune tiny --corpus train.json --corpus prompts.yaml --out tiny/

A random base learns nothing from LoRA, so train this model in full (`finetuning_type: full`) before adapting it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from radtune import files

# Qwen2's added tokens in their order, and the part of the vocabulary that is not special
SPECIAL = [f"<|{name}|>" for name in (
    "endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start", "box_end", "quad_start",
    "quad_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad",
)]  # fmt: skip
# Qwen2's pre-tokenizer: words, single digits, punctuation, spaces
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
VOCABULARY = 2000  # at most; 256 bytes and a demo's words take 500 to 900
CHAT_TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.content is string %}{{- message.content }}"
    "{%- else %}{%- for part in message.content %}"
    "{%- if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- elif part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{%- elif 'text' in part %}{{- part.text }}{%- endif %}{%- endfor %}{%- endif %}"
    "{{- '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
# Sizes as in Qwen3-VL: 16 px patches merged 2x2, one token per 32x32 px. 4096 px lets small images through un-enlarged
# (the hub's processor enlarges below 65536).
IMAGE = {
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "size": {"shortest_edge": 4096, "longest_edge": 16777216},
}
TEXT_MODEL = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "rope_scaling": {"mrope_interleaved": True, "mrope_section": [6, 5, 5], "rope_type": "default"},  # sums: head_dim/2
    "rope_theta": 5000000.0,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}
VISION_MODEL = {
    "depth": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_heads": 4,
    "deepstack_visual_indexes": [0],
    "num_position_embeddings": 2304,
    "hidden_act": "gelu_pytorch_tanh",
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "in_channels": 3,
}


def build(out: Path, corpus: list[Path], seed: int = 0, wordings: int | None = None) -> None:
    """Write a model folder of about 2 M random parameters, loadable offline through transformers' Auto classes.

    `corpus`: ShareGPT .json files, whose every string trains the tokenizer, and prompt .yaml files, of which the first
    `wordings` of each tag do (None: all), so that the model's sequences are short. The same corpus and seed give the
    same bytes.
    """
    import torch
    from transformers import (
        GenerationConfig,
        Qwen2TokenizerFast,
        Qwen2VLImageProcessorFast,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    torch.manual_seed(seed)
    with files.replacing(out) as temporary:
        temporary.mkdir()
        trained = _train_tokenizer(list(_texts(corpus, wordings)))
        number = {token: trained.token_to_id(token) for token in SPECIAL}
        trained.save(str(temporary / "tokenizer.json"))
        tokenizer = Qwen2TokenizerFast(
            tokenizer_object=trained,
            eos_token="<|im_end|>",
            pad_token="<|endoftext|>",
            unk_token=None,
            additional_special_tokens=SPECIAL[1:],
            model_max_length=262144,
        )
        Qwen3VLProcessor(
            image_processor=Qwen2VLImageProcessorFast(**IMAGE),
            video_processor=Qwen3VLVideoProcessor(**IMAGE),
            tokenizer=tokenizer,
            chat_template=CHAT_TEMPLATE,
        ).save_pretrained(temporary)

        ends = {"eos_token_id": number["<|im_end|>"], "pad_token_id": number["<|endoftext|>"]}
        config = Qwen3VLConfig(
            text_config={**TEXT_MODEL, **ends, "vocab_size": -(-len(tokenizer) // 64) * 64},
            vision_config={**VISION_MODEL, "out_hidden_size": TEXT_MODEL["hidden_size"]},
            image_token_id=number["<|image_pad|>"],
            video_token_id=number["<|video_pad|>"],
            vision_start_token_id=number["<|vision_start|>"],
            vision_end_token_id=number["<|vision_end|>"],
            tie_word_embeddings=True,
        )
        model = Qwen3VLForConditionalGeneration(config)
        model.generation_config = GenerationConfig(do_sample=False, **ends)
        model.save_pretrained(temporary)


def _texts(corpus: list[Path], wordings: int | None) -> Iterator[str]:
    for path in corpus:
        if path.suffix not in (".json", ".yaml", ".yml"):
            raise files.UserError(f"{path}: a corpus file must be ShareGPT .json or prompts .yaml.")
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            yield from _strings(json.loads(text))
        else:
            for asked in yaml.safe_load(text).values():
                yield from asked[:wordings] if isinstance(asked, list) else ()


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("id", "images", "group"):  # ids and file names are never part of a sequence
                yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _train_tokenizer(texts: list[str]) -> Any:
    """Byte-level BPE in Qwen2's form: any text encodes, the corpus's words are single tokens."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([*texts, "user\nassistant\nsystem\n"] * 2, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer
