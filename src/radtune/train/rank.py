"""One process of LLaMA-Factory's training: its devices checked, their memory capped, and one sentence where that memory
is too little. Several devices are one process each, started by torchrun.

    python -m radtune.train.rank train.yaml 1 24

The numbers are the GPUs that were promised and the GiB of each that may be used (null: all, and none has to be there).
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import yaml

from radtune import gpu

# What costs memory, with LLaMA-Factory's default and the least that makes sense
COSTLY = {"cutoff_len": (2048, 1), "image_max_pixels": (589824, 1024)}


PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    train_yaml, gpus, memory_gib = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    seen = (gpu.claim_one if gpus == 1 else gpu.check)(gpus, memory_gib)
    if "LOCAL_RANK" not in os.environ and (seen > 1 or os.environ.get("FORCE_TORCHRUN") == "1"):
        processes = os.environ.get("NPROC_PER_NODE", str(max(seen, 1)))
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes]
        os.execv(sys.executable, [sys.executable, *torchrun, "-m", "radtune.train.rank", *sys.argv[1:]])
    if seen:
        gpu.cap(memory_gib, int(os.environ.get("LOCAL_RANK", "0")))
    end_children_with_parent()
    settings = yaml.safe_load(Path(train_yaml).read_text(encoding="utf-8"))
    sys.argv[1:] = [train_yaml]  # as LLaMA-Factory's own command line has it
    with gpu.explained(memory_gib, lambda error: advice(settings, error)):
        from llamafactory.train.tuner import run_exp

        from radtune.train import progress

        progress.keep_epoch_when_skipping()
        run_exp(callbacks=[progress.Progress(Path(train_yaml).with_name("heartbeat.json"))])


def end_children_with_parent() -> None:
    """Let forked processes die with this one. Those that tokenise wait for each other for ever when it is killed, as by
    a machine short of memory; they hold its lock and its output, so that its parent and a rerun would wait too.
    """
    prctl = ctypes.CDLL(None).prctl
    os.register_at_fork(after_in_child=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL))


def advice(settings: dict[str, Any], error: BaseException) -> str:
    """Which of LLaMA-Factory's settings to change, by where the memory ran out."""
    where = {frame.name for frame in traceback.extract_tb(error.__traceback__)}
    if "load_model" in where:
        return "the model's weights alone do not fit; take a smaller model or set quantization_bit"
    batch = f"per_device_{'eval' if 'evaluation_loop' in where else 'train'}_batch_size"
    costly = {batch: (8, 1), **COSTLY}
    now = {key: settings.get(key, default) for key, (default, _) in costly.items()}
    lower = [f"{key} (now {now[key]})" for key, (_, least) in costly.items() if now[key] > least]
    switch = ", or set disable_gradient_checkpointing: false" if settings.get("disable_gradient_checkpointing") else ""
    return f"lower {' or '.join(lower)}{switch}; checkpoints are kept, and a rerun with the same settings resumes"


if __name__ == "__main__":
    main()
