"""On a real device: the cap holds; beneath it the tiny model trains and predicts, beyond it there is one sentence."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from radtune import files, gpu

pytestmark = pytest.mark.slow
CAP = 2  # GiB, far more than the tiny model takes
LOW = 0.51  # GiB, of which CUDA itself is counted 0.5
PIXELS = {"image_max_pixels": 4096, "image_min_pixels": 1024}
SETTINGS = PIXELS | {
    "finetuning_type": "full",
    "template": "qwen3_vl_nothink",
    "cutoff_len": 256,
    "per_device_train_batch_size": 4,
    "max_steps": 4,
    "save_steps": 2,
    "bf16": True,
}
FILL = f"""
import sys, torch
from radtune import gpu
device = gpu.claim(1, {CAP})
held = [torch.empty(gpu.GIB, dtype=torch.uint8, device=device)]
print("below", flush=True)
try:
    while True:
        held.append(torch.empty(gpu.GIB // 16, dtype=torch.uint8, device=device))
except torch.OutOfMemoryError:
    print("full", flush=True)
sys.stdin.read()
with gpu.explained({CAP}, lambda _: "lower x"):
    torch.empty(gpu.GIB, dtype=torch.uint8, device=device)
"""


def radtune(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from radtune.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def train(folder: Path, out: str, gib: float) -> subprocess.CompletedProcess[str]:
    places = ["--model=random", "--dataset-dir=.", "--media-dir=.", "--dataset=train", f"--out={out}"]
    limits = ["--gpus=1", f"--gpu-memory-gib={gib}"]
    return radtune(folder, "train", f"--settings={json.dumps(SETTINGS)}", *places, f"--weights={out}/weights", *limits)


def predict(folder: Path, out: str, gib: float) -> subprocess.CompletedProcess[str]:
    places = ["--model=base/weights", "--sharegpt=train.json", "--media-dir=.", f"--out={out}"]
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in PIXELS.items()]
    limits = ["--gpus=1", f"--gpu-memory-gib={gib}"]
    return radtune(folder, "predict", *places, *flags, "--max-new-tokens=8", "--batch-size=4", *limits)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tiny model, 16 samples, and base/: the model trained under the cap."""
    root = tmp_path_factory.mktemp("gpu")
    records = []
    for n in range(16):
        word = "bright" if n % 2 else "dark"
        Image.new("L", (64, 64), 200 if n % 2 else 40).save(root / f"{n}.png")
        turns = [{"role": "user", "content": "<image>Bright or dark?"}, {"role": "assistant", "content": word}]
        record = {"id": str(n), "tag": "SHADE", "group": str(n), "messages": turns, "images": [f"{n}.png"]}
        records.append(record | {"facts": {"shade": word}})
    files.write_json(root / "train.json", records)
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    columns = {"messages": "messages", "images": "images"}
    info = {"file_name": "train.json", "formatting": "sharegpt", "columns": columns, "tags": tags}
    files.write_json(root / "dataset_info.json", {"train": info})
    for done in (radtune(root, "build-tiny", "--corpus=train.json", "--out=random"), train(root, "base", CAP)):
        assert done.returncode == 0, done.stdout[-4000:]
    return root


def test_the_process_with_all_that_cuda_takes_stays_within_the_cap() -> None:
    import torch

    before = torch.cuda.mem_get_info()[0]
    command = [sys.executable, "-c", FILL]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert [process.stdout.readline() for _ in range(2)] == ["below\n", "full\n"]
        taken = before - torch.cuda.mem_get_info()[0]
        process.stdin.close()
        last = process.stderr.read().splitlines()[-1]
    assert 1.4 * gpu.GIB < taken <= CAP * gpu.GIB
    figures = rf"torch held 1\.[45] GiB at most, asked for 1024\.00 MiB more, limits\.gpu_memory_gib is {CAP}"
    assert re.search(rf"UserError: out of GPU memory \({figures}\): lower x\.$", last)


def test_more_devices_than_promised_are_refused() -> None:
    with pytest.raises(files.UserError, match="torch sees 1 GPUs, but 0 was promised"):
        gpu.check(0, None)


def test_the_tiny_model_trains_on_the_device(folder: Path) -> None:
    assert files.read_json(folder / "base" / "summary.json")["steps"] == SETTINGS["max_steps"]


def test_training_above_the_cap_ends_with_one_sentence(folder: Path) -> None:
    done = train(folder, "low", LOW)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("radtune: low/train.yaml: training failed: out of GPU memory (")


def test_the_tiny_model_predicts_on_the_device(folder: Path) -> None:
    done = predict(folder, "out.jsonl", CAP)
    assert done.returncode == 0, done.stdout[-4000:]
    assert len(files.read_jsonl(folder / "out.jsonl")) == 16


def test_predicting_above_the_cap_ends_with_one_sentence(folder: Path) -> None:
    done = predict(folder, "low.jsonl", LOW)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("radtune: out of GPU memory (")


def test_the_vision_tower_learns_on_the_device(folder: Path) -> None:
    places = ["--model=random", "--practice=train.json", "--media-dir=.", "--out=seeing"]
    limits = ["--image-pixels=4096", "--steps=3", "--gpus=1", f"--gpu-memory-gib={CAP}"]
    done = radtune(folder, "teach-to-see", *places, *limits)
    assert done.returncode == 0, done.stdout[-4000:]
    assert (folder / "seeing" / "model.safetensors").is_file()


def test_the_check_before_training_measures_what_it_estimates(folder: Path) -> None:
    """The tiny model's step is small beside CUDA's own half GiB, which both figures hold."""
    lora = SETTINGS | {"finetuning_type": "lora", "gradient_accumulation_steps": 2}
    places = ["--model=base/weights", "--dataset-dir=.", "--media-dir=.", "--dataset=train", "--out=preflight.json"]
    limits = ["--gpus=1", f"--gpu-memory-gib={CAP}", f"--prediction={json.dumps(PIXELS)}", "--picture=preflight.png"]
    done = radtune(folder, "preflight", f"--settings={json.dumps(lora)}", *places, *limits)
    assert done.returncode == 0, done.stdout[-4000:]
    found = files.read_json(folder / "preflight.json")
    assert 0.5 < found["trial"]["peak_gib"] < CAP
    assert found["trial"]["peak_gib"] == pytest.approx(found["memory"]["estimate_gib"]["total"], rel=0.1)
