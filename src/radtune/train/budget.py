"""The check before training: what would fail after hours, or silently cost quality, fails here in minutes.

    radtune preflight --settings '{"cutoff_len": 2048}' --model base/ --dataset-dir d/ --dataset train
        --media-dir images/ --prediction '{"image_max_pixels": 589824, "image_min_pixels": 1024}'
        --out preflight.json --picture preflight.png

Token lengths come from the model's own processor, the memory from its config.json; on a GPU, two real updates on the
longest batch follow. Nothing is trained.
"""

from __future__ import annotations

import difflib
import math
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from radtune import files, gpu
from radtune.flags import Json
from radtune.train import fit, launch, lengths, llamafactory

# LLaMA-Factory's own, for what the settings leave out
DEFAULTS: dict[str, Any] = {
    "template": None,
    "cutoff_len": 2048,
    "image_max_pixels": 589824,
    "image_min_pixels": 1024,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "num_train_epochs": 3.0,
    "max_steps": -1,
}
TEMPLATES = {"qwen3_vl": "qwen3_vl_nothink", "qwen3_vl_moe": "qwen3_vl_nothink"}
SLOW_TORCH = "2.9."  # its Conv3D, which cuts images into patches, takes 10 to 20 times as long
NAMED = 5  # ids in a sentence


def preflight(
    settings: Json,
    *,
    model: Path,
    dataset_dir: Path,
    media_dir: Path,
    dataset: str,
    eval_dataset: str | None = None,
    prompts: list[Path] | None = None,
    prediction: Json,
    max_new_tokens: int = 512,
    tokens_per_second: float | None = None,
    price_per_hour: float | None = None,
    out: Path,
    picture: Path,
    gpus: int = 1,
    training_gpus: int = 1,
    gpu_memory_gib: float | None = None,
) -> None:
    """Check `settings` (LLaMA-Factory's arguments) against model, samples and device; write what was found.

    `prompts`: the ShareGPT files to predict. `prediction`: its image_max_pixels and image_min_pixels.
    `max_new_tokens`: of an answer, at most.
    `tokens_per_second`, padding not counted, and `price_per_hour`, in any currency, make hours and cost; without them
    none is claimed. Of `gpus` one is used, with up to `gpu_memory_gib` of its memory; training will have
    `training_gpus`. Raises UserError for what is wrong: see the functions below.
    """
    os.environ |= launch.OFFLINE
    seen = gpu.claim_one(gpus, gpu_memory_gib)
    import torch
    from transformers import AutoConfig, AutoProcessor

    places = {"model": model, "dataset_dir": dataset_dir, "media_dir": media_dir, "output_dir": out.parent / "run"}
    train_yaml = llamafactory.render(settings, **places, adapter=None, dataset=dataset, eval_dataset=eval_dataset)
    given, settings = settings, DEFAULTS | settings
    check_torch(torch.__version__)
    check_dtype(settings, seen > 0, seen > 0 and torch.cuda.is_bf16_supported(including_emulation=False))
    check_arguments(given, train_yaml)
    processor = AutoProcessor.from_pretrained(model)
    config = AutoConfig.from_pretrained(model)
    check_template(settings["template"], config.model_type, processor)

    info = files.read_json(dataset_dir / "dataset_info.json")
    names = [dataset, *([eval_dataset] if eval_dataset else [])]
    used = slice(settings.get("max_samples"))  # of each data set LLaMA-Factory takes the first
    records = {name: files.read_json(dataset_dir / info[name]["file_name"])[used] for name in names}
    if not records[dataset]:
        raise files.UserError(f"{dataset_dir / info[dataset]['file_name']}: holds no samples to train on.")
    asked = {path.stem: files.read_json(path) for path in prompts or []}
    sizes = lengths.image_sizes((r for group in (records, asked) for part in group.values() for r in part), media_dir)
    tokens = image_tokens(sizes, processor, settings, prediction)
    samples = {name: lengths.measure(part, processor, tokens) for name, part in records.items()}
    check_cutoff(settings, records, samples)

    train = [sample.total for sample in samples[dataset]]
    epoch = lengths.epoch(train, settings, training_gpus if seen else 1)
    shape = {"batch": settings["per_device_train_batch_size"], "length": epoch["longest"]}
    images = [sum(tokens[image] for image in record["images"]) for record in records[dataset]]
    shape["patches"] = _patches(images, train, processor, settings) * shape["batch"]
    memory = fit.check_memory(model, settings, shape, gpu_memory_gib)
    tagged = {name: _by_tag(records[name], [sample.total for sample in samples[name]]) for name in names}
    longest_prompt = 0
    for name, part in asked.items():
        prompted = [sample.prompt for sample in lengths.measure(part, processor, tokens)]
        tagged[f"{name} (prompt)"] = _by_tag(part, prompted)
        longest_prompt = max([longest_prompt, *prompted])
    evaluated = sum(sample.total for sample in samples[eval_dataset]) if eval_dataset else 0
    found = {
        "model": {"architectures": config.architectures, "template": settings["template"]},
        "torch": torch.__version__,
        "tokens": {
            name: {tag: lengths.distribution(part) for tag, part in tags.items()} for name, tags in tagged.items()
        },
        "image_tokens": _sizes(sizes, tokens),
        "cutoff_len": settings["cutoff_len"],
        "epoch": epoch,
        "training": training(settings, epoch, evaluated, tokens_per_second, price_per_hour),
        "memory": memory,
    }
    if asked:
        found["prediction"] = fit.predicting(model, longest_prompt + max_new_tokens, seen > 0, gpu_memory_gib)
    if seen and not _distributed(settings):
        from radtune.train import trial

        gpu.cap(gpu_memory_gib, 0)
        longest = max(range(len(train)), key=train.__getitem__)
        found["trial"] = trial.run(
            settings,
            records[dataset][longest],
            train[longest],
            info=info[dataset],
            model=model,
            media_dir=media_dir,
            gpu_memory_gib=gpu_memory_gib,
            folder=out.parent,
        )
    draw(tagged[dataset], settings["cutoff_len"], picture)
    files.write_json(out, found)


def check_torch(version: str) -> None:
    if version.startswith(SLOW_TORCH):
        raise files.UserError(
            f"torch {version} cuts images into patches 10 to 20 times as slowly as others (its Conv3D); install the "
            "version that envs/torch.lock.txt pins."
        )


def check_dtype(settings: dict[str, Any], on_gpu: bool, has_bf16: bool) -> None:
    if not (settings.get("bf16") or settings.get("pure_bf16")):
        return
    if on_gpu and not has_bf16:
        raise files.UserError(
            "training.bf16 is true, but this GPU has no bfloat16; set bf16: false and fp16: true, or use a newer one "
            "(compute capability 8.0)."
        )
    if not on_gpu and not settings.get("use_cpu"):
        raise files.UserError(
            "training.bf16 is true, but torch sees no GPU here; set bf16: false, or use_cpu: true to train on the CPU."
        )


def check_arguments(settings: dict[str, Any], train_yaml: str) -> None:
    """Raises UserError for a setting that LLaMA-Factory's own parser does not know, or does not take in the file."""
    from llamafactory.hparams.parser import _TRAIN_ARGS, get_train_args
    from transformers import HfArgumentParser

    known = [field.name for part in _TRAIN_ARGS for field in fields(part)]
    for key in settings:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0)
            raise files.UserError(f"training.{key} is no argument of LLaMA-Factory; did you mean {near[0]}?")
    arguments = yaml.safe_load(train_yaml)
    parse = HfArgumentParser(_TRAIN_ARGS).parse_dict if _distributed(settings) else get_train_args

    def refusal(left_out: str = "") -> str:
        try:
            parse({key: value for key, value in arguments.items() if key != left_out})
        except (ValueError, AssertionError, ImportError) as error:
            return " ".join(str(error).split())
        return ""

    if words := refusal():
        key = next((f".{key}" for key in settings if not refusal(key)), "")  # the parser itself seldom names it
        raise files.UserError(f"training{key}: LLaMA-Factory refuses it: {words}")


def _distributed(settings: dict[str, Any]) -> bool:
    """Whether LLaMA-Factory refuses the settings in a single process."""
    return bool(settings.get("deepspeed") or settings.get("fsdp"))


def check_template(template: str | None, model_type: str, processor: Any) -> None:
    """A model that thinks begins its answers so: what its own chat template opens an answer with tells which it is."""
    if model_type not in TEMPLATES:
        return
    turn = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
    if "<think>" in processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False):
        raise files.UserError(
            f"model: this {model_type} begins its answers with a thought, which would be scored as a part of them; "
            "take its Instruct model."
        )
    if template != TEMPLATES[model_type]:
        raise files.UserError(
            f"training.template is {template}, but this {model_type} answers without a thought: set template: "
            f"{TEMPLATES[model_type]}."
        )


def image_tokens(
    sizes: dict[str, tuple[int, int]], processor: Any, settings: dict[str, Any], prediction: dict[str, Any]
) -> dict[str, int]:
    """Tokens of each image. Raises UserError where prediction would see another number of them than training."""
    names = ("image_max_pixels", "image_min_pixels")
    limits = [{name: given[name] for name in names} for given in (settings, prediction)]
    counts = {
        size: [lengths.image_tokens(size, processor, **limit) for limit in limits] for size in set(sizes.values())
    }
    for image, size in sizes.items():
        trained, predicted = counts[size]
        if trained != predicted:
            raise files.UserError(
                f"{image} ({size[0]}x{size[1]} px) is {trained} tokens in training and {predicted} in prediction; give "
                f"both the same {' and '.join(names)}."
            )
    return {image: counts[size][0] for image, size in sizes.items()}


def check_cutoff(
    settings: dict[str, Any], records: dict[str, list[dict[str, Any]]], samples: dict[str, list[lengths.Sample]]
) -> None:
    """Raises UserError where LLaMA-Factory would cut a sample, which it does without a word, or drop it from a pack;
    and where its collator would fill a pack beyond the positions that it made.
    """
    room = lengths.room(settings)
    long = [
        (record["id"], sample.total)
        for name, part in records.items()
        for record, sample in zip(part, samples[name], strict=True)
        if sample.total > room
    ]
    if long:
        count = sum(len(part) for part in samples.values())
        ids = ", ".join(str(id) for id, _ in long[:NAMED]) + (", ..." if len(long) > NAMED else "")
        fits = lengths.padded(max(total for _, total in long) + settings["cutoff_len"] - room)
        raise files.UserError(
            f"training.cutoff_len {settings['cutoff_len']} would cut {len(long)} of {count} samples ({ids}); set "
            f"cutoff_len: {fits}."
        )
    if lengths.packed(settings) and settings["cutoff_len"] % lengths.MULTIPLE:
        raise files.UserError(
            f"training.cutoff_len {settings['cutoff_len']} is not a multiple of {lengths.MULTIPLE}, which "
            f"LLaMA-Factory's packs must be; set cutoff_len: {lengths.padded(settings['cutoff_len'])}."
        )


def training(
    settings: dict[str, Any],
    epoch: dict[str, Any],
    evaluated: int,
    tokens_per_second: float | None,
    price_per_hour: float | None,
) -> dict[str, Any]:
    """Updates and tokens of the whole training, and the tokens that its evaluations see, of `evaluated` each; hours and
    cost where a rate and a price are given. A token of an evaluation counts as one of training, though it takes less.
    """
    steps = settings["max_steps"]
    if steps <= 0:
        steps = math.ceil(settings["num_train_epochs"] * epoch["updates"])
    tokens = round(epoch["tokens"] * steps / epoch["updates"])
    result: dict[str, Any] = {"updates": steps, "epochs": round(steps / epoch["updates"], 4), "tokens": tokens}
    result["evaluations"] = evaluations(settings, steps, epoch["updates"]) if evaluated else 0
    result["evaluation_tokens"] = result["evaluations"] * evaluated
    if tokens_per_second:
        result["hours"] = round((tokens + result["evaluation_tokens"]) / tokens_per_second / 3600, 2)
        if price_per_hour:
            result["cost"] = round(result["hours"] * price_per_hour, 2)
    return result


def evaluations(settings: dict[str, Any], steps: int, updates: int) -> int:
    """How often the validation split's loss is taken in `steps` updates, `updates` an epoch; at the end in any case."""
    every: float = settings.get("eval_steps") or settings.get("logging_steps", 500)
    every = math.ceil(steps * every) if every < 1 else every
    times = {"steps": steps / every, "epoch": steps / updates}.get(settings.get("eval_strategy", "no"), 0)
    return math.ceil(times) + bool(times and settings.get("eval_on_start"))


def _patches(images: list[int], train: list[int], processor: Any, settings: dict[str, Any]) -> int:
    """Patches of the images in one sequence, at most; `images`: the tokens of each sample's images, `train`: of all."""
    most = max(images)
    if lengths.packed(settings):
        most = min(most * (lengths.room(settings) // min(train)), lengths.room(settings))
    return int(most * processor.image_processor.merge_size**2)


def _by_tag(records: list[dict[str, Any]], totals: list[int]) -> dict[str, list[int]]:
    tags: dict[str, list[int]] = {"all": totals} if totals else {}
    for record, total in zip(records, totals, strict=True):
        tags.setdefault(record["tag"], []).append(total)
    return tags


def _sizes(sizes: dict[str, tuple[int, int]], tokens: dict[str, int]) -> list[dict[str, int]]:
    """How many images there are of each size, and their tokens; the most frequent first."""
    counts: dict[tuple[int, int, int], int] = {}
    for image, (width, height) in sizes.items():
        key = (width, height, tokens[image])
        counts[key] = counts.get(key, 0) + 1
    names = ("width", "height", "tokens", "images")
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [dict(zip(names, (*key, count), strict=True)) for key, count in ordered]


def draw(tags: dict[str, list[int]], cutoff: int, path: Path) -> None:
    """A box of the token lengths of each tag: median and quartiles, whiskers to the shortest and the longest."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 1 + 0.4 * len(tags)), layout="constrained")
    axes = figure.subplots()
    axes.boxplot([*tags.values()][::-1], orientation="horizontal", whis=(0, 100), tick_labels=[*tags][::-1])
    axes.axvline(cutoff, color="tab:red", linestyle="--", label=f"cutoff_len {cutoff}")
    axes.set(xlabel="tokens of a training sample, its image's among them", xlim=(0, None))
    axes.grid(axis="x", alpha=0.3)
    axes.legend()
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
