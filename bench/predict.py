"""Prediction, whole command against whole command: `radtune predict` and LLaMA-Factory's own do_predict, both greedy.

python bench/predict.py [--samples 3000] [--batch-size 64] [--batch-sizes 1 64]

On the demo's model, adapter and test split, which are made first where results/demo lacks them, with the demo's
generation settings; more samples than the split has are the same ones again under other ids. LLaMA-Factory runs with
each per_device_eval_batch_size that is named; its own example of prediction
(examples/extras/nlg_eval/llama3_lora_predict.yaml) sets 1.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from radtune.cli import tell_torch
from radtune.config import resolve
from radtune.files import read_json, read_jsonl, write_json
from radtune.train.launch import OFFLINE

ROOT = Path(__file__).parents[1]
PIXELS = ("image_max_pixels", "image_min_pixels")


class Took(NamedTuple):
    """Seconds by the clock, and of the processors, which a busy neighbour changes less."""

    wall: float
    cpu: float


def run(*command: str | Path) -> Took:
    environment = {**os.environ, **OFFLINE}
    began, before = time.perf_counter(), os.times()
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout[-4000:])
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Took(time.perf_counter() - began, cpu)


def do_predict(settings: dict[str, Any], folder: Path) -> tuple[Took, list[str]]:
    """What `llamafactory-cli train` took, and its answers in the order of the data set."""
    folder.mkdir()
    (folder / "predict.yaml").write_text(yaml.safe_dump(settings | {"output_dir": str(folder)}))
    took = run("llamafactory-cli", "train", folder / "predict.yaml")
    return took, [row["predict"] for row in read_jsonl(folder / "generated_predictions.jsonl")]


def asked(records: list[dict[str, Any]], count: int | None) -> list[dict[str, Any]]:
    """So many of the records, evenly spread; where they are too few, one after another again under other ids."""
    count = count or len(records)
    if count <= len(records):
        return [records[n * len(records) // count] for n in range(count)]
    rounds = (divmod(n, len(records)) for n in range(count))
    return [records[n] | {"id": f"{records[n]['id']}-{again}"} for again, n in rounds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, help="so many of the test split, evenly spread or again; else all")
    parser.add_argument("--batch-size", type=int, help="radtune's, at most; else the demo's")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 64], help="LLaMA-Factory's")
    arguments = parser.parse_args()
    tell_torch()  # as `radtune` tells itself, so that neither command starts the slower or is the more disturbed
    os.chdir(ROOT)
    config = resolve(yaml.safe_load(Path("config/demo.yaml").read_text()))
    results, lora = Path(config["results"]), config["experiments"]["lora"]
    adapter, media = results / "train/lora/adapter", results / "images"
    if not adapter.exists():
        command = ["snakemake", "--cores", str(os.cpu_count()), "--configfile", "config/demo.yaml", "--", "train"]
        subprocess.run(command, check=True)
    model, dataset = results / "model" / lora["model_name"], results / "sharegpt" / lora["dataset"]
    generation = {key: lora["generation"][key] for key in ("max_new_tokens", "batch_size")}
    generation["batch_size"] = arguments.batch_size or generation["batch_size"]
    pixels = {key: lora["training"][key] for key in PIXELS}
    records = asked(read_json(dataset / "test.json"), arguments.samples)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_json(folder / "test.json", records)
        write_json(folder / "dataset_info.json", {"test": read_json(dataset / "dataset_info.json")["test"]})
        out, flags = folder / "ours.jsonl", generation | pixels
        ours = run(
            "radtune", "predict", "--model", model, "--adapter", adapter, "--sharegpt", folder / "test.json",
            "--media-dir", media, "--out", out, *(f"--{k.replace('_', '-')}={v}" for k, v in flags.items()),
        )  # fmt: skip
        answers = [row["prediction"] for row in read_jsonl(out)]
        print(f"{len(records)} samples, at most {generation['max_new_tokens']} new tokens")
        print(
            f"radtune predict, batch_size {generation['batch_size']}: {ours.wall:.1f} s, CPU {ours.cpu:.1f} s",
            flush=True,
        )
        settings = pixels | {
            **{"stage": "sft", "finetuning_type": "lora", "do_predict": True, "predict_with_generate": True},
            **{"model_name_or_path": str(model), "adapter_name_or_path": str(adapter)},
            **{"eval_dataset": "test", "dataset_dir": name, "media_dir": str(media)},
            **{key: lora["training"][key] for key in ("template", "cutoff_len", "preprocessing_num_workers")},
            **{"do_sample": False, "max_new_tokens": generation["max_new_tokens"], "report_to": "none"},
        }
        for size in arguments.batch_sizes:
            took, theirs = do_predict(settings | {"per_device_eval_batch_size": size}, folder / str(size))
            same = sum(one == other for one, other in zip(answers, theirs, strict=True))
            print(
                f"do_predict, per_device_eval_batch_size {size}: {took.wall:.1f} s, CPU {took.cpu:.1f} s;",
                f"ratio {took.wall / ours.wall:.1f}, CPU {took.cpu / ours.cpu:.1f}; {same} answers are the same",
                flush=True,
            )


if __name__ == "__main__":
    main()
