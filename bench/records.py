"""Answers that are JSON, decoded under their schemas and as the model likes: how many are valid, and what it takes.

python bench/records.py [--results results/demo] [--runs 5]

On a finished demo's model, without and with its adapter `lora`, the test split's samples whose answers are JSON, with
the demo's generation settings. The two ways take turns. Seconds are medians, of answering alone and of
the processor, which a busy neighbour changes less.
"""

import argparse
import json
import os
import time
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from radtune.config import resolve
from radtune.files import read_json
from radtune.predict import generate
from radtune.predict.constrain import constrainer
from radtune.schemas import schemas

ROOT = Path(__file__).parents[1]
PIXELS = ("image_max_pixels", "image_min_pixels")


def share(good: list[bool]) -> str:
    return f"{100 * sum(good) / len(good):.1f} %"


def is_json(answer: str) -> bool:
    try:
        json.loads(answer)
    except ValueError:
        return False
    return True


def tell(way: str, seconds: list[float], said: list[tuple[str, dict[str, Any]]], forms: dict[str, Any]) -> None:
    tokens, took = sum(answer["tokens"] for _, answer in said), median(seconds)
    span = f"{min(seconds):.2f} to {max(seconds):.2f}"
    print(f"  {way}: {took:.2f} s ({span}), {tokens} tokens, {1000 * took / tokens:.2f} ms each")
    for tag, form in forms.items():
        answers = [answer["prediction"] for of, answer in said if of == tag]
        valid = [is_json(answer) for answer in answers]
        fits = [ok and Draft202012Validator(form).is_valid(json.loads(a)) for ok, a in zip(valid, answers, strict=True)]
        print(f"    {tag}, {len(answers)}: {share(valid)} JSON, {share(fits)} with the schema's keys and values")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "demo")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    os.chdir(ROOT)
    lora = resolve(yaml.safe_load(Path("config/demo.yaml").read_text()))["experiments"]["lora"]
    results, forms = arguments.results, schemas(lora["answers"]["box"])
    most, size = (lora["generation"][key] for key in ("max_new_tokens", "batch_size"))
    limits = {key: lora["training"][key] for key in PIXELS}
    (model,), media = (results / "model").iterdir(), results / "images"
    (test,) = (results / "sharegpt").glob(f"{lora['images']}-*/test.json")
    records = [record for record in read_json(test) if record["tag"] in forms]
    for name, adapter in (("base", None), ("lora", results / "train" / "lora" / "adapter")):
        loaded, processor = generate.load(model, adapter, "cpu", "dynamic")
        ordered = generate.by_length(processor, records, media, **limits)
        samples = [(record, generate.encode(processor, record, media, **limits)) for record in ordered]
        began = time.perf_counter()
        width = loaded.config.get_text_config().vocab_size
        ways = {"as it likes": None, "under schemas": constrainer(processor.tokenizer, width, forms, most)}
        print(f"{name}, {len(samples)} samples; the grammars took {time.perf_counter() - began:.2f} s")
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        said: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        for way in [*ways] * arguments.runs:
            began = time.process_time()
            batches = list(generate.generate(loaded, processor, samples, most, size, None, ways[way]))
            seconds[way].append(time.process_time() - began)
            said[way] = [(record["tag"], answer) for batch in batches for record, answer in batch]
        for way in ways:
            tell(way, seconds[way], said[way], forms)
        answers = [[answer["prediction"] for _, answer in said[way]] for way in ways]
        same = [one == other for one, other in zip(*answers, strict=True) if is_json(one)]
        print(f"  of the answers that are JSON anyway, {share(same)} are the same under schemas")


if __name__ == "__main__":
    main()
