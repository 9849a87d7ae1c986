"""The check before training, held against LLaMA-Factory itself: its token ids, its packs, and the memory it takes."""

from __future__ import annotations

import gc
import math
import os
import random
import shutil
import string
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from running import ROOT
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from radtune import files, gpu
from radtune.predict import generate
from radtune.train import budget, fit, lengths, memory, tiny, trial

sys.path.append(str(ROOT / "bench"))
from gpu import TEXT, VISION, grown

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
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked worker would wait for ever for threads that earlier tests made in this process
    try:
        found = get_dataset(template, model_args, data_args, training_args, stage="sft", **loaded)
    finally:
        torch.set_num_threads(threads)
    return [list(ids) for ids in found["train_dataset"]["input_ids"]]


def measured(data: Path) -> list[int]:
    processor = AutoProcessor.from_pretrained(data / "tiny")
    records = files.read_json(data / "train.json")
    sizes = lengths.image_sizes(records, data)
    tokens = budget.image_tokens(sizes, processor, LIMITS, LIMITS)
    return [sample.total for sample in lengths.measure(records, processor, tokens)]


def test_lengths_are_those_of_the_trainers_own_encoding(data: Path, tmp_path: Path) -> None:
    ours = measured(data)
    assert ours == [len(ids) for ids in encoded(data, tmp_path)]
    assert len(set(ours)) > 20


def test_packs_are_the_trainers_own(data: Path, tmp_path: Path) -> None:
    packed = encoded(data, tmp_path, neat_packing=True)
    ours = lengths.packs(measured(data), SETTINGS | {"neat_packing": True})
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

        gc.collect()  # what an earlier test left would be counted as it goes
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
    {"per_device_train_batch_size": 12, "lora_rank": 4},
    {"neat_packing": True, "per_device_train_batch_size": 2},
    {"neat_packing": True, "cutoff_len": 1024, "per_device_train_batch_size": 1} | DENSE,
    {"bf16": True, "use_cpu": True} | DENSE,
    {"freeze_vision_tower": False} | DENSE,
    {"model": "wide"},  # more layers, heads and width
]


@pytest.fixture
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate remembers, in the process and in its environment, a precision that was asked for once."""
    from accelerate.state import AcceleratorState

    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("changed", SHAPES, ids=str)
def test_the_estimate_is_near_what_the_trainer_takes(data: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    settings = SETTINGS | changed
    model = data / settings.pop("model", "tiny")
    records, totals = files.read_json(data / "train.json"), measured(data)
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
    assert expected == pytest.approx(watch.bytes, rel=fit.TOLERANCE)


def test_the_8b_job_on_a_24_gb_card(tmp_path: Path) -> None:
    from transformers import Qwen3VLConfig

    Qwen3VLConfig(text_config=TEXT, vision_config=VISION, dtype="bfloat16").save_pretrained(tmp_path)
    settings = {"bf16": True, "lora_rank": 8, "gradient_accumulation_steps": 8, "per_device_train_batch_size": 2}
    parts = memory.estimate(tmp_path, settings, batch=2, length=2048, patches=2 * 784)
    gib = {part: size / gpu.GIB for part, size in parts.items()}
    assert gib["weights"] == pytest.approx(16.33, abs=0.01)
    assert parts["adapter"] == 4 * 8 * 36 * (
        2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 12288)
    )  # q o, k v, mlp
    assert parts["optimiser"] == 2 * parts["adapter"] == 2 * parts["gradients"]
    logits = 2 * 2048 * 151936 / gpu.GIB  # in fp32 once for the loss, once for its gradient, once for accelerate
    assert gib["logits"] == pytest.approx(3 * 4 * logits, rel=0.01)
    assert 24 < gib["total"] < 27


def linear(*shapes: tuple[int, int]) -> int:
    """Bytes of such weights at 4 bits, with a scale of 8 bits for 64 of them and another in fp32 for 256 scales."""
    return sum(math.ceil(rows * columns * (1 / 2 + 1 / 64 + 4 / (64 * 256))) for rows, columns in shapes)


def test_the_8b_model_at_4_bits_and_in_prediction(tmp_path: Path) -> None:
    from transformers import Qwen3VLConfig

    Qwen3VLConfig(text_config=TEXT, vision_config=VISION, dtype="bfloat16").save_pretrained(tmp_path)
    with FakeTensorMode():
        whole = memory.weights(loaded := memory._build(tmp_path, {}), {})
        quarter = memory.weights(loaded, {"quantization_bit": 4})
    layer = [(4096, 4096), (4096, 1024), (4096, 1024), (4096, 4096), *[(4096, 12288)] * 3]  # q, k, v, o, mlp
    block = [(1152, 3456), (1152, 1152), (1152, 4304), (1152, 4304)]
    mergers = [(4608, 4608), (4608, 4096)] * 4  # one at the end of the tower, three on the way
    linears = [*layer * 36, *block * 27, *mergers]
    assert whole - quarter == sum(2 * rows * columns for rows, columns in linears) - linear(*linears)
    assert quarter / gpu.GIB == pytest.approx(6.0, abs=0.3)  # of 16.3; embeddings and output layer stay in bf16

    parts = memory.prediction(tmp_path, 1000, on_gpu=True)
    assert parts["weights"] == whole
    assert parts["cache"] == 1000 * 147456  # keys and values of 36 layers, 8 heads of 128, two bytes each
    assert parts["total"] == whole + 147_456_000 + gpu.CONTEXT
    assert "advice" not in fit.predicting(tmp_path, 1000, True, 24)
    advice = fit.predicting(tmp_path, 1000, True, 12)["advice"]
    assert advice.startswith(
        "prediction takes 17.0 GiB for a single prompt, of 1000 tokens with its answer, limits.gpu_"
    )


def test_the_measurement_on_a_gpu_builds_the_8b_architecture(data: Path, tmp_path: Path) -> None:
    config = grown(files.read_json(data / "tiny" / "config.json"))
    files.write_json(tmp_path / "config.json", config)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(tmp_path))
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(8.767e9, rel=1e-4)
    assert config["image_token_id"] == AutoProcessor.from_pretrained(data / "tiny").image_token_id


def test_what_is_advised_fits_and_a_close_call_is_no_error(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = SETTINGS | {"per_device_train_batch_size": 12, "disable_gradient_checkpointing": True}
    shape = {"batch": 12, "length": 176, "patches": 12 * 48}
    total = memory.estimate(data / "tiny", settings, **shape)["total"] / gpu.GIB
    assert "advice" not in fit.check_memory(data / "tiny", settings, shape, total * 1.06)
    close = fit.check_memory(data / "tiny", settings, shape, total * 1.02)
    assert close["advice"].endswith("it may not fit; what would: disable_gradient_checkpointing: False")
    assert close["advice"] in capsys.readouterr().err
    less = settings | {"disable_gradient_checkpointing": False, "gradient_accumulation_steps": 6}
    fits = memory.estimate(data / "tiny", less, batch=4, length=176, patches=4 * 48)["total"] / gpu.GIB
    words = r"disable_gradient_checkpointing: False, per_device_train_batch_size: 4, gradient_accumulation_steps: 6\.$"
    with pytest.raises(files.UserError, match="set training " + words):
        fit.check_memory(data / "tiny", settings, shape, fits * 1.001)
    with pytest.raises(files.UserError, match=r"take a smaller model\.$"):
        fit.check_memory(data / "tiny", settings, shape, 0.5)


def preflight(
    data: Path,
    out: Path,
    *,
    prediction: Any = LIMITS,
    eval_dataset: str | None = "val",
    training_gpus: int = 1,
    **settings: Any,
) -> dict[str, Any]:
    places = {"model": data / "tiny", "dataset_dir": data, "media_dir": data, "dataset": "train"}
    rate = {"tokens_per_second": 100, "price_per_hour": 2.5}
    results = {"out": out / "preflight.json", "picture": out / "preflight.png"}
    call = {
        **places,
        **rate,
        **results,
        "eval_dataset": eval_dataset,
        "prompts": [data / "val.json"],
        "prediction": prediction,
        "max_new_tokens": 40,
        "training_gpus": training_gpus,
    }
    budget.preflight(SETTINGS | settings, **call)
    return files.read_json(results["out"])


def test_what_is_found_is_written_down(data: Path, tmp_path: Path) -> None:
    found = preflight(data, tmp_path)
    totals = measured(data)
    assert found["tokens"]["train"]["all"]["max"] == max(totals)
    assert found["tokens"]["train"]["CAPTION"]["count"] + found["tokens"]["train"]["OBSERVATION"]["count"] == 61
    assert found["tokens"]["val (prompt)"]["all"]["max"] < found["tokens"]["val"]["all"]["max"]
    assert {"width": 224, "height": 224, "tokens": 9, "images": 1} in found["image_tokens"]
    assert found["epoch"]["updates"] == 8  # 61 samples, 4 a batch, 2 batches an update
    assert found["training"]["tokens"] == 3 * sum(totals)
    assert found["training"]["hours"] == pytest.approx(3 * sum(totals) / 100 / 3600, abs=0.01)
    assert found["training"]["cost"] == pytest.approx(2.5 * found["training"]["hours"], abs=0.01)
    assert 0 < found["epoch"]["padding"] < 1
    assert found["memory"]["limit_gib"] is None
    assert (found["training"]["evaluations"], found["training"]["evaluation_tokens"]) == (0, 0)
    assert found["prediction"]["tokens"] == found["tokens"]["val (prompt)"]["all"]["max"] + 40
    assert found["prediction"]["estimate_gib"]["total"] > 0.5
    with Image.open(tmp_path / "preflight.png") as picture:
        assert picture.width > 500


def test_where_max_samples_are_taken_only_those_count(data: Path, tmp_path: Path) -> None:
    totals = measured(data)[:20]
    assert sorted(totals) == sorted(map(len, encoded(data, tmp_path / "theirs", max_samples=20)))
    found = preflight(data, tmp_path, max_samples=20)
    assert (found["epoch"]["sequences"], found["epoch"]["updates"]) == (20, 3)
    assert found["training"]["tokens"] == 3 * sum(totals)
    assert found["tokens"]["val"]["all"]["count"] == 7


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"cutoff_len": 64},
            r"cutoff_len 64 would cut \d\d of 68 samples \(train\d+, .*, \.\.\.\); set cutoff_len: \d+\.$",
        ),
        (
            {"neat_packing": True, "cutoff_len": 515},
            r"cutoff_len 515 is not a multiple of 8, .*; set cutoff_len: 520\.$",
        ),
        (
            {"template": "qwen3_vl"},
            "template is qwen3_vl, but this qwen3_vl answers without a thought: set template: qwen3",
        ),
        (
            {"learning_rat": 1},
            r"^training\.learning_rat is no argument of LLaMA-Factory; did you mean learning_rate\?$",
        ),
        (
            {"lr_scheduler_type": "cosin"},
            r"^training\.lr_scheduler_type: LLaMA-Factory refuses it: cosin is not a valid",
        ),
        (
            {"streaming": True},
            r"^training\.streaming: LLaMA-Factory refuses it: Please specify `max_steps` in streaming",
        ),
        ({"load_best_model_at_end": True}, r"^training\.load_best_model_at_end: LLaMA-Factory refuses it: .* to match"),
        (
            {"default_system": "You are a radiologist."},
            "default_system: remove it, prediction asks without a system turn",
        ),
        ({"bf16": True}, "bf16 is true, but torch sees no GPU here; set bf16: false"),
        (
            {"prediction": LIMITS | {"image_max_pixels": 64 * 64}},
            r"1\.png \(256x192 px\) is 12 tokens in training and \d in prediction; give both the same image_max_pixels",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(data: Path, tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(files.UserError, match=words) as caught:
        preflight(data, tmp_path, **changed)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("packing", [False, True])
def test_the_trainer_cuts_nothing_where_the_check_says_nothing(data: Path, tmp_path: Path, packing: bool) -> None:
    most = max(measured(data))
    pad = AutoProcessor.from_pretrained(data / "tiny").tokenizer.pad_token_id
    cuts = most - 1 + packing  # a pack has room for one token less than its cutoff
    for cutoff, longest in ((cuts, most - 1), (cuts + 1, most)):
        settings = {"cutoff_len": cutoff, "neat_packing": packing}
        theirs = encoded(data, tmp_path, preprocessing_batch_size=1, **settings)
        assert max(sum(token != pad for token in ids) for ids in theirs) == longest
        if longest == most and not (packing and cutoff % 8):
            preflight(data, tmp_path, eval_dataset=None, **settings)
        else:
            cut = r"would cut 1 of 61 samples \(train\d+\)" if longest < most else "is not a multiple of 8, .*"
            with pytest.raises(files.UserError, match=rf"{cut}; set cutoff_len: {fits(most, packing)}\.$"):
                preflight(data, tmp_path, eval_dataset=None, **settings)


def fits(most: int, packing: bool) -> int:
    return next(n for n in range(most + packing, most + 9) if n % 8 == 0)


def test_a_model_that_thinks_is_refused(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "tiny", tmp_path / "thinking")
    (tmp_path / "thinking" / "chat_template.jinja").write_text(
        tiny.CHAT_TEMPLATE.replace("<|im_start|>assistant\\n", "<|im_start|>assistant\\n<think>\\n")
    )
    processor = AutoProcessor.from_pretrained(tmp_path / "thinking")
    for template in ("qwen3_vl", "qwen3_vl_nothink"):
        with pytest.raises(files.UserError, match=r"begins its answers with a thought, .*; take its Instruct model\.$"):
            budget.check_template(template, "qwen3_vl", processor)


def test_on_a_gpu_the_longest_sample_is_tried(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two devices replaced by the CPU, of which it uses one and training both: the rest is what runs on a GPU."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path.parent))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr("torch.cuda.device_count", lambda: os.environ["CUDA_VISIBLE_DEVICES"].count(",") + 1)
    monkeypatch.setattr(gpu, "check", lambda gpus, memory_gib: torch.cuda.device_count())
    monkeypatch.setattr(gpu, "cap", lambda memory_gib, device: None)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: True)
    found = preflight(data, tmp_path, training_gpus=2, eval_strategy="epoch")
    assert found["trial"]["seconds"] > 0
    assert found["epoch"]["updates"] == 4  # 31 samples each, 4 a batch, 2 batches an update
    assert found["training"]["evaluations"] == 3
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["preflight.json", "preflight.png"]


@pytest.mark.parametrize(("side", "tokens"), [(448, 196), (512, 256), (96, 64)])
def test_a_picture_is_as_many_tokens_as_the_hubs_processor_makes_of_it(
    data: Path, tmp_path: Path, side: int, tokens: int
) -> None:
    """In the check and in prediction alike; the hub's enlarges what has fewer than 65536 pixels."""
    processor = AutoProcessor.from_pretrained(data / "tiny")
    processor.image_processor.size = {"shortest_edge": 65536, "longest_edge": 16777216}
    limits = {"image_max_pixels": 589824, "image_min_pixels": 1024}
    Image.new("L", (side, side), 90).save(tmp_path / "image.png")
    assert lengths.image_tokens((side, side), processor, **limits) == tokens
    record = files.read_json(data / "val.json")[0] | {"images": ["image.png"]}
    ids = generate.encode(processor, record, tmp_path, **limits)["input_ids"]
    assert int((ids == processor.image_token_id).sum()) == tokens
