"""Greedy answers of a whole model by vLLM, which needs a newer CUDA than the rest and so an environment of its own.

    radtune predict-vllm --model merged/ --sharegpt test.json --media-dir images/ --out test.jsonl

What goes in and comes out is that of `radtune predict`. An adapter is merged before, as vLLM would leave out what one
holds for the vision tower.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from radtune import files, gpu
from radtune.predict.answers import Answer, Record, answer_all, end_tokens, fitted, prompt
from radtune.resize import IMAGE

# In one process, so that none is left when it is killed; asks no hub, reports to nobody
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "HF_HUB_OFFLINE": "1",
}


def predict_vllm(
    model: Path,
    sharegpt: Path,
    media_dir: Path,
    out: Path,
    *,
    chunk: str = "1-of-1",
    some: int | None = None,
    max_new_tokens: int,
    batch_size: int,
    image_max_pixels: int,
    image_min_pixels: int,
    gpus: int = 1,
    gpu_memory_gib: float | None = None,
) -> None:
    """Write the lines of answer_all(), at most one image a prompt; fp32 on the CPU, bf16 on CUDA.

    `batch_size`: the most prompts at once; one that has ended makes room for the next. `some`, `gpus` and
    `gpu_memory_gib` as in generate.predict().
    """
    if not find_spec("vllm"):
        raise files.UserError(
            "vLLM is not installed here; it runs in its own image: containers/build.sh vllm, then --sdm apptainer."
        )
    os.environ |= ENVIRONMENT
    limits = {"image_max_pixels": image_max_pixels, "image_min_pixels": image_min_pixels}

    def answers(waiting: list[Record]) -> Iterator[list[tuple[Record, Answer]]]:
        device = gpu.claim(gpus, gpu_memory_gib)
        advice = f"lower generation.batch_size (now {batch_size}) or image_max_pixels (now {image_max_pixels})"
        with gpu.explained(gpu_memory_gib, lambda _: f"{advice}; finished samples are kept"):
            engine = load(model, device, batch_size, image_max_pixels, gpu_memory_gib)
            yield from generate(engine, waiting, media_dir, max_new_tokens, batch_size, **limits)

    answer_all(
        answers,
        sharegpt,
        media_dir,
        out,
        chunk=chunk,
        some=some,
        settings=["vllm", limits, max_new_tokens],
        models=[model],
    )


def load(model: Path, device: str, batch_size: int, image_max_pixels: int, memory_gib: float | None) -> Any:
    """vLLM's engine, its cache as large as the memory under the limit allows."""
    import torch
    from vllm import EngineArgs, LLMEngine

    settings: dict[str, Any] = {"dtype": "float32", "enforce_eager": True}
    if device != "cpu":
        total = torch.cuda.get_device_properties(0).total_memory
        share = gpu.MARGIN * (gpu.allowed(memory_gib, total) / total if memory_gib else 1)
        settings = {"dtype": "bfloat16", "gpu_memory_utilization": share}
    side = int(image_max_pixels**0.5)
    try:
        return LLMEngine.from_engine_args(
            EngineArgs(
                model=str(model),
                max_num_seqs=batch_size,
                max_model_len=-1,  # as long as the cache allows
                limit_mm_per_prompt={"image": {"count": 1, "width": side, "height": side}, "video": 0},
                seed=0,
                **settings,
            )
        )
    except ValueError as error:  # its words where the cache finds no room
        if "memory" not in str(error):
            raise
        raise RuntimeError(f"CUDA out of memory: {error}") from error


def generate(
    engine: Any,
    records: list[Record],
    media_dir: Path,
    max_new_tokens: int,
    batch_size: int,
    *,
    image_max_pixels: int,
    image_min_pixels: int,
) -> Iterator[list[tuple[Record, Answer]]]:
    """The answers as they end, each with its sample; as many prompts again wait as the engine is at."""
    from vllm import SamplingParams

    tokenizer = engine.get_tokenizer()
    ends = end_tokens(tokenizer)
    greedy = SamplingParams(temperature=0, max_tokens=max_new_tokens, stop_token_ids=ends, detokenize=False)
    rest = iter(enumerate(records))
    running: dict[str, Record] = {}
    began = time.perf_counter()
    while True:
        for number, record in islice(rest, 2 * batch_size - len(running)):
            text = prompt(record).replace(IMAGE, "<|vision_start|><|image_pad|><|vision_end|>")
            given: dict[str, Any] = {"prompt_token_ids": tokenizer(text, add_special_tokens=False)["input_ids"]}
            if len(record["images"]) > 1:
                raise files.UserError(f"sample {record['id']}: has {len(record['images'])} images; vLLM takes one.")
            if record["images"]:
                image = fitted(media_dir / record["images"][0], image_max_pixels, image_min_pixels)
                given["multi_modal_data"] = {"image": image}
            engine.add_request(str(number), given, greedy)
            running[str(number)] = record
        if not running:
            return
        ended = [output for output in engine.step() if output.finished]
        if ended:
            seconds = round((time.perf_counter() - began) / len(ended), 4)
            began = time.perf_counter()
            yield [(running.pop(one.request_id), _answer(tokenizer, one.outputs[0], ends, seconds)) for one in ended]


def _answer(tokenizer: Any, output: Any, ends: list[int], seconds: float) -> Answer:
    kept = list(takewhile(lambda token: token not in ends, output.token_ids))
    text = tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return {
        "prediction": text,
        "tokens": len(kept),
        "stopped": output.finish_reason == "stop",
        "seconds": seconds,
    }
