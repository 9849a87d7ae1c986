"""What a training step, or a prediction, will hold of a GPU's memory, by part, before any weight is loaded.

The model's own class, adapter, gradient checkpointing, loss and autocast run on tensors without content (torch's
FakeTensorMode) while their bytes are counted, so that the estimate follows from config.json and the settings alone.
"""

from __future__ import annotations

import math
import weakref
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from radtune import gpu
from radtune.train.lengths import packed

# Bytes of a quantised weight's scale in bitsandbytes, by double_quantization: fp32, or 8 bits with scales of their own
SCALE = {False: 4 / 64, True: 1 / 64 + 4 / (64 * 256)}
# Bytes that an optimiser keeps for each trained parameter, where it is not AdamW's two numbers in fp32
STATES = {"sgd": 0, "adafactor": 0, "lion_32bit": 4, "adamw_8bit": 2, "adamw_bnb_8bit": 2, "paged_adamw_8bit": 2}
FLOAT = 4  # bytes


def estimate(model: Path, settings: dict[str, Any], *, batch: int, length: int, patches: int) -> dict[str, int]:
    """Bytes of each part, and their total, of a step of `batch` sequences of `length` tokens, padding included.

    `patches`: of all images of the step. Activations and logits are those at the moment when both together are most.
    Not counted are what torch's allocator cannot use of its blocks, and a kernel's own workspace.
    """
    with FakeTensorMode():
        loaded = _build(model, settings)
        trained = [parameter for parameter in loaded.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)  # from the second step of an update on, all are there
        mask = _mask(loaded, settings, batch, length)
        known = [*loaded.parameters(), *(parameter.grad for parameter in trained), *([] if mask is None else [mask])]
        live = _Live(loaded.config.text_config.vocab_size, known)
        with live:
            seen = _see(loaded, settings, patches)
            _step(loaded, settings, batch, length, mask)
            if seen is not None:
                torch.autograd.backward(seen)
    parts = {
        "weights": weights(loaded, settings),
        "adapter": sum(parameter.nbytes for parameter in trained),
        "gradients": sum(parameter.nbytes for parameter in trained),
        "optimiser": sum(p.numel() for p in trained) * STATES.get(settings.get("optim", "adamw_torch"), 2 * FLOAT),
        **live.peak,
        "inputs": _inputs(loaded, settings, batch, length, patches),
        "context": gpu.CONTEXT,
    }
    return parts | {"total": sum(parts.values())}


def prediction(model: Path, tokens: int, *, on_gpu: bool) -> dict[str, int]:
    """Bytes of each part, and their total, of predicting one sample of `tokens`, prompt and answer together: weights,
    the adapter merged, in the type that prediction loads them in, and the cache of keys and values. A batch takes the
    cache as often as it has prompts. Not counted is what the prompt's own pass holds for a moment.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    config, kind = AutoConfig.from_pretrained(model), torch.bfloat16 if on_gpu else torch.float32
    with torch.device("meta"):
        loaded = AutoModelForImageTextToText.from_config(config, dtype=kind)
    text = config.get_text_config()
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    keys = text.num_hidden_layers * text.num_key_value_heads * width
    parts = {"weights": sum(p.nbytes for p in loaded.parameters()), "cache": 2 * keys * tokens * kind.itemsize}
    parts |= {"context": gpu.CONTEXT}
    return parts | {"total": sum(parts.values())}


def weights(model: Any, settings: dict[str, Any]) -> int:
    """Bytes of what is not trained. bitsandbytes leaves embeddings, norms and the output layer as they are."""
    total: int = sum(parameter.nbytes for parameter in model.parameters() if not parameter.requires_grad)
    bits = settings.get("quantization_bit")
    if bits:
        scale = SCALE[settings.get("double_quantization", True)] if bits == 4 else 0
        output = model.get_output_embeddings()
        for module in model.modules():
            if isinstance(module, torch.nn.Linear) and module is not output and not module.weight.requires_grad:
                total += math.ceil(module.weight.numel() * (bits / 8 + scale)) - module.weight.nbytes
    return total


def autocast(settings: dict[str, Any]) -> Any:
    """The type that operations compute in, None where it is that of the weights."""
    kinds = {"bf16": torch.bfloat16, "pure_bf16": torch.bfloat16, "fp16": torch.float16}
    return next((kind for key, kind in kinds.items() if settings.get(key)), None)


def _build(model: Path, settings: dict[str, Any]) -> Any:
    """Model and adapter as LLaMA-Factory sets them up: weights in config.json's type, what is trained in fp32."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(model)
    attention = "eager" if settings.get("flash_attn") == "disabled" else "sdpa"
    kind = config.dtype or config.text_config.dtype or torch.float32
    loaded = AutoModelForImageTextToText.from_config(config, dtype=kind, attn_implementation=attention)
    loaded.requires_grad_(False)
    loaded.config.use_cache = False
    if _checkpointed(settings):
        # without the random state, which has no content here
        loaded.gradient_checkpointing_enable({"use_reentrant": True, "preserve_rng_state": False})
    adapter = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.get("lora_rank", 8),
        lora_dropout=settings.get("lora_dropout", 0.0),
        use_dora=settings.get("use_dora", False),
        target_modules=_targets(loaded, settings),
    )
    adapted = get_peft_model(loaded, adapter)
    for parameter in adapted.parameters():
        if parameter.requires_grad and not settings.get("pure_bf16"):
            parameter.data = parameter.data.float()
    return adapted.train()


def _checkpointed(settings: dict[str, Any]) -> bool:
    """Whether layers run again in the backward pass, for which LLaMA-Factory gives their inputs gradients."""
    return not settings.get("disable_gradient_checkpointing")


def _targets(model: Any, settings: dict[str, Any]) -> list[str]:
    """The linear modules that get an adapter: of the language model, and of the vision tower where that is tuned."""
    frozen = ["lm_head", "visual.merger", "patch_embed"]
    frozen += ["visual"] if settings.get("freeze_vision_tower", True) else []
    frozen += ["language_model"] if settings.get("freeze_language_model") else []
    asked = settings.get("lora_target", "all")
    kinds = [""] if asked == "all" else [kind.strip() for kind in asked.split(",")]
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and not any(part in name for part in frozen)
        and any(kind in name for kind in kinds)
    ]


def _inputs(model: Any, settings: dict[str, Any], batch: int, length: int, patches: int) -> int:
    """Bytes of pixels and of packs' masks, in the type that is computed in. The trainer takes all the batches of an
    update to the device at once, and its loader one more.
    """
    vision = model.config.vision_config
    values = patches * vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    values += batch * length**2 if packed(settings) else 0
    size: int = (autocast(settings) or model.dtype).itemsize
    return int(values) * size * (int(settings.get("gradient_accumulation_steps", 1)) + 1)


def _mask(model: Any, settings: dict[str, Any], batch: int, length: int) -> torch.Tensor | None:
    """What attention must not see: padding, or the other samples of a pack. With a mask, it copies keys and values for
    each head that shares them, and makes numbers of a boolean one. A single sample needs none.
    """
    if packed(settings):
        return torch.zeros(batch, 1, length, length, dtype=autocast(settings) or model.dtype)
    return torch.ones(batch, 1, length, length, dtype=torch.bool) if batch > 1 else None


def _step(model: Any, settings: dict[str, Any], batch: int, length: int, mask: torch.Tensor | None) -> None:
    """Forward, loss and backward of embedded tokens, wrapped as accelerate wraps them for mixed precision."""
    from accelerate.utils import convert_outputs_to_fp32

    embedding = model.get_input_embeddings().weight
    embedded = torch.empty(batch, length, embedding.shape[1], dtype=embedding.dtype)
    embedded.requires_grad_(_checkpointed(settings))
    positions, labels = torch.zeros(3, batch, length, dtype=torch.long), torch.zeros(batch, length, dtype=torch.long)
    forward, kind = model.forward, autocast(settings)
    if kind:
        forward = convert_outputs_to_fp32(torch.autocast("cpu", kind)(forward))
    outputs = forward(inputs_embeds=embedded, position_ids=positions, attention_mask=mask, labels=labels)
    loss = outputs["loss"]
    del outputs  # as the trainer does
    torch.autograd.backward(loss)


def _see(model: Any, settings: dict[str, Any], patches: int) -> torch.Tensor | None:
    """Forward of a tuned vision tower's blocks, to a number; None for a frozen tower, which keeps nothing."""
    tower = model.get_base_model().model.visual
    if not any(parameter.requires_grad for parameter in tower.parameters()):
        return None
    vision, kind = model.config.vision_config, autocast(settings)
    hidden = torch.empty(patches, vision.hidden_size, dtype=tower.dtype, requires_grad=_checkpointed(settings))
    places = torch.empty(patches, vision.hidden_size // vision.num_heads)
    with torch.autocast("cpu", kind or torch.bfloat16, enabled=kind is not None):
        for block in tower.blocks:
            hidden = block(hidden, cu_seqlens=_OneImage(patches), position_embeddings=(places, places))
    return hidden.sum()


class _OneImage:
    """Where images begin and end, for a tower that asks for their lengths; how many there are changes no byte."""

    def __init__(self, patches: int) -> None:
        self.patches = patches

    def __getitem__(self, _: Any) -> _OneImage:
        return self

    def __sub__(self, _: Any) -> _OneImage:
        return self

    def tolist(self) -> list[int]:
        return [self.patches]


class _Live(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make, as long as something holds them.

    `peak`: activations, and logits (whatever has `vocabulary` as its last dimension), when their sum was largest.
    """

    def __init__(self, vocabulary: int, ignored: list[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.vocabulary = vocabulary
        self.held = {"activations": 0, "logits": 0}
        self.peak = dict(self.held)
        self.known = weakref.WeakSet(tensor.untyped_storage() for tensor in ignored)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage() not in self.known:
                self._hold(tensor)
        return result

    def _hold(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        part, size = "logits" if self.vocabulary in tensor.shape[-1:] else "activations", storage.nbytes()
        self.known.add(storage)
        self.held[part] += size
        weakref.finalize(storage, self._drop, part, size)
        if sum(self.held.values()) > sum(self.peak.values()):
            self.peak = dict(self.held)

    def _drop(self, part: str, size: int) -> None:
        self.held[part] -= size
