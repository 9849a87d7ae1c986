"""Greedy answers of a model, with or without a LoRA adapter, to every sample of a ShareGPT file.

    radtune predict --model base/ --adapter train/lora/adapter --sharegpt test.json --media-dir images/ --out test.jsonl

The prompt's tokens are those that LLaMA-Factory trains on with template qwen3_vl_nothink. Interrupted, a rerun goes on
from the finished samples, which wait in a hidden file beside `out`.
"""

from __future__ import annotations

import fcntl
import json
import math
import time
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from radtune import files, gpu
from radtune.digest import digest

IMAGE = "<image>"  # LLaMA-Factory's placeholder


def predict(
    model: Path,
    sharegpt: Path,
    media_dir: Path,
    out: Path,
    *,
    adapter: Path | None = None,
    max_new_tokens: int,
    batch_size: int,
    image_max_pixels: int,
    image_min_pixels: int,
    gpus: int = 1,
    gpu_memory_gib: float | None = None,
) -> None:
    """Write one JSON line a sample, in the order of `sharegpt`.

    A line holds id, tag, group, image, prompt, prediction, reference, seconds (its share of the batch's), tokens (new
    ones, without the end token) and stopped (false where max_new_tokens cut the answer). fp32 on the CPU, bf16 on CUDA.

    `gpus`: as many must be there, and no more; the first is used, its memory up to `gpu_memory_gib`. With that null,
    none has to be there.
    """
    records = files.read_json(sharegpt)
    images = sorted({image for record in records for image in record["images"]})
    for image in images:
        if not (media_dir / image).is_file():
            raise files.UserError(f"{media_dir / image}: no such image, but {sharegpt} names it.")
    limits = {"image_max_pixels": image_max_pixels, "image_min_pixels": image_min_pixels}
    inputs = [sharegpt, model, *([adapter] if adapter else []), *(media_dir / image for image in images)]
    key = digest([max_new_tokens, limits], inputs)  # not of the batch size: it may be lowered to resume

    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    with partial.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # a job orphaned by a killed workflow may still be at it
        done = _read_partial(file, key)
        # Longest first, so that too little memory shows at once; equal prompts, and so similar answers, side by side.
        waiting = (n for n in range(len(records)) if n not in done)
        order = sorted(waiting, key=lambda n: (len(_prompt(records[n])), _prompt(records[n])), reverse=True)
        if order:
            device = gpu.claim(gpus, gpu_memory_gib)
            with gpu.explained(gpu_memory_gib, lambda _: "the model's weights alone do not fit; take a smaller model"):
                loaded, processor = load(model, adapter, device)
        advice = f"lower batch_size (now {batch_size}) or image_max_pixels (now {image_max_pixels})"
        if batch_size == 1:
            advice = f"lower image_max_pixels (now {image_max_pixels}) or max_new_tokens (now {max_new_tokens})"
        with tqdm(
            total=len(records), initial=len(done), desc=f"predict {out.stem}", unit="sample", disable=None
        ) as bar:
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                encoded = encode(processor, [records[n] for n in batch], media_dir, **limits)
                with gpu.explained(gpu_memory_gib, lambda _: f"{advice}; finished samples are kept"):
                    answers = _answer(loaded, processor, encoded, max_new_tokens)
                for n, answer in zip(batch, answers, strict=True):
                    done[n] = _row(records[n], answer)
                    file.write(json.dumps({"n": n, **done[n]}, ensure_ascii=False).encode() + b"\n")
                file.flush()
                bar.update(len(batch))
        files.write_jsonl(out, (done[n] for n in range(len(records))))
    partial.unlink(missing_ok=True)


def load(model: Path, adapter: Path | None, device: str) -> tuple[Any, Any]:
    """The model, adapter merged in memory, and its processor, padding on the left; greedy whatever its own settings."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

    processor = AutoProcessor.from_pretrained(model)
    processor.tokenizer.padding_side = "left"
    loaded = AutoModelForImageTextToText.from_pretrained(
        model, dtype=torch.float32 if device == "cpu" else torch.bfloat16, device_map={"": device}
    )
    if adapter:
        from peft import PeftModel

        loaded = PeftModel.from_pretrained(loaded, adapter).merge_and_unload()
    ends = processor.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    # A fresh one: generate() fills what is unset from the model's, where the hub's says sample, top_p and top_k.
    loaded.generation_config = GenerationConfig(do_sample=False, eos_token_id=ends, pad_token_id=ends[1])
    return loaded.eval(), processor


def encode(
    processor: Any, records: list[dict[str, Any]], media_dir: Path, *, image_max_pixels: int, image_min_pixels: int
) -> Any:
    """Tensors of a batch of prompts: input_ids, attention_mask (B, L), pixel_values, image_grid_thw.

    An image of h x w px, multiples of 32 after the processor's resize, takes h*w/1024 tokens.
    """
    texts = [_prompt(record) for record in records]
    images = [
        _fit(media_dir / image, image_max_pixels, image_min_pixels) for record in records for image in record["images"]
    ]
    pixels = processor.image_processor(images=images, return_tensors="pt") if images else {}
    counts = [int(grid.prod()) // processor.image_processor.merge_size**2 for grid in pixels.get("image_grid_thw", [])]
    grown = []
    for text, record in zip(texts, records, strict=True):
        if text.count(IMAGE) != len(record["images"]):
            raise files.UserError(f"sample {record['id']}: {IMAGE} must stand once in its prompt for each image.")
        for _ in record["images"]:
            pads = processor.image_token * counts.pop(0)
            text = text.replace(IMAGE, f"<|vision_start|>{pads}<|vision_end|>", 1)
        grown.append(text)
    tokens = processor.tokenizer(grown, padding=True, add_special_tokens=False, return_tensors="pt")
    return {**tokens, **pixels}


def _prompt(record: dict[str, Any]) -> str:
    """Every turn but the last, in template qwen3_vl_nothink, and the answer's beginning."""
    turns = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in record["messages"][:-1])
    return f"{turns}<|im_start|>assistant\n"


def _fit(path: Path, most: int, least: int) -> Any:
    """An RGB image scaled into `least`..`most` px in all, as LLaMA-Factory does before the processor's own resize."""
    from PIL import Image

    image: Image.Image = Image.open(path)
    for limit, outside in ((most, image.width * image.height > most), (least, image.width * image.height < least)):
        if outside:
            factor = math.sqrt(limit / (image.width * image.height))
            image = image.resize((int(image.width * factor), int(image.height * factor)))
    return image.convert("RGB")


def _answer(model: Any, processor: Any, encoded: Any, max_new_tokens: int) -> list[dict[str, Any]]:
    import torch

    began = time.perf_counter()
    tensors = {name: tensor.to(model.device) for name, tensor in encoded.items()}
    with torch.inference_mode():
        tokens = model.generate(**tensors, max_new_tokens=max_new_tokens)
    answers = []
    for new in tokens[:, encoded["input_ids"].shape[1] :].tolist():
        ends = [n for n, token in enumerate(new) if token in model.generation_config.eos_token_id]
        kept = new[: ends[0]] if ends else new
        text = processor.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        answers.append({"prediction": text, "tokens": len(kept), "stopped": bool(ends)})
    seconds = round((time.perf_counter() - began) / len(answers), 4)
    return [{**answer, "seconds": seconds} for answer in answers]


def _row(record: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    *_, question, reference = record["messages"]
    return {
        "id": record["id"],
        "tag": record["tag"],
        "group": record["group"],
        "image": record["images"][0] if record["images"] else None,
        "prompt": question["content"].replace(IMAGE, ""),
        "prediction": answer["prediction"],
        "reference": reference["content"],
        "seconds": answer["seconds"],
        "tokens": answer["tokens"],
        "stopped": answer["stopped"],
    }


def _read_partial(file: IO[bytes], key: str) -> dict[int, dict[str, Any]]:
    """The finished rows by record number; leaves the file cut to its whole lines, or new where its inputs were others.

    The first line holds the inputs' digest; a kill can tear the last one.
    """
    file.seek(0)
    content = file.read()
    content = content[: content.rfind(b"\n") + 1]
    header, *lines = content.splitlines() or [b""]
    if header != key.encode():
        content, lines = key.encode() + b"\n", []
        file.truncate(0)
        file.write(content)
        file.flush()
    file.truncate(len(content))
    rows = [json.loads(line) for line in lines]
    return {row.pop("n"): row for row in rows}
