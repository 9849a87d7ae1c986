"""The devices that a job was promised, what of a card is left to torch, and the sentence where that runs out."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from radtune import gpu
from radtune.files import UserError
from radtune.train import rank


@pytest.mark.parametrize(
    ("limit", "card", "left"),
    [
        (24, 80 * gpu.GIB, 23.5),  # a larger card is held to the limit
        (24, 23.65 * gpu.GIB, 23.15),  # a 24 GB card has less than 24 GiB
        (0.25, 80 * gpu.GIB, 0),
    ],
)
def test_torch_is_left_the_limit_without_what_cuda_takes(limit: float, card: float, left: float) -> None:
    assert gpu.allowed(limit, int(card)) / gpu.GIB == pytest.approx(left, abs=1e-6)


def sees(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(("seen", "promised", "limit"), [(0, 1, None), (1, 1, None), (1, 1, 24), (2, 2, 24)])
def test_as_many_as_promised_will_do(monkeypatch: pytest.MonkeyPatch, seen: int, promised: int, limit: Any) -> None:
    sees(monkeypatch, seen)
    assert gpu.check(promised, limit) == seen


@pytest.mark.parametrize(
    ("seen", "promised", "limit", "words"),
    [
        (0, 1, 24, "torch sees 0 GPUs, but 1 was promised to this job; check nvidia-smi"),
        (1, 2, 24, "torch sees 1 GPUs, but 2 was promised"),
        (0, 0, 24, "set limits.gpu_memory_gib: null"),
        (4, 2, None, "torch sees 4 GPUs, but 2 was promised to this job; set CUDA_VISIBLE_DEVICES='0,1'"),
        (1, 0, None, "set CUDA_VISIBLE_DEVICES=''"),
    ],
)
def test_too_few_and_too_many_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, seen: int, promised: int, limit: Any, words: str
) -> None:
    sees(monkeypatch, seen)
    with pytest.raises(UserError) as caught:
        gpu.check(promised, limit)
    assert words in str(caught.value)


def test_commands_that_use_one_device_take_different_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    def claimed(visible: str | None, promised: int = 1) -> tuple[int, str]:
        """What torch sees then, and CUDA_VISIBLE_DEVICES."""
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
        return gpu.claim_one(promised, 24), os.environ["CUDA_VISIBLE_DEVICES"]

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    # a machine of two: as torch counts them before CUDA is used
    monkeypatch.setattr(
        torch.cuda, "device_count", lambda: len((os.environ["CUDA_VISIBLE_DEVICES"] or "0,1").split(","))
    )
    assert claimed("GPU-a,GPU-b") == (1, "GPU-a")
    assert [claimed(None), claimed(None, 2), claimed(None)] == [(1, "0"), (1, "1"), (1, "0")]  # all taken: the first
    for lock in tmp_path.iterdir():  # as where the processes have ended
        lock.unlink()
    assert claimed("0,1") == (1, "0")
    assert claimed("1") == (1, "1")
    with pytest.raises(UserError, match="torch sees 2 GPUs, but 0 was promised"):
        claimed(None, 0)


def test_a_batch_may_double_while_twice_its_memory_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the device would report stands in for one: 20 GiB, of which a model holds 8."""
    import torch

    sees(monkeypatch, 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=20 * gpu.GIB))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 8 * gpu.GIB)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    for limit, largest in ((None, 12), (16, 10), (11, 8)):
        roomy = gpu.meter(limit)
        for peak, answer in ((largest, True), (largest + 1, False)):
            monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _, peak=peak: peak * gpu.GIB)
            assert roomy() is answer, (limit, peak)


def test_predict_without_its_gpu_ends_with_one_sentence(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    (tmp_path / "test.json").write_text(json.dumps([{"id": "1", "tag": "A", "messages": turns, "images": []}]))
    (tmp_path / "model").mkdir()
    places = ["--model", "model", "--sharegpt", "test.json", "--media-dir", ".", "--out", "out.jsonl"]
    limits = ["--max-new-tokens=8", "--batch-size=2", "--image-max-pixels=1024", "--image-min-pixels=1024"]
    command = [sys.executable, "-c", "from radtune.cli import main; main()", "predict", *places, *limits]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}  # also hides the GPU of a machine that has one
    done = subprocess.run(
        [*command, "--gpus=1", "--gpu-memory-gib=24"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("radtune: torch sees 0 GPUs, but 1 was promised to this job;")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists()


def test_the_sentence_has_peak_limit_and_advice() -> None:
    error = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB."
    figures = "torch held 23.0 GiB at most, asked for 2.00 GiB more, limits.gpu_memory_gib is 24"
    assert gpu.sentence(error, 24, 23 * gpu.GIB, "lower x") == f"out of GPU memory ({figures}): lower x."


def test_torchs_own_error_on_the_cpu_is_explained_and_any_other_left_alone() -> None:
    import torch

    words = r"out of the machine's memory \(asked for 4000+ bytes more\): lower x\."
    with pytest.raises(UserError, match=words), gpu.explained(24, lambda _: "lower x"):
        torch.empty(10**15)
    with pytest.raises(RuntimeError, match="size"), gpu.explained(24, lambda _: "lower x"):
        torch.ones(2) @ torch.ones(3)
    with pytest.raises(UserError, match="out of the machine's memory: lower x"), gpu.explained(24, lambda _: "lower x"):
        raise RuntimeError("could not create a primitive")  # a convolution's, where its own memory was refused


def ran_out(*functions: str) -> RuntimeError:
    """An error raised inside functions of these names, the first outermost."""
    code = "raise RuntimeError"
    for name in reversed(functions):
        body = "\n".join(f" {line}" for line in code.splitlines())
        code = f"def {name}():\n{body}\n{name}()"
    try:
        exec(code)
    except RuntimeError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("settings", "functions", "start"),
    [
        ({"per_device_train_batch_size": 2}, ["train"], "lower per_device_train_batch_size (now 2) or cutoff_len"),
        ({"per_device_train_batch_size": 1}, ["train"], "lower cutoff_len (now 2048) or image_max_pixels (now 589824)"),
        ({}, ["train", "evaluation_loop"], "lower per_device_eval_batch_size (now 8) or cutoff_len"),
        ({}, ["run_sft", "load_model"], "the model's weights alone do not fit"),
    ],
)
def test_the_advice_goes_by_where_memory_ran_out(settings: dict[str, Any], functions: list[str], start: str) -> None:
    assert rank.advice(settings, ran_out(*functions)).startswith(start)


def test_gradient_checkpointing_is_advised_where_it_is_off() -> None:
    setting = "disable_gradient_checkpointing"
    assert f"or set {setting}: false" in rank.advice({setting: True}, ran_out("train"))
    assert setting not in rank.advice({}, ran_out("train"))
