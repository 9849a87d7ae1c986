"""LLaMA-Factory's own training for two updates on the longest batch, for its peak of memory; nothing of it is kept."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from radtune import files, gpu
from radtune.train import launch, llamafactory
from radtune.train.lengths import packed, room
from radtune.train.rank import advice

UPDATES, ACCUMULATION = 2, 2  # the second update has the optimiser's state, its second batch gradients beside it
SHORT: dict[str, Any] = {
    "max_steps": UPDATES,
    "save_strategy": "no",
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "logging_steps": 1,
    "plot_loss": False,
    "preprocessing_num_workers": 1,
    "dataloader_num_workers": 0,
    "report_to": "none",
}
LEFT_OUT = ("early_stopping_steps", "tokenized_path", "dataloader_persistent_workers")


def run(
    settings: dict[str, Any],
    record: dict[str, Any],
    length: int,
    *,
    info: dict[str, Any],
    model: Path,
    media_dir: Path,
    gpu_memory_gib: float | None,
    folder: Path,
    callbacks: list[Any] | None = None,
) -> dict[str, Any]:
    """Train on copies of `record`, of `length` tokens: seconds, and on a GPU peak_gib, CUDA's own memory included.

    `info`: the data set's entry in dataset_info.json. Temporary files lie in `folder`. `callbacks` are the trainer's.
    Raises UserError where the memory does not suffice.
    """
    import torch

    os.environ |= launch.OFFLINE
    kept = {key: value for key, value in settings.items() if key not in LEFT_OUT}
    short = kept | SHORT | {"gradient_accumulation_steps": min(settings["gradient_accumulation_steps"], ACCUMULATION)}
    each = room(settings) // length if packed(settings) else 1
    batches = UPDATES * short["gradient_accumulation_steps"]
    copies = batches * settings["per_device_train_batch_size"] * each
    with tempfile.TemporaryDirectory(dir=folder, prefix=".trial-") as name:
        place = Path(name)
        os.environ["HF_DATASETS_CACHE"] = str(place / "cache")
        files.write_json(place / "trial.json", [record] * copies)
        files.write_json(place / "dataset_info.json", {"trial": info | {"file_name": "trial.json"}})
        text = llamafactory.render(
            short,
            model=model,
            adapter=None,
            dataset_dir=place,
            media_dir=media_dir,
            dataset="trial",
            eval_dataset=None,
            output_dir=place / "out",
        )
        with gpu.explained(gpu_memory_gib, lambda error: advice(settings, error).partition(";")[0]):
            from llamafactory.train.tuner import run_exp

            began = time.perf_counter()
            run_exp(yaml.safe_load(text), callbacks)
    result: dict[str, Any] = {"seconds": round(time.perf_counter() - began, 1)}
    if torch.cuda.is_available():
        result["peak_gib"] = round((torch.cuda.max_memory_reserved() + gpu.CONTEXT) / gpu.GIB, 2)
    return result
