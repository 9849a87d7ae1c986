"""Run LLaMA-Factory on a rendered train.yaml, resume where it was interrupted, and collect what later stages read.

    radtune train --settings '{"stage": "sft"}' --model base/ --dataset-dir d/ --dataset train --out train/lora/

The run itself lives in `out`/run-<digest>/ beside the collected outputs: Snakemake deletes declared outputs before a
job, and the checkpoints must outlive that. Changed inputs change the digest, so an old run is never resumed; only how
long to train is no part of it, so that a finished run can be trained on. `out`/heartbeat.json says how far a run is.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from radtune import files
from radtune.digest import digest
from radtune.flags import Json
from radtune.train import llamafactory, rank

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "DISABLE_VERSION_CHECK": "1",  # the versions are pinned and tested; the check only warns
    "PYTHONUNBUFFERED": "1",
}
ERROR = re.compile(r"^(?:\[rank\d+\]:\s*)?(?:[\w.]*\.)?(\w*(?:Error|Exception|Interrupt)): ?(.*)$")
FULL = re.compile(r"No space left on device|inline_container.* unexpected pos")  # the latter are torch.save's words
EXIT_SECONDS = 120  # a trainer that is done may take to end: of those with several processes some hang there for ever
WRAPPERS = ("ChildFailedError", "CalledProcessError")  # torchrun's, which hide the reason
STATE = "trainer_state.json"
DEEPSPEED = "global_step*"  # its folder in a checkpoint
OPTIMISER = ("optimizer.pt", "optimizer.bin", "optimizer_*", DEEPSPEED)  # torch's, FSDP's whole or in shards
LENGTH = "length.json"  # how long the run is to be: a key of llamafactory.LENGTHS and its value
RUN_ONLY = [
    "checkpoint-*",
    "cache",
    "lock",
    LENGTH,
    "*_results.json",
    "trainer_*",
    "training_args.bin",
    "*.png",
    "README.md",
]


def train(
    settings: Json,
    *,
    model: Path,
    adapter: Path | None = None,
    dataset_dir: Path,
    media_dir: Path,
    dataset: str,
    eval_dataset: str | None = None,
    out: Path,
    weights: Path,
    images: Json | None = None,
    gpus: int = 1,
    gpu_memory_gib: float | None = None,
) -> None:
    """Train as `settings` say (LLaMA-Factory's arguments) and write the results.

    Into `out`: train.yaml, trainer_log.jsonl (train and eval loss by step), loss.png and summary.json. Into `weights`:
    the adapter or, for finetuning_type full, the whole model with tokenizer and processor. `adapter` is one to go on
    training. Rerun after an interruption, it goes on from the last whole checkpoint; a finished run is collected again,
    or trained on where more epochs are asked for and its schedule allows that.

    `images`: what made the pictures, which goes into summary.json as it is, for those who will prepare others.
    `gpus`: as many are used, each one's memory up to `gpu_memory_gib`; beside several there must be no more. With that
    null, none has to be there.
    """
    places: dict[str, Any] = {
        "model": model,
        "adapter": adapter,
        "dataset_dir": dataset_dir,
        "media_dir": media_dir,
        "dataset": dataset,
        "eval_dataset": eval_dataset,
    }
    llamafactory.render(settings, **places, output_dir=out)  # a wrong setting is told before anything is read
    rest = {key: value for key, value in settings.items() if key not in llamafactory.LENGTHS}
    run_dir = out / f"run-{_digest(rest, **places)}"
    text = llamafactory.render(settings, **places, output_dir=run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    files.write_text(out / "train.yaml", text)
    with (run_dir / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # the trainer holds the lock too, and outlives a killed workflow
            print(f"{run_dir}: waiting for a trainer that is still at work here.", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not _finished(run_dir) or not _is_as_long(run_dir, settings):
            _remove_broken_checkpoints(run_dir)
            _prepare(run_dir, settings)
            _run([str(out / "train.yaml"), str(gpus), json.dumps(gpu_memory_gib)], run_dir, lock.fileno())
        _collect(run_dir, out, weights, full=settings.get("finetuning_type") == "full")
        files.write_json(out / "summary.json", llamafactory.summary(run_dir) | ({"images": images} if images else {}))
    shutil.rmtree(run_dir / "cache", ignore_errors=True)
    for old in out.glob("run-*"):
        if old != run_dir:
            shutil.rmtree(old, ignore_errors=True)


def _digest(
    settings: dict[str, Any],
    *,
    model: Path,
    adapter: Path | None,
    dataset_dir: Path,
    media_dir: Path,
    dataset: str,
    eval_dataset: str | None,
) -> str:
    """Of the settings, the records, their images, the model's files and the adapter's."""
    info = files.read_json(dataset_dir / "dataset_info.json")
    names = [name.strip() for name in f"{dataset},{eval_dataset or ''}".split(",") if name.strip()]
    for name in names:
        if name not in info:
            raise files.UserError(f"{dataset_dir / 'dataset_info.json'}: has no data set named {name!r}.")
    records = [dataset_dir / info[name]["file_name"] for name in names]
    images = {image for path in records for record in files.read_json(path) for image in record["images"]}
    missing = sorted(image for image in images if not (media_dir / image).is_file())
    if missing:
        raise files.UserError(f"{media_dir / missing[0]}: no such image ({len(missing)} of {len(images)} are missing).")
    inputs = [*records, *(media_dir / image for image in sorted(images)), model, *([adapter] if adapter else [])]
    return digest([settings, {name: info[name] for name in names}], inputs)


def _finished(run_dir: Path) -> bool:
    """LLaMA-Factory writes the final weights and then, in the folder itself, the trainer's state."""
    return _is_json(run_dir / STATE)


def _remove_broken_checkpoints(run_dir: Path) -> None:
    """Delete half-written checkpoints: the trainer takes the newest, whole or not, and would die of it."""
    for checkpoint in run_dir.glob("checkpoint-*"):
        if not _is_whole(checkpoint):
            print(f"{checkpoint}: half written, removed.", file=sys.stderr, flush=True)
            shutil.rmtree(checkpoint)


def _is_whole(checkpoint: Path) -> bool:
    """The trainer's state is written last, after weights, optimiser and schedule; DeepSpeed holds the latter in one."""
    optimiser = [pattern for pattern in OPTIMISER if any(checkpoint.glob(pattern))]
    schedule = DEEPSPEED in optimiser or (checkpoint / "scheduler.pt").is_file()
    return bool(optimiser) and schedule and _is_json(checkpoint / STATE)


def _is_as_long(run_dir: Path, settings: dict[str, Any]) -> bool:
    return bool(files.read_json(run_dir / LENGTH) == llamafactory.length(settings))


def _prepare(run_dir: Path, settings: dict[str, Any]) -> None:
    """Make an unfinished run, or one of another length, ready to be trained on; empty it where it cannot be."""
    length = llamafactory.length(settings)
    before = files.read_json(run_dir / LENGTH) if (run_dir / LENGTH).exists() else length
    why = llamafactory.why_anew(settings, before)
    kept = any(run_dir.glob("checkpoint-*"))
    if before != length:
        why = why or ("" if kept else "it kept no checkpoint")
        how = f"starts anew: {why}" if why else "trains only what is missing"
        was, now = (" ".join(f"{key} {value:g}" for key, value in each.items()) for each in (before, length))
        print(f"{run_dir}: was trained for {was}, is now asked for {now}; {how}.", file=sys.stderr, flush=True)
    (run_dir / STATE).unlink(missing_ok=True)  # no longer finished
    if why or not kept:  # LLaMA-Factory refuses a folder that holds weights and no checkpoint
        for path in run_dir.iterdir():
            if path.name not in ("lock", "cache", LENGTH):  # the last tells, when this is killed, that it is not done
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    files.write_json(run_dir / LENGTH, length)


def _is_json(path: Path) -> bool:
    try:
        files.read_json(path)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return False
    return True


def _run(arguments: list[str], run_dir: Path, lock: int) -> None:
    """Run the trainer, its output on stderr; `lock` is held as long as it lives. Its error becomes a UserError."""
    environment = {
        **os.environ,
        **OFFLINE,
        "HF_DATASETS_CACHE": str((run_dir / "cache").absolute()),  # not the home folder
    }
    command = [sys.executable, "-m", rank.__name__, *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, pass_fds=[lock]
    ) as process:
        tail = _follow(process, run_dir)
    if process.returncode and not _finished(run_dir):
        reason = _reason(tail.decode(errors="replace"), process.returncode)
        if FULL.search(reason):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(run_dir))
        raise files.UserError(f"{arguments[0]}: training failed: {reason}")


def _follow(process: subprocess.Popen[bytes], run_dir: Path) -> bytes:
    """Show the output until the process ends, and end it if it is done and does not; the output's last part."""
    assert process.stdout
    tail, done = b"", None
    while True:
        if select.select([process.stdout], [], [], 1)[0]:
            chunk = os.read(process.stdout.fileno(), 65536)  # not by line: progress bars have no line ends
            if not chunk:
                return tail
            os.write(sys.stderr.fileno(), chunk)
            tail = (tail + chunk)[-262144:]
        if done is None:
            done = time.monotonic() if _finished(run_dir) else None
        elif time.monotonic() > done + EXIT_SECONDS:
            print(f"{run_dir}: trained, but the trainer did not end; ended here.", file=sys.stderr, flush=True)
            process.terminate()  # torchrun hands it on, and kills after 30 s
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
            return tail


def _reason(log: str, code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (often: out of memory)" if name == "SIGKILL" else ""
        return f"killed by {name}{hint}."
    for line in reversed(log.splitlines()):
        match = ERROR.match(line.strip())
        if match and match[1] not in WRAPPERS:
            return match[2] or match[1]
    return f"exit status {code}, see its log."


def _collect(run_dir: Path, out: Path, weights: Path, *, full: bool) -> None:
    with files.replacing(weights) as temporary:
        if full:
            shutil.copytree(run_dir, temporary, ignore=shutil.ignore_patterns(*RUN_ONLY))
        else:
            temporary.mkdir()
            for name in ("adapter_model.safetensors", "adapter_config.json"):
                shutil.copy(run_dir / name, temporary / name)
    log = llamafactory.read_log(run_dir)
    files.write_jsonl(out / "trainer_log.jsonl", log)
    _draw(log, out / "loss.png")


def _draw(log: list[dict[str, Any]], path: Path) -> None:
    """Train and eval loss (nats a token) over the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for key, label, style in (("loss", "training", "-"), ("eval_loss", "evaluation", "o-")):
        points = [(row["step"], row[key]) for row in log if key in row]
        if points:
            axes.plot(*zip(*points, strict=True), style, markersize=4, label=label)
    axes.set(xlabel="step", ylabel="loss (nats per token)", ylim=(0, None))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
