"""Greedy answers of a model, with or without a LoRA adapter, to every sample of a ShareGPT file.

    radtune predict --model base/ --adapter train/lora/adapter --sharegpt test.json --media-dir images/ --out test.jsonl

The prompt's tokens are those that LLaMA-Factory trains on with template qwen3_vl_nothink. Interrupted, a rerun goes on
from the finished samples, which wait in a hidden file beside `out`. Several GPUs or nodes take a chunk each, --chunk
1-of-2 and --chunk 2-of-2; their files one after another are the whole.
"""

from __future__ import annotations

import gc
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, TypeVar

from radtune import gpu
from radtune.predict.answers import Answer, Record, answer_all, end_tokens, fitted, prompt
from radtune.resize import IMAGE
from radtune.schemas import schemas

NEAR = 64  # tokens; prompts whose lengths differ by less count as equally long
FIRST = 8  # prompts of the first batch on a GPU, where batches then grow
DECODERS = 4  # threads that open and resize images, for which Python's own lock is let go

T = TypeVar("T")


def predict(
    model: Path,
    sharegpt: Path,
    media_dir: Path,
    out: Path,
    *,
    adapter: Path | None = None,
    chunk: str = "1-of-1",
    some: int | None = None,
    blank: bool = False,
    max_new_tokens: int,
    batch_size: int,
    cache: str = "dynamic",
    valid_records: bool = False,
    box: str = "qwen3vl",
    image_max_pixels: int,
    image_min_pixels: int,
    gpus: int = 1,
    gpu_memory_gib: float | None = None,
) -> None:
    """Write the lines of answer_all(); fp32 on the CPU, bf16 on CUDA.

    `some`: answer so many samples, evenly spread. `blank`: with a black picture in place of theirs: what is said
    without looking. `batch_size`: the most prompts a batch, see generate(). `cache`: one of transformers'
    implementations; static takes all its memory at once, and on a GPU its steps are compiled for each new shape of a
    batch. `valid_records`: answers that are JSON are decoded under their schemas, with boxes of form `box`. `gpus`:
    those promised, of which one is used, its memory up to `gpu_memory_gib`. With that null, none has to be there.
    """
    limits = {"image_max_pixels": image_max_pixels, "image_min_pixels": image_min_pixels}
    forms = schemas(box) if valid_records else {}

    def answers(waiting: list[Record]) -> Iterator[list[tuple[Record, Answer]]]:
        device = gpu.claim(gpus, gpu_memory_gib)
        with gpu.explained(gpu_memory_gib, lambda _: "the model's weights alone do not fit; take a smaller model"):
            loaded, processor = load(model, adapter, device, cache)
        constrained = under_schemas(loaded, processor, forms, max_new_tokens)
        ordered = by_length(processor, waiting, media_dir, **limits)

        def encoded(record: Record) -> tuple[Record, dict[str, Any]]:
            return record, encode(processor, record, media_dir, **limits, blank=blank)

        samples = _ahead(encoded, ordered, batch_size)
        advice = f"lower image_max_pixels (now {image_max_pixels}) or max_new_tokens (now {max_new_tokens})"
        with gpu.explained(gpu_memory_gib, lambda _: f"{advice}; finished samples are kept"):
            yield from generate(loaded, processor, samples, max_new_tokens, batch_size, gpu_memory_gib, constrained)

    answer_all(
        answers,
        sharegpt,
        media_dir,
        out,
        chunk=chunk,
        some=some,
        settings=[limits, max_new_tokens, blank, forms],  # not the batch size: it may be lowered to resume
        models=[model, *([adapter] if adapter else [])],
    )


def load(model: Path, adapter: Path | None, device: str, cache: str) -> tuple[Any, Any]:
    """The model, adapter merged in memory, and its processor; greedy whatever its own settings."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

    processor = AutoProcessor.from_pretrained(model)
    loaded = AutoModelForImageTextToText.from_pretrained(
        model, dtype=torch.float32 if device == "cpu" else torch.bfloat16, device_map={"": device}
    )
    if adapter:
        from peft import PeftModel

        loaded = PeftModel.from_pretrained(loaded, adapter).merge_and_unload()
    ends = end_tokens(processor.tokenizer)
    # A fresh one: generate() fills what is unset from the model's, where the hub's says sample, top_p and top_k.
    kind = None if cache == "dynamic" else cache  # the default, which for most models means the same
    ends_at = {"eos_token_id": ends, "pad_token_id": ends[1]}
    loaded.generation_config = GenerationConfig(do_sample=False, cache_implementation=kind, **ends_at)
    return loaded.eval(), processor


def under_schemas(model: Any, processor: Any, forms: dict[str, Any], most: int) -> Callable[[list[str]], Any] | None:
    """What generate() takes as `constrained`, for answers under the schemas `forms` of at most so many tokens."""
    if not forms:
        return None
    from radtune.predict.constrain import constrainer

    return constrainer(processor.tokenizer, model.config.get_text_config().vocab_size, forms, most)


def generate(
    model: Any,
    processor: Any,
    samples: Iterable[tuple[Record, dict[str, Any]]],
    max_new_tokens: int,
    batch_size: int,
    memory_gib: float | None,
    constrained: Callable[[list[str]], Any] | None = None,
) -> Iterator[list[tuple[Record, Answer]]]:
    """The answers to encoded samples in batches of at most `batch_size`, each sample with its own.

    On a GPU batches begin small and double as long as twice the memory that the last one took is there. One that runs
    out of memory is halved, and none is as large again. `constrained`: see constrain.constrainer().
    """
    roomy = gpu.meter(memory_gib)
    size = min(FIRST, batch_size) if model.device.type == "cuda" else batch_size
    waiting: list[tuple[Record, dict[str, Any]]] = []
    rest = iter(samples)
    while True:
        waiting += islice(rest, max(size - len(waiting), 0))
        if not waiting:
            return
        batch = waiting[:size]
        limit = constrained([record["tag"] for record, _ in batch]) if constrained else None
        answers = _answer_if_it_fits(model, processor, [encoded for _, encoded in batch], max_new_tokens, limit)
        if answers is None:
            size = batch_size = len(batch) // 2
            print(f"out of memory with {len(batch)} prompts: going on with {size}.", file=sys.stderr, flush=True)
            continue
        yield [(record, answer) for (record, _), answer in zip(batch, answers, strict=True)]
        waiting = waiting[size:]
        if roomy():
            size = min(2 * size, batch_size)


def by_length(
    processor: Any, records: list[Record], media_dir: Path, *, image_max_pixels: int, image_min_pixels: int
) -> list[Record]:
    """Longest first, so that too little memory shows at once; those about as long tag by tag, since a batch takes until
    its longest answer ends and a tag's answers are alike.
    """
    from PIL import Image

    tokens = {}
    for name in {name for record in records for name in record["images"]}:
        with Image.open(media_dir / name) as image:
            tokens[name] = min(max(image.width * image.height, image_min_pixels), image_max_pixels) // 1024
    prompts = [prompt(record) for record in records]
    lengths = [len(ids) for ids in processor.tokenizer(prompts, add_special_tokens=False)["input_ids"]]
    keys = [
        ((length + sum(tokens[name] for name in record["images"])) // NEAR, record["tag"], text)
        for length, text, record in zip(lengths, prompts, records, strict=True)
    ]
    return [records[n] for n in sorted(range(len(records)), key=keys.__getitem__, reverse=True)]


def _ahead(function: Callable[[Record], T], items: list[Record], count: int) -> Iterator[T]:
    """function(item) of each item, in order; DECODERS threads are up to `count` ahead, while the model generates."""
    pool = ThreadPoolExecutor(DECODERS)
    futures: deque[Future[T]] = deque()
    try:
        for item in items:
            futures.append(pool.submit(function, item))
            if len(futures) > count:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def encode(
    processor: Any,
    record: Record,
    media_dir: Path,
    *,
    image_max_pixels: int,
    image_min_pixels: int,
    blank: bool = False,
) -> dict[str, Any]:
    """A prompt's tensors: input_ids (L,) and, of its images, pixel_values (patches, 1536), image_grid_thw (images, 3).

    An image of h x w px, multiples of 32 after the processor's resize, takes h*w/1024 tokens.
    """
    import torch

    text = prompt(record)
    images = [fitted(media_dir / image, image_max_pixels, image_min_pixels, blank=blank) for image in record["images"]]
    pixels = processor.image_processor(images=images, return_tensors="pt") if images else {}
    for grid in pixels.get("image_grid_thw", []):
        pads = processor.image_token * (int(grid.prod()) // processor.image_processor.merge_size**2)
        text = text.replace(IMAGE, f"<|vision_start|>{pads}<|vision_end|>", 1)
    return {"input_ids": torch.tensor(processor.tokenizer(text, add_special_tokens=False)["input_ids"]), **pixels}


def collate(samples: list[dict[str, Any]], pad: int) -> dict[str, Any]:
    """A batch's tensors, prompts padded on the left with the token `pad`: attention_mask and those of encode()."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    ids = [sample["input_ids"] for sample in samples]
    padded = {
        name: pad_sequence(tensors, batch_first=True, padding_value=value, padding_side="left")
        for name, tensors, value in (
            ("input_ids", ids, pad),
            ("attention_mask", [torch.ones_like(one) for one in ids], 0),
        )
    }
    names = [name for name in ("pixel_values", "image_grid_thw") if any(name in sample for sample in samples)]
    return padded | {name: torch.cat([sample[name] for sample in samples if name in sample]) for name in names}


def _answer_if_it_fits(
    model: Any, processor: Any, samples: list[dict[str, Any]], max_new_tokens: int, limit: Any = None
) -> list[Answer] | None:
    """_answer(), or None where several samples were too many for the memory; for a single one the error is raised."""
    import torch

    try:
        return _answer(model, processor, samples, max_new_tokens, limit)
    except RuntimeError as error:
        if len(samples) == 1 or not gpu.OUT_OF_MEMORY.search(str(error)):
            raise
    gc.collect()  # not above, where the error still holds the batch's tensors
    torch.cuda.empty_cache()
    return None


def _answer(
    model: Any, processor: Any, samples: list[dict[str, Any]], max_new_tokens: int, limit: Any = None
) -> list[Answer]:
    """`limit`: a logits processor of its own for the batch."""
    import torch

    began = time.perf_counter()
    ends = model.generation_config.eos_token_id
    batch = collate(samples, model.generation_config.pad_token_id)
    with torch.inference_mode():
        tensors = {name: tensor.to(model.device) for name, tensor in batch.items()}
        processors = [limit] if limit else None
        tokens = model.generate(**tensors, max_new_tokens=max_new_tokens, logits_processor=processors)
    answers = []
    for new in tokens[:, batch["input_ids"].shape[1] :].tolist():
        kept = list(takewhile(lambda token: token not in ends, new))
        text = processor.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        answers.append({"prediction": text, "tokens": len(kept), "stopped": len(kept) < len(new)})
    seconds = round((time.perf_counter() - began) / len(answers), 4)
    return [{**answer, "seconds": seconds} for answer in answers]
