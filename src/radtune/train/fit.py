"""Does the job fit the card? Training's and prediction's memory against the limit, and what would make it fit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from radtune import files, gpu

# How far the estimate of memory may lie from what LLaMA-Factory takes of torch's allocator; the tests hold it to that
TOLERANCE = 0.05


def predicting(model: Path, tokens: int, on_gpu: bool, limit_gib: float | None) -> dict[str, Any]:
    """The memory of prediction at its least, one prompt of `tokens` with its answer, and what it says of the limit."""
    from radtune.train.memory import prediction

    parts = prediction(model, tokens, on_gpu=on_gpu)
    result: dict[str, Any] = {
        "tokens": tokens,
        "estimate_gib": {part: round(size / gpu.GIB, 3) for part, size in parts.items()},
        "limit_gib": limit_gib,
    }
    if limit_gib is not None and parts["total"] > limit_gib * gpu.GIB:
        result["advice"] = (
            f"prediction takes {parts['total'] / gpu.GIB:.1f} GiB for a single prompt, of {tokens} tokens with its "
            f"answer, limits.gpu_memory_gib is {limit_gib:g}: take a smaller model, or lower generation.max_new_tokens"
        )
        print(f"{result['advice']}.", file=sys.stderr)
    return result


def check_memory(
    model: Path, settings: dict[str, Any], shape: dict[str, int], limit_gib: float | None
) -> dict[str, Any]:
    """The estimate in GiB, by part, and what it says of the limit.

    An error where not even the least that the estimate may mean would fit. Between that and a clear fit it is a
    warning: what fits by a hair is for the trial on the GPU to say.
    """
    from radtune.train.memory import estimate

    parts = estimate(model, settings, **shape)
    result: dict[str, Any] = {
        "batch": shape["batch"],
        "batch_tokens": shape["length"],
        "estimate_gib": {part: round(size / gpu.GIB, 3) for part, size in parts.items()},
        "limit_gib": limit_gib,
    }
    if limit_gib is None or parts["total"] * (1 + TOLERANCE) <= limit_gib * gpu.GIB:
        return result
    change = next((c for c in smaller(settings) if _total(model, settings | c, shape) <= limit_gib * gpu.GIB), None)
    what = ", ".join(f"{key}: {value}" for key, value in change.items()) if change else "a smaller model"
    need = f"training takes about {parts['total'] / gpu.GIB:.1f} GiB, limits.gpu_memory_gib is {limit_gib:g}"
    if parts["total"] * (1 - TOLERANCE) > limit_gib * gpu.GIB:
        raise files.UserError(f"{need}; {'set training ' if change else 'take '}{what}.")
    result["advice"] = f"{need}: it may not fit; what would: {what}"
    print(f"{result['advice']}.", file=sys.stderr)
    return result


def _total(model: Path, settings: dict[str, Any], shape: dict[str, int]) -> int:
    from radtune.train.memory import estimate

    batch = settings["per_device_train_batch_size"]
    less = shape | {"batch": batch, "patches": shape["patches"] * batch // shape["batch"]}
    return estimate(model, settings, **less)["total"]


def smaller(settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Settings that take less memory and more time, each with those before it, at the same effective batch."""
    change: dict[str, Any] = {}
    if settings.get("disable_gradient_checkpointing"):
        change["disable_gradient_checkpointing"] = False
        yield dict(change)
    batch, steps = settings["per_device_train_batch_size"], settings["gradient_accumulation_steps"]
    for less in range(batch - 1, 0, -1):
        if batch % less == 0:
            change |= {"per_device_train_batch_size": less, "gradient_accumulation_steps": steps * batch // less}
            yield dict(change)
    if not settings.get("quantization_bit"):
        yield change | {"quantization_bit": 4}
