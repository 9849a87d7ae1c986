"""Token lengths of ShareGPT samples, as LLaMA-Factory encodes them with qwen3_vl_nothink, and their batches.

Texts are tokenised in batches; a picture's tokens follow from its size, so that none is decoded.
"""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, UnidentifiedImageError

from radtune import files
from radtune.resize import IMAGE, resizes

CHUNK = 4096  # texts a call of the tokenizer
MULTIPLE = 8  # its collator pads a batch to a multiple of so many tokens


class Sample(NamedTuple):
    """Tokens of one sample: of all turns but the answer, its images among them, and of the answer with its end."""

    prompt: int
    answer: int

    @property
    def total(self) -> int:
        return self.prompt + self.answer


def image_sizes(records: Iterable[dict[str, Any]], media_dir: Path) -> dict[str, tuple[int, int]]:
    """(width, height) in pixels of each image that the records name, from its file's header."""
    sizes = {}
    for image in sorted({image for record in records for image in record["images"]}):
        try:
            with Image.open(media_dir / image) as opened:
                sizes[image] = opened.size
        except (FileNotFoundError, UnidentifiedImageError):
            raise files.UserError(f"{media_dir / image}: no such image, but a sample names it.") from None
    return sizes


def image_tokens(size: tuple[int, int], processor: Any, *, image_max_pixels: int, image_min_pixels: int) -> int:
    """Tokens of an image of (width, height) pixels: LLaMA-Factory's resize, then the processor's own."""
    *_, (width, height) = [size, *resizes(*size, image_max_pixels, image_min_pixels)]
    patches: int = processor.image_processor.get_number_of_image_patches(height, width, {})
    return patches // int(processor.image_processor.merge_size) ** 2


def measure(records: list[dict[str, Any]], processor: Any, images: dict[str, int]) -> list[Sample]:
    """One Sample a record; `images`: the tokens of each image. Raises UserError where <image> and images disagree."""
    turns = [_turns(record, processor.image_token) for record in records]
    texts = sorted({text for record in turns for text in record})
    lengths: dict[str, int] = {}
    for start in range(0, len(texts), CHUNK):
        chunk = texts[start : start + CHUNK]
        encoded = processor.tokenizer(chunk, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        lengths |= {text: len(tokens) for text, tokens in zip(chunk, encoded, strict=True)}
    samples = []
    for record, (*prompt, answer) in zip(records, turns, strict=True):
        pads = sum(images[image] - 1 for image in record["images"])  # each stands in the text as one token
        samples.append(Sample(sum(lengths[text] for text in prompt) + pads, lengths[answer]))
    return samples


def _turns(record: dict[str, Any], image_token: str) -> list[str]:
    """The texts that LLaMA-Factory tokenises one by one."""
    if sum(turn["content"].count(IMAGE) for turn in record["messages"]) != len(record["images"]):
        raise files.UserError(f"sample {record['id']}: {IMAGE} must stand once in its messages for each image.")
    texts = []
    for turn in record["messages"]:
        content = turn["content"].replace(IMAGE, f"<|vision_start|>{image_token}<|vision_end|>")
        if turn["role"] == "assistant":
            texts.append(f"{content}<|im_end|>\n")
        else:
            start = "<|im_start|>assistant\n" if turn["role"] == "user" else ""
            texts.append(f"<|im_start|>{turn['role']}\n{content}<|im_end|>\n{start}")
    return texts


def distribution(lengths: list[int]) -> dict[str, int | float]:
    """Count, mean, median, 95th percentile (the nearest rank) and maximum."""
    ordered = sorted(lengths)
    rank = {share: ordered[max(math.ceil(share * len(ordered)) - 1, 0)] for share in (0.5, 0.95)}
    mean = round(sum(ordered) / len(ordered), 1)
    return {"count": len(ordered), "mean": mean, "p50": rank[0.5], "p95": rank[0.95], "max": ordered[-1]}


def padded(length: int) -> int:
    return math.ceil(length / MULTIPLE) * MULTIPLE


def packed(settings: dict[str, Any]) -> bool:
    return bool(settings.get("packing") or settings.get("neat_packing"))


def room(settings: dict[str, Any]) -> int:
    """Tokens that fit into a sequence; LLaMA-Factory keeps one of a pack's for padding."""
    return int(settings["cutoff_len"]) - packed(settings)


def packs(lengths: list[int], settings: dict[str, Any]) -> list[list[int]]:
    """The lengths in each pack, as LLaMA-Factory fills them: within each call of its preprocessing, the largest that
    still fits goes first.
    """
    workers = min(settings.get("preprocessing_num_workers") or 1, len(lengths))
    size = settings.get("preprocessing_batch_size") or 1000
    done = []
    for worker in range(workers):  # datasets' contiguous shards
        share, rest = divmod(len(lengths), workers)
        first = worker * share + min(worker, rest)
        shard = lengths[first : first + share + (worker < rest)]
        for start in range(0, len(shard), size):
            waiting = sorted(shard[start : start + size])
            while waiting:
                pack: list[int] = []
                while (found := bisect.bisect(waiting, room(settings) - sum(pack)) - 1) >= 0:
                    pack.append(waiting.pop(found))
                done.append(pack)
    return done


def epoch(lengths: list[int], settings: dict[str, Any], gpus: int) -> dict[str, Any]:
    """One pass over the training samples: sequences (packs or samples), micro_batches and updates a GPU, tokens,
    padding (its share of what the model computes), longest (tokens of the longest padded sequence).

    Where nothing is packed, the padding is that of one random order.
    """
    batch, tokens = settings["per_device_train_batch_size"], sum(lengths)
    if packed(settings):
        longest = padded(settings["cutoff_len"])
        sequences = len(packs(lengths, settings))
        computed = sequences * longest
    else:
        longest, sequences = padded(max(lengths)), len(lengths)
        order = random.Random(0).sample(lengths, sequences)
        if settings.get("group_by_length"):  # the trainer's own sampler sorts within 50 batches
            order = [n for start in range(0, sequences, 50 * batch) for n in sorted(order[start : start + 50 * batch])]
        batches = [order[start : start + batch] for start in range(0, sequences, batch)]
        computed = sum(padded(max(part)) * len(part) for part in batches)
    micro = math.ceil(math.ceil(sequences / gpus) / batch)
    updates = math.ceil(micro / settings["gradient_accumulation_steps"])
    return {
        "sequences": sequences,
        "micro_batches": micro,
        "updates": updates,
        "tokens": tokens,
        "padding": round(1 - tokens / computed, 4),
        "longest": longest,
    }
