"""The 8B job on one GPU, held to 24 GiB of it: memory and speed of training and prediction, each by its own command.

python bench/gpu.py [--size 8b] [--gib 24] [--folder results/bench-gpu] [STEP ...]      (make bench-gpu)

Steps, each in less than ten minutes, in this order or, after the first, in any: prepare (the true architecture with
random weights, and made-up samples, so that nothing is fetched), train-reference and train-ours (the public recipe's
flags and config/config.yaml's), do-predict-N (LLaMA-Factory's, N prompts a batch) and predict-N (radtune's, N at most).
Figures go into FOLDER/figures.json. Without a GPU, --size tiny tries the same with a tiny model; its figures then say
nothing about the 8B job. The versions of torch, transformers and LLaMA-Factory are those at hand.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from radtune.config import resolve
from radtune.files import read_json, write_json
from radtune.train import tiny
from radtune.train.launch import OFFLINE

ROOT = Path(__file__).parents[1]
# config.json of Qwen3-VL-8B-Instruct, as far as it differs from transformers' defaults
TEXT = {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32}
TEXT |= {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "dtype": "bfloat16"}
TEXT |= {"rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"}}
VISION = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "out_hidden_size": 4096, "num_heads": 16}
VISION |= {"deepstack_visual_indexes": [8, 16, 24], "num_position_embeddings": 2304}
TRAIN = {"8b": 320, "tiny": 64}  # samples: 20 updates and 4
ASKED = {"8b": 64, "tiny": 32}
NEW_TOKENS = 64  # each answer's, as a random model ends none
BATCHES = (1, 8, 32, 64)
LORA = {"finetuning_type": "lora", "lora_rank": 8, "lora_target": "all"}
# LLaMA-Factory's own entry, in a process that takes no more of the GPU than ours does
DO_PREDICT = "import json, sys; from radtune import gpu; gpu.claim({gpus}, {gib}); "
DO_PREDICT += "from llamafactory.train.tuner import run_exp; run_exp(json.loads(sys.argv[1]))"


def run(*command: str | Path) -> float:
    """Seconds of `radtune COMMAND`, or of a Python program where the first is -c; ends with its output if it fails."""
    program = () if command[0] == "-c" else ("-c", "from radtune.cli import main; main()")
    environment = {**os.environ, **OFFLINE, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{os.getenv('PYTHONPATH', '')}"}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *program, *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))[:200]} failed:\n{done.stdout[-4000:]}")
    return time.perf_counter() - began


def settings(size: str, name: str) -> dict[str, Any]:
    """A shipped config's training arguments, for a run without evaluation and checkpoints."""
    config, experiment = {"reference": ("reference.yaml", "reference"), "ours": ("config.yaml", "lora")}[name]
    found = resolve(yaml.safe_load((ROOT / "config" / config).read_text(encoding="utf-8")))
    given: dict[str, Any] = found["experiments"][experiment]["training"]
    small = {} if size == "8b" else {"bf16": False, "image_max_pixels": 9216}
    return given | small | {"num_train_epochs": 1, "eval_strategy": "no", "save_strategy": "no", "logging_steps": 1}


def pixels(size: str) -> dict[str, int]:
    return {key: settings(size, "reference")[key] for key in ("image_max_pixels", "image_min_pixels")}


def prepare(folder: Path, size: str) -> dict[str, Any]:
    """Noise of 448x448 px, texts of made-up words, and a model with a tokenizer that knows the words."""
    rng = random.Random(0)
    images = [f"{n}.jpg" for n in range(32)]
    for n, name in enumerate(images):
        noise = np.random.default_rng(n).integers(0, 255, (448, 448), np.uint8)
        Image.fromarray(noise).convert("RGB").save(folder / name, quality=95)
    words = [a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in ("ra", "no", "li", "tum", "sis")]
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    info: dict[str, Any] = {}
    for split, count in (("train", TRAIN[size]), ("test", ASKED[size])):
        records = []
        for n in range(count):
            # 30 words asked and 20 to 700 answered, with the image's 196 tokens 400 in the mean
            asked, answered = 30, int(min(max(rng.lognormvariate(5.0, 0.6), 20), 700))
            said = [" ".join(rng.choices(words, k=k)) for k in (asked, answered)]
            turns = [{"role": "user", "content": f"<image>{said[0]}"}, {"role": "assistant", "content": said[1]}]
            record = {"id": str(n), "tag": "CAPTION", "group": str(n), "messages": turns}
            records.append(record | {"images": [rng.choice(images)]})
        write_json(folder / f"{split}.json", records)
        columns = {"messages": "messages", "images": "images"}
        info[split] = {"file_name": f"{split}.json", "formatting": "sharegpt", "columns": columns, "tags": tags}
    write_json(folder / "dataset_info.json", info)
    tiny.build(folder / "model", [folder / "train.json"])
    if size == "8b":
        grow(folder / "model")
    from transformers import AutoConfig, AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder / "model"))
    return {"parameters": sum(parameter.numel() for parameter in model.parameters()), "tflops": measured_tflops()}


def grow(model: Path) -> None:
    """Give the tiny model's folder the sizes of Qwen3-VL-8B, with random bf16 weights made on the GPU."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    write_json(model / "config.json", grown(read_json(model / "config.json")))
    (model / "model.safetensors").unlink()
    with torch.device("cuda"):
        loaded = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(model), dtype=torch.bfloat16)
    loaded.save_pretrained(model)


def grown(config: dict[str, Any]) -> dict[str, Any]:
    """A tiny model's config.json with the sizes of Qwen3-VL-8B and its own tokens."""
    text, vision = config["text_config"] | TEXT | {"tie_word_embeddings": False}, config["vision_config"] | VISION
    text.pop("rope_parameters", None)  # what transformers 5 calls rope_scaling
    return config | {"text_config": text, "vision_config": vision, "tie_word_embeddings": False, "dtype": "bfloat16"}


def measured_tflops() -> float:
    """What a product of two square matrices reaches here, in the type that training computes in: the peak for MFU."""
    device, kind, side = ("cuda", torch.bfloat16, 8192) if torch.cuda.is_available() else ("cpu", torch.float32, 2048)
    one, other = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        product = one @ other
        float(product[0, 0])  # waits for the device
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / min(seconds) / 1e12


def train(folder: Path, size: str, gib: float | None, name: str) -> dict[str, Any]:
    """Peak and estimate of the longest batch, by `radtune preflight`; speed of an epoch, by `radtune train`."""
    out = folder / name
    shutil.rmtree(out, ignore_errors=True)  # else a finished run is only collected again
    out.mkdir()
    given = settings(size, name)
    places = [f"--model={folder / 'model'}", f"--dataset-dir={folder}", f"--media-dir={folder}", "--dataset=train"]
    places += [f"--settings={json.dumps(given)}", *limits(gib)]
    checked = [f"--out={out / 'preflight.json'}", f"--picture={out / 'preflight.png'}"]
    run("preflight", *places, *checked, f"--prediction={json.dumps(pixels(size))}")
    seconds = run("train", *places, f"--out={out}", f"--weights={out / 'adapter'}")
    found, samples = read_json(out / "preflight.json"), TRAIN[size]
    loop = read_json(out / "summary.json")["runtime"]
    tokens = found["epoch"]["tokens"]
    # forward, and backward through frozen weights: 4 operations a parameter and token; what is computed again is no use
    useful = 4 * figures(folder)["prepare"]["parameters"] * tokens / loop / 1e12
    return {
        "estimate_gib": found["memory"]["estimate_gib"]["total"],
        "peak_gib": found.get("trial", {}).get("peak_gib"),
        "samples_per_second": samples / loop,
        "tokens_per_second": tokens / loop,
        "mfu": useful / figures(folder)["prepare"]["tflops"],
        "seconds": seconds,
    }


def limits(gib: float | None) -> list[str]:
    return [f"--gpus={torch.cuda.device_count()}", *([f"--gpu-memory-gib={gib}"] if gib else [])]


def do_predict(folder: Path, size: str, gib: float | None, batch: int) -> dict[str, Any]:
    given = pixels(size) | {
        **{"stage": "sft", "do_predict": True, "predict_with_generate": True, "bf16": size == "8b"},
        **{"model_name_or_path": str(folder / "model"), "template": "qwen3_vl_nothink", "eval_dataset": "test"},
        **{"dataset_dir": str(folder), "media_dir": str(folder), "output_dir": str(folder / f"do-predict-{batch}")},
        **{"cutoff_len": 2048, "preprocessing_num_workers": 2, "overwrite_cache": True, "report_to": "none"},
        **{"per_device_eval_batch_size": batch, "do_sample": False, "max_new_tokens": NEW_TOKENS},
    }
    program = DO_PREDICT.format(gpus=torch.cuda.device_count(), gib=gib)
    return per_second(size, run("-c", program, json.dumps(given)))


def predict(folder: Path, size: str, gib: float | None, batch: int) -> dict[str, Any]:
    out = folder / f"predict-{batch}.jsonl"
    out.unlink(missing_ok=True)
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in pixels(size).items()]
    flags += [f"--max-new-tokens={NEW_TOKENS}", f"--batch-size={batch}", f"--media-dir={folder}", f"--out={out}"]
    places = [f"--model={folder / 'model'}", f"--sharegpt={folder / 'test.json'}"]
    return per_second(size, run("predict", *places, *flags, *limits(gib)))


def per_second(size: str, seconds: float) -> dict[str, Any]:
    return {"samples_per_second": ASKED[size] / seconds, "seconds": seconds}


def figures(folder: Path) -> dict[str, Any]:
    path = folder / "figures.json"
    found: dict[str, Any] = read_json(path) if path.exists() else {}
    return found


def machine() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, Any] = {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"}
    for name in ("torch", "transformers", "llamafactory"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(TRAIN), default="8b" if torch.cuda.is_available() else "tiny")
    parser.add_argument("--gib", type=float, default=24)
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "bench-gpu")
    parser.add_argument("steps", nargs="*", metavar="STEP")
    arguments = parser.parse_args()
    folder, size = arguments.folder.resolve(), arguments.size
    gib = arguments.gib if torch.cuda.is_available() else None
    folder.mkdir(parents=True, exist_ok=True)
    steps: dict[str, Callable[[], dict[str, Any]]] = {"prepare": lambda: prepare(folder, size)}
    for name in ("reference", "ours"):
        steps[f"train-{name}"] = lambda name=name: train(folder, size, gib, name)
    for kind, function in (("do-predict", do_predict), ("predict", predict)):
        for batch in BATCHES:
            steps[f"{kind}-{batch}"] = lambda function=function, batch=batch: function(folder, size, gib, batch)
    for step in arguments.steps or steps:
        if step not in steps:
            sys.exit(f"{step}: no such step; there are {', '.join(steps)}.")
        found = {key: round(value, 3) if isinstance(value, float) else value for key, value in steps[step]().items()}
        write_json(folder / "figures.json", figures(folder) | {"machine": machine() | {"size": size}, step: found})
        print(step, json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
