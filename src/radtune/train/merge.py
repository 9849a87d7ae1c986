"""An adapter merged into its model by LLaMA-Factory, for programs that load whole models.

radtune merge --model base/ --adapter train/lora/adapter --template qwen3_vl_nothink --out merged/
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from radtune import files
from radtune.train.launch import OFFLINE

SHARD_GB = 5


def merge(model: Path, adapter: Path, out: Path, *, template: str) -> None:
    """Write weights, in the model's own type, tokenizer and processor; runs on the CPU.

    `template` is LLaMA-Factory's, of the training. Where `adapter` holds a whole model (finetuning_type full), that is
    written. Raises UserError where the adapter is not one of this model.
    """
    settings: dict[str, Any] = {"model_name_or_path": str(model), "adapter_name_or_path": str(adapter)}
    if (adapter / "adapter_config.json").exists():
        check_adapter(model, adapter)
    else:
        settings = {"model_name_or_path": str(adapter)}
    config = files.read_json(model / "config.json")
    dtype = config.get("dtype") or config.get("torch_dtype") or config["text_config"]["dtype"]
    os.environ |= OFFLINE
    from llamafactory.train.tuner import export_model

    with files.replacing(out) as folder:
        where = {"export_dir": str(folder), "export_size": SHARD_GB, "export_device": "cpu", "infer_dtype": dtype}
        export_model(settings | where | {"template": template, "trust_remote_code": False})


def check_adapter(model: Path, adapter: Path) -> None:
    """Raise UserError unless peft finds a place in the model for each of the adapter's tensors, and none is missing.

    No weights are read but the adapter's.
    """
    import torch
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open
    from transformers import AutoConfig, AutoModelForImageTextToText

    with torch.device("meta"):
        base = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(model))
    try:
        tuned = PeftModel.from_pretrained(base, adapter, torch_device="cpu", low_cpu_mem_usage=True)
    except (RuntimeError, ValueError) as error:  # other sizes, or none of the modules that it is for
        raise files.UserError(f"{adapter}: is no adapter of {model}: {str(error).splitlines()[-1].strip()}") from None
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        differ = set(file.keys()) ^ set(get_peft_model_state_dict(tuned))
    if differ:
        raise files.UserError(f"{adapter}: is no adapter of {model}: {len(differ)} tensors differ, as {min(differ)}.")
