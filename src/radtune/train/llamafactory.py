"""LLaMA-Factory's YAML, rendered as a file that a person can run by hand, and what its trainer_state.json says.

llamafactory-cli train train.yaml
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from radtune import files

# The sections of LLaMA-Factory's own examples, in their order, with the arguments that are in use; any other argument
# is passed through under "### other".
SECTIONS = {
    "model": """model_name_or_path adapter_name_or_path image_max_pixels image_min_pixels video_max_pixels
        video_min_pixels trust_remote_code flash_attn enable_liger_kernel disable_gradient_checkpointing
        use_reentrant_gc upcast_layernorm resize_vocab rope_scaling use_unsloth quantization_method quantization_bit
        quantization_type double_quantization""",
    "method": """stage do_train finetuning_type lora_rank lora_alpha lora_dropout lora_target additional_target
        loraplus_lr_ratio use_rslora use_dora pissa_init pissa_iter create_new_adapter freeze_vision_tower
        freeze_multi_modal_projector freeze_language_model freeze_trainable_layers freeze_trainable_modules
        deepspeed fsdp fsdp_config pure_bf16 compute_accuracy early_stopping_steps""",
    "dataset": """dataset dataset_dir media_dir template cutoff_len max_samples train_on_prompt mask_history packing
        neat_packing default_system overwrite_cache preprocessing_batch_size preprocessing_num_workers
        tokenized_path dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers
        mix_strategy interleave_probs streaming buffer_size disable_shuffling group_by_length""",
    "output": """output_dir logging_steps logging_strategy logging_first_step save_strategy save_steps save_total_limit
        save_only_model load_best_model_at_end metric_for_best_model greater_is_better plot_loss
        report_to run_name include_num_input_tokens_seen include_effective_tokens_per_second""",
    "train": """per_device_train_batch_size gradient_accumulation_steps learning_rate num_train_epochs max_steps
        lr_scheduler_type lr_scheduler_kwargs warmup_ratio warmup_steps weight_decay max_grad_norm optim optim_args
        adam_beta1 adam_beta2 adam_epsilon neftune_noise_alpha label_smoothing_factor bf16 fp16 tf32 use_cpu
        gradient_checkpointing seed data_seed full_determinism torch_empty_cache_steps ddp_timeout
        ddp_find_unused_parameters resume_from_checkpoint""",
    "eval": """eval_dataset val_size eval_strategy eval_steps eval_on_start per_device_eval_batch_size
        eval_accumulation_steps prediction_loss_only eval_on_each_dataset do_eval""",
}
# Set here and nowhere else: where things are, and that a rerun resumes instead of starting over
OWN = """model_name_or_path adapter_name_or_path dataset dataset_dir media_dir eval_dataset output_dir
    overwrite_output_dir resume_from_checkpoint"""
DEFAULTS = {"stage": "sft", "do_train": True, "save_only_model": False, "plot_loss": False, "report_to": "none"}

LENGTHS = ("num_train_epochs", "max_steps")


def length(settings: dict[str, Any]) -> dict[str, float]:
    """How long the settings train: the one of LENGTHS that counts, and its value."""
    steps = settings.get("max_steps", -1)
    return {"max_steps": steps} if steps > 0 else {"num_train_epochs": float(settings.get("num_train_epochs", 3))}


def why_anew(settings: dict[str, Any], before: dict[str, float]) -> str:
    """Why a run that was to be as long as `before` cannot be trained on as `settings` say; empty where it can be."""
    now, schedule = length(settings), settings.get("lr_scheduler_type", "linear")
    if now == before:
        return ""
    if [*now] != [*before]:
        return "the two do not compare"
    if [*now.values()] < [*before.values()]:
        return "that is less"
    if schedule not in ("constant", "constant_with_warmup", "inverse_sqrt"):
        return f"lr_scheduler_type {schedule} spans the whole run, so that every step's rate changes; constant does not"
    if schedule != "constant" and not settings.get("warmup_steps") and settings.get("warmup_ratio"):
        return "warmup_ratio is a share of the whole run, so that the warm-up changes; warmup_steps would not"
    return ""


def render(
    settings: dict[str, Any],
    *,
    model: Path,
    adapter: Path | None,
    dataset_dir: Path,
    media_dir: Path,
    dataset: str,
    eval_dataset: str | None,
    output_dir: Path,
) -> str:
    """The YAML text: `settings` are LLaMA-Factory's arguments by their own names, each put into its section.

    `adapter` is the adapter to go on training. Raises UserError for a setting that is not the caller's to make.
    """
    if settings.get("default_system"):
        raise files.UserError(
            "training setting default_system: remove it, prediction asks without a system turn; what is to hold for "
            "every question goes into the prompts."
        )
    for key in settings:
        if key in OWN.split():
            raise files.UserError(f"training setting {key}: remove it, radtune sets it from the files it is given.")
    if adapter and settings.get("create_new_adapter"):
        # it would be merged into the base, and the new adapter would then not fit the base on disk
        raise files.UserError("training setting create_new_adapter: must be false where an adapter is trained on.")
    places = {
        "model_name_or_path": str(model),
        "adapter_name_or_path": str(adapter) if adapter else None,
        "dataset": dataset,
        "dataset_dir": str(dataset_dir),
        "media_dir": str(media_dir),
        "eval_dataset": eval_dataset,
        "output_dir": str(output_dir),
    }
    arguments = {**DEFAULTS, **settings, **{key: value for key, value in places.items() if value is not None}}
    known = " ".join(SECTIONS.values()).split()
    sections = {**SECTIONS, "other": " ".join(key for key in arguments if key not in known)}
    texts = []
    for section, keys in sections.items():
        chosen = {key: arguments[key] for key in keys.split() if key in arguments}
        if chosen:
            body = yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True, default_flow_style=False)
            texts.append(f"### {section}\n{body}")
    return "\n".join(texts)


def read_log(run_dir: Path) -> list[dict[str, Any]]:
    """One row a step, ordered: epoch, loss, learning_rate, grad_norm and, where evaluated, eval_loss.

    From trainer_state.json, as trainer_log.jsonl repeats steps after a resume. `loss` is the mean since the entry
    before, or since the checkpoint where the run was resumed in between.
    """
    rows: dict[int, dict[str, Any]] = {}
    for entry in files.read_json(run_dir / "trainer_state.json")["log_history"]:
        row = rows.setdefault(entry["step"], {"step": entry["step"], "epoch": entry["epoch"]})
        row |= {key: entry[key] for key in ("loss", "learning_rate", "grad_norm", "eval_loss") if key in entry}
    return [row for _, row in sorted(rows.items()) if "loss" in row or "eval_loss" in row]


def summary(run_dir: Path) -> dict[str, Any]:
    """Steps, epochs, runtime and the last and lowest losses of a finished run.

    `loss` is the training loss averaged since the log entry before, `eval_loss` that of the whole evaluation set.
    `runtime` is in seconds, of the last process only where the run was resumed.
    """
    state = files.read_json(run_dir / "trainer_state.json")
    result: dict[str, Any] = {
        "steps": state["global_step"],
        "max_steps": state["max_steps"],
        "epochs": round(state["epoch"], 4),
        "runtime": next(
            (entry["train_runtime"] for entry in state["log_history"][::-1] if "train_runtime" in entry), None
        ),
    }
    log = read_log(run_dir)
    for key in ("loss", "eval_loss"):
        points = [(row[key], row["step"]) for row in log if key in row]
        if points:
            best, step = min(points)
            result[key] = {"final": points[-1][0], "final_step": points[-1][1], "best": best, "best_step": step}
        else:
            result[key] = None
    return result
