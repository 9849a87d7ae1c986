"""The check before training, held against LLaMA-Factory itself: its token ids, its packs, and the memory it takes."""

from __future__ import annotations

import random
import string
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from radtune import files
from radtune.train import budget, lengths, memory, tiny, trial

pytestmark = pytest.mark.slow
LIMITS = {"image_max_pixels": 128 * 96, "image_min_pixels": 64 * 64}
SIZES = [(64, 64), (256, 192), (48, 40), (20, 90), (224, 224)]  # as they are, shrunk, enlarged, narrower than 28 px
SETTINGS: dict[str, Any] = {
    **LIMITS,
    "template": "qwen3_vl_nothink",
    "finetuning_type": "lora",
    "lora_rank": 8,
    "lora_alpha": 16,
    "lora_dropout": 0.1,
    "freeze_vision_tower": True,
    "freeze_multi_modal_projector": True,
    "cutoff_len": 512,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "num_train_epochs": 3.0,
    "preprocessing_num_workers": 2,
    "preprocessing_batch_size": 16,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A media folder, ShareGPT files train and val with answers of many lengths, and a tiny model in tiny/."""
    root = tmp_path_factory.mktemp("budget")
    rng = random.Random(0)
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    columns = {"messages": "messages", "images": "images"}
    info = {}
    for n, size in enumerate(SIZES):
        Image.new("L", size, 90).save(root / f"{n}.png")
    for split, count in (("train", 61), ("val", 7)):
        records = []
        for n in range(count):
            words = (
                "".join(rng.choices(string.ascii_lowercase, k=rng.randint(1, 8))) for _ in range(rng.randint(1, 60))
            )
            answer = rng.choice(
                ["", "左边有一个斑点。", '{"bbox_2d": [1, 20, 300, 999]}\n', "<think>\nso\n</think>\n\n"]
            )
            turns = [("user", f"<image>{rng.choice(['What is it?', '亮斑在左边还是右边？'])}")]
            turns.append(("assistant", answer + " ".join(words)))
            messages = [{"role": role, "content": content} for role, content in turns]
            images = [f"{rng.randrange(len(SIZES))}.png"]
            tag = rng.choice(["CAPTION", "OBSERVATION"])
            records.append({"id": f"{split}{n}", "tag": tag, "group": str(n), "messages": messages, "images": images})
        files.write_json(root / f"{split}.json", records)
        info[split] = {"file_name": f"{split}.json", "formatting": "sharegpt", "columns": columns, "tags": tags}
    files.write_json(root / "dataset_info.json", info)
    tiny.build(root / "tiny", [root / "train.json"])
    wide = {"hidden_size": 320, "intermediate_size": 640, "num_hidden_layers": 5, "num_attention_heads": 8}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "TEXT_MODEL", tiny.TEXT_MODEL | wide)
        tiny.build(root / "wide", [root / "train.json"])
    return root


def encoded(data: Path, out: Path, **settings: Any) -> list[list[int]]:
    """The token ids of each training sequence by LLaMA-Factory's own loader."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    places = {"model_name_or_path": str(data / "tiny"), "dataset_dir": str(data), "media_dir": str(data)}
    own = {"stage": "sft", "do_train": True, "dataset": "train", "output_dir": str(out), "report_to": "none"}
    arguments = SETTINGS | settings | places | own | {"overwrite_cache": True}
    model_args, data_args, training_args, _, _ = get_train_args(arguments)
    loaded = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(loaded["tokenizer"], data_args)
    found = get_dataset(template, model_args, data_args, training_args, stage="sft", **loaded)
    return [list(ids) for ids in found["train_dataset"]["input_ids"]]


def measured(data: Path, template: str) -> list[int]:
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(data / "tiny")
    records = files.read_json(data / "train.json")
    sizes = lengths.image_sizes(records, data)
    tokens = budget.image_tokens(sizes, processor, LIMITS, LIMITS)
    return [sample.total for sample in lengths.measure(records, processor, tokens, template)]


@pytest.mark.parametrize("template", ["qwen3_vl_nothink", "qwen3_vl"])
def test_lengths_are_those_of_the_trainers_own_encoding(data: Path, tmp_path: Path, template: str) -> None:
    ours = measured(data, template)
    assert ours == [len(ids) for ids in encoded(data, tmp_path, template=template)]
    assert len(set(ours)) > 20


def test_packs_are_the_trainers_own(data: Path, tmp_path: Path) -> None:
    packed = encoded(data, tmp_path, neat_packing=True)
    ours = lengths.packs(measured(data, "qwen3_vl_nothink"), SETTINGS | {"neat_packing": True})
    assert len(packed) == len(ours)
    assert {len(ids) for ids in packed} == {SETTINGS["cutoff_len"]}


class Peak:
    """A trainer's callback that follows torch's allocator on the CPU by its profiler, block by block."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_"):
            return lambda *args, **kwargs: None
        raise AttributeError(name)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any, **kwargs: Any) -> None:
        import torch

        self.held = sum(parameter.nbytes for parameter in model.parameters())
        self.profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True)
        self.profile.start()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self.profile.stop()
        events = [e for e in self.profile.profiler.kineto_results.events() if e.name() == "[memory]"]
        now = most = 0
        for event in sorted(events, key=lambda e: e.start_ns()):
            now += event.nbytes()
            most = max(most, now)
        self.bytes = self.held + most


DENSE = {"disable_gradient_checkpointing": True}
SHAPES: list[dict[str, Any]] = [
    {},
    DENSE,
    {"per_device_train_batch_size": 12, "lora_rank": 4},
    {"neat_packing": True, "per_device_train_batch_size": 2},
    {"neat_packing": True, "cutoff_len": 1024, "per_device_train_batch_size": 1} | DENSE,
    {"bf16": True, "use_cpu": True, "per_device_train_batch_size": 1, "lora_rank": 64} | DENSE,
    {"freeze_vision_tower": False},
    {"model": "wide"},
]


@pytest.mark.parametrize("changed", SHAPES, ids=str)
def test_the_estimate_is_near_what_the_trainer_takes(data: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    from transformers import AutoProcessor

    settings = SETTINGS | changed
    model = data / settings.pop("model", "tiny")
    records, totals = files.read_json(data / "train.json"), measured(data, "qwen3_vl_nothink")
    longest = max(range(len(records)), key=totals.__getitem__)
    info = files.read_json(data / "dataset_info.json")["train"]
    watch = Peak()
    places = {"info": info, "model": model, "media_dir": data, "folder": tmp_path}
    trial.run(settings, records[longest], totals[longest], gpu_memory_gib=None, callbacks=[watch], **places)
    assert not list(tmp_path.iterdir())

    batch, length = settings["per_device_train_batch_size"], lengths.epoch(totals, settings, 1)["longest"]
    size = lengths.image_sizes([records[longest]], data)[records[longest]["images"][0]]
    tokens = lengths.image_tokens(size, AutoProcessor.from_pretrained(model), **LIMITS)
    copies = lengths.room(settings) // totals[longest] if lengths.packed(settings) else 1
    parts = memory.estimate(model, settings, batch=batch, length=length, patches=batch * copies * 4 * tokens)
    expected = parts["total"] - parts["context"]
    print("RATIO", changed, round(expected / watch.bytes, 3))
    assert expected == pytest.approx(watch.bytes, rel=budget.TOLERANCE)
