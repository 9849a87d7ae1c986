"""The 8B job on one GPU, held to 24 GiB of it: memory and speed of training and prediction, each by its own command.

python bench/gpu.py [--size 8b] [--gib 24] [--folder results/bench-gpu] [STEP ...]      (make bench-gpu)

Steps, each after the first ended after ten minutes, in this order or, after the first, in any: prepare (the true
architecture with random weights, and made-up samples, so that nothing is fetched), train-NAME (the public recipe's
flags and each of WAYS that may cost less), do-predict-N (LLaMA-Factory's, N prompts a batch) and predict-N
(radtune's, N at most). N doubles until memory runs out. A step that fails is written down as such, and the next one
begins. Figures go into FOLDER/figures.json. Without a GPU, --size tiny tries the same with a tiny model; its figures
then say nothing about the 8B job. The versions of torch, transformers and LLaMA-Factory are those at hand, a torch
with a slow Conv3D too; where radtune is not installed, PYTHONPATH=src finds it.
"""

import argparse
import gc
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from radtune import gpu
from radtune.config import resolve
from radtune.files import read_json, read_jsonl, write_json
from radtune.train import budget, lengths, tiny
from radtune.train.launch import OFFLINE

ROOT = Path(__file__).parents[1]
# config.json of Qwen3-VL-8B-Instruct, as far as it differs from transformers' defaults
TEXT = {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32}
TEXT |= {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "dtype": "bfloat16"}
TEXT |= {"rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"}}
VISION = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "out_hidden_size": 4096, "num_heads": 16}
VISION |= {"deepstack_visual_indexes": [8, 16, 24], "num_position_embeddings": 2304}
TRAIN = {"8b": 320, "tiny": 64}  # samples: 20 updates and 4
ASKED = {"8b": 64, "tiny": 16}  # at least, and twice a batch
LARGEST = {"8b": 512, "tiny": 16}  # prompts a batch
NEW_TOKENS = 64  # each answer's, as a random model ends none
STEP_SECONDS = 600
# Some 16 samples an update, as the public recipe has: in packs, recomputed layer by layer as there; and of weights in 4
# bits (bitsandbytes), which leave the room to recompute nothing, in packs of half the length
PACKED = {"neat_packing": True, "per_device_train_batch_size": 1}
DENSE = {"quantization_bit": 4, "disable_gradient_checkpointing": True}
WAYS: dict[str, dict[str, Any]] = {
    "reference": {},
    "ours": PACKED | {"cutoff_len": 2304, "gradient_accumulation_steps": 3},
    "ours-4bit": PACKED | DENSE | {"cutoff_len": 1024, "gradient_accumulation_steps": 7},
}
COMMAND = "from radtune.cli import main; main()"
# the check before training refuses such a torch, since a user can have another
ANY_TORCH = "from radtune.train import budget; budget.check_torch = lambda version: None; "
COUNTED = """
from radtune.predict import generate
answer, sizes = generate._answer, []
def counted(*given):
    answers = answer(*given)
    sizes.append(len(answers))
    return answers
generate._answer = counted
"""
LARGEST_BATCH = "\nprint('largest batch', max(sizes))"
# LLaMA-Factory's own entry, in a process that takes no more of the GPU than ours does
DO_PREDICT = "import json, sys; from radtune import gpu; gpu.claim({gpus}, {gib}); "
DO_PREDICT += "from llamafactory.train.tuner import run_exp; run_exp(json.loads(sys.argv[1]))"
# Bytes at most: those that torch held of the GPU with CUDA's own, or the process where there is none
PEAK = f"""
import resource, torch
held = torch.cuda.max_memory_reserved() + {gpu.CONTEXT} if torch.cuda.is_available() else None
print("peak bytes", held or 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


class Failed(Exception):
    """A command that failed, with its output."""


def run(program: str, *arguments: str, until: float) -> tuple[float, str]:
    """Seconds of a Python program, and its output; it is ended at the time `until`, with all that it has started."""
    environment = {**os.environ, **OFFLINE, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{os.getenv('PYTHONPATH', '')}"}
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=until - began)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise Failed(f"took more than {STEP_SECONDS} s") from None
            raise
    if process.returncode:
        raise Failed(output)
    return time.monotonic() - began, output


def attempt(step: Callable[[float], dict[str, Any]]) -> dict[str, Any]:
    """The step's figures or, where it failed, why: there are others, and they say how far memory goes."""
    try:
        found = step(time.monotonic() + STEP_SECONDS)
    except Failed as error:
        output = str(error)
        if gpu.OUT_OF_MEMORY.search(output) or "out of GPU memory" in output:
            return {"out_of_memory": True}
        print(output[-4000:], file=sys.stderr)
        return {"failed": output.strip().splitlines()[-1][:300]}
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in found.items()}


def settings(size: str, name: str) -> dict[str, Any]:
    """The training arguments of reference.yaml or, changed by one of WAYS, of config.yaml; nothing but the loop."""
    config, experiment = ("reference.yaml", "reference") if name == "reference" else ("config.yaml", "lora")
    found = resolve(yaml.safe_load((ROOT / "config" / config).read_text(encoding="utf-8")))
    given: dict[str, Any] = found["experiments"][experiment]["training"] | WAYS[name]
    small = {} if size == "8b" else {"bf16": False, "image_max_pixels": 9216, "cutoff_len": given["cutoff_len"] // 2}
    once = {"num_train_epochs": 1, "eval_strategy": "no", "save_strategy": "no", "logging_steps": 1}
    return given | small | once | {"load_best_model_at_end": False, "early_stopping_steps": None}


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
    for split, count in (("train", TRAIN[size]), ("test", max(ASKED[size], 2 * LARGEST[size]))):
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
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder / "model"))
    processor = AutoProcessor.from_pretrained(folder / "model")
    tokens = dict.fromkeys(images, lengths.image_tokens((448, 448), processor, **pixels(size)))
    prompts = lengths.measure(records, processor, tokens)
    found = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "prompt_tokens": max(sample.prompt for sample in prompts),
        "tflops": measured_tflops(),
    }
    gc.collect()
    torch.cuda.empty_cache()  # the next steps' processes want that memory
    return found


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


def train(folder: Path, size: str, gib: float | None, name: str, until: float) -> dict[str, Any]:
    """Peak and estimate of the longest batch, by `radtune preflight`; speed of an epoch, by `radtune train`."""
    out = folder / name
    shutil.rmtree(out, ignore_errors=True)  # else a finished run is only collected again
    out.mkdir()
    given = settings(size, name)
    places = [f"--model={folder / 'model'}", f"--dataset-dir={folder}", f"--media-dir={folder}", "--dataset=train"]
    places += [f"--settings={json.dumps(given)}", *limits(gib)]
    checked = [f"--out={out / 'preflight.json'}", f"--picture={out / 'preflight.png'}"]
    checked += [f"--prediction={json.dumps(pixels(size))}"]
    run(ANY_TORCH + COMMAND, "preflight", *places, *checked, until=until)
    seconds, _ = run(COMMAND, "train", *places, f"--out={out}", f"--weights={out / 'adapter'}", until=until)
    found, samples = read_json(out / "preflight.json"), TRAIN[size]
    loop = read_json(out / "summary.json")["runtime"]
    tokens = found["epoch"]["tokens"]
    # forward, and backward through frozen weights: 4 operations a parameter and token; what is computed again is no use
    useful = 4 * figures(folder)["prepare"]["parameters"] * tokens / loop / 1e12
    return {
        "estimate_gib": found["memory"]["estimate_gib"]["total"],
        "peak_gib": found.get("trial", {}).get("peak_gib"),
        "samples_per_update": samples / found["epoch"]["micro_batches"] * given["gradient_accumulation_steps"],
        "padding": found["epoch"]["padding"],
        "samples_per_second": samples / loop,
        "tokens_per_second": tokens / loop,
        "mfu": useful / figures(folder)["prepare"]["tflops"],
        "seconds": seconds,
    }


def limits(gib: float | None) -> list[str]:
    return [f"--gpus={torch.cuda.device_count()}", *([f"--gpu-memory-gib={gib}"] if gib else [])]


def do_predict(folder: Path, size: str, gib: float | None, batch: int, until: float) -> dict[str, Any]:
    out = folder / f"do-predict-{batch}"
    given = pixels(size) | {
        **{"stage": "sft", "do_predict": True, "predict_with_generate": True, "bf16": size == "8b"},
        **{"model_name_or_path": str(folder / "model"), "template": "qwen3_vl_nothink", "eval_dataset": "test"},
        **{"dataset_dir": str(folder), "media_dir": str(folder), "output_dir": str(out)},
        **{"cutoff_len": 2048, "preprocessing_num_workers": 2, "overwrite_cache": True, "report_to": "none"},
        **{"per_device_eval_batch_size": batch, "do_sample": False, "max_new_tokens": NEW_TOKENS},
        **{"max_samples": asked(size, batch)},
    }
    program = DO_PREDICT.format(gpus=torch.cuda.device_count(), gib=gib)
    seconds, output = run(program + PEAK, json.dumps(given), until=until)
    return predicted(folder, size, batch, seconds, output, read_json(out / "predict_results.json")["predict_runtime"])


def predict(folder: Path, size: str, gib: float | None, batch: int, until: float) -> dict[str, Any]:
    """`largest_batch`: as far as batches grew, which on a GPU is as far as there is memory for."""
    out = folder / f"predict-{batch}.jsonl"
    out.unlink(missing_ok=True)
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in pixels(size).items()]
    flags += [f"--max-new-tokens={NEW_TOKENS}", f"--batch-size={batch}", f"--media-dir={folder}", f"--out={out}"]
    places = [f"--model={folder / 'model'}", f"--sharegpt={folder / 'test.json'}", f"--some={asked(size, batch)}"]
    program = COUNTED + COMMAND + LARGEST_BATCH + PEAK
    seconds, output = run(program, "predict", *places, *flags, *limits(gib), until=until)
    found = predicted(folder, size, batch, seconds, output, sum(row["seconds"] for row in read_jsonl(out)))
    return found | {"largest_batch": figure(output, "largest batch")}


def figure(output: str, name: str) -> int:
    return int(re.findall(rf"^{name} (\d+)$", output, re.MULTILINE)[-1])


def asked(size: str, batch: int) -> int:
    return max(ASKED[size], 2 * batch)


def predicted(folder: Path, size: str, batch: int, seconds: float, output: str, loop: float) -> dict[str, Any]:
    """Speeds of the whole command and without its start, and the peak beside the least it can be: weights and cache."""
    prepared, text = figures(folder)["prepare"], read_json(folder / "model" / "config.json")["text_config"]
    numbers = 2 * text["num_hidden_layers"] * text["num_key_value_heads"] * text["head_dim"]  # of a token
    numbers *= batch * (prepared["prompt_tokens"] + NEW_TOKENS)
    least = (prepared["parameters"] + numbers) * (2 if torch.cuda.is_available() else 4)
    return {
        "estimate_gib": (least + gpu.CONTEXT) / gpu.GIB,
        "peak_gib": figure(output, "peak bytes") / gpu.GIB,
        "samples_per_second": asked(size, batch) / seconds,
        "samples_per_second_without_start": asked(size, batch) / loop,
        "seconds": seconds,
    }


def figures(folder: Path) -> dict[str, Any]:
    path = folder / "figures.json"
    found: dict[str, Any] = read_json(path) if path.exists() else {}
    return found


def machine() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, Any] = {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"}
    found["slow_conv3d"] = torch.__version__.startswith(budget.SLOW_TORCH)
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
    os.chdir(ROOT)  # where the configs' prompts are
    os.environ |= OFFLINE
    steps: dict[str, Callable[[float], dict[str, Any]]] = {"prepare": lambda _: prepare(folder, size)}
    for name in (name for name in WAYS if find_spec("bitsandbytes") or not name.endswith("-4bit")):
        steps[f"train-{name}"] = lambda until, name=name: train(folder, size, gib, name, until)
    for kind, function in (("do-predict", do_predict), ("predict", predict)):
        for batch in (2**n for n in range(LARGEST[size].bit_length())):
            steps[f"{kind}-{batch}"] = lambda until, f=function, batch=batch: f(folder, size, gib, batch, until)
    full: set[str] = set()  # kinds of prediction for which no larger batch fits
    failed = []
    for step in arguments.steps or steps:
        if step not in steps:
            sys.exit(f"{step}: no such step; there are {', '.join(steps)}.")
        kind, _, batch = step.rpartition("-")
        if kind in full and batch.isdigit() and not arguments.steps:
            continue
        found = attempt(steps[step])
        write_json(folder / "figures.json", figures(folder) | {"machine": machine() | {"size": size}, step: found})
        print(step, json.dumps(found), flush=True)
        if "out_of_memory" in found or ("largest_batch" in found and found["largest_batch"] < int(batch)):
            full.add(kind)
        failed += [step] if "failed" in found else []
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; see {folder / 'figures.json'}.")


if __name__ == "__main__":
    main()
