from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from radtune import files
from radtune.config import resolve
from radtune.train import launch, llamafactory

ROOT = Path(__file__).parents[2]
# The arguments of the public write-up's command, by section
REFERENCE: dict[str, dict[str, Any]] = {
    "model": {"image_max_pixels": 589824, "image_min_pixels": 1024},
    "method": {
        "stage": "sft",
        "finetuning_type": "lora",
        "lora_rank": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.1,
        "lora_target": "all",
        "freeze_vision_tower": True,
        "freeze_multi_modal_projector": True,
    },
    "dataset": {"template": "qwen3_vl_nothink", "cutoff_len": 2048},
    "output": {"logging_steps": 500, "save_steps": 5000},
    "train": {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 8,
        "learning_rate": 5e-5,
        "num_train_epochs": 3.0,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.1,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch",
        "bf16": True,
    },
}
SETTINGS = {key: value for section in REFERENCE.values() for key, value in section.items()}


def render(settings: dict[str, Any], **changes: Any) -> str:
    places: dict[str, Any] = {
        "model": Path("base"),
        "adapter": None,
        "dataset_dir": Path("sharegpt"),
        "media_dir": Path("images"),
        "dataset": "train",
        "eval_dataset": "val",
        "output_dir": Path("run"),
    }
    return llamafactory.render(settings, **places | changes)


def sections(text: str) -> dict[str, dict[str, Any]]:
    parts = (part.split("\n", 1) for part in text.removeprefix("### ").split("\n### "))
    return {name: yaml.safe_load(body) for name, body in parts}


def test_each_reference_argument_is_in_reference_yaml_and_reaches_train_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    given = yaml.safe_load(Path("config/reference.yaml").read_text(encoding="utf-8"))
    assert given["training"] == SETTINGS
    found = sections(render(resolve(given)["experiments"]["reference"]["training"], adapter=Path("seed")))
    for name, expected in REFERENCE.items():
        assert expected.items() <= found[name].items()
    places = {"model_name_or_path": "base", "adapter_name_or_path": "seed"}
    assert found["model"].items() >= places.items()
    assert found["method"]["do_train"] is True
    assert found["dataset"].items() >= {"dataset": "train", "dataset_dir": "sharegpt", "media_dir": "images"}.items()
    assert found["output"].items() >= {"output_dir": "run", "report_to": "none", "save_only_model": False}.items()
    assert found["eval"]["eval_dataset"] == "val"


def test_an_unknown_argument_passes_at_the_end() -> None:
    found = sections(render(SETTINGS | {"galore_rank": 4}))
    assert list(found)[-1] == "other"
    assert found["other"] == {"galore_rank": 4}


def test_without_adapter_and_evaluation_neither_is_written() -> None:
    parsed = yaml.safe_load(render({}, eval_dataset=None))
    assert "adapter_name_or_path" not in parsed
    assert "eval_dataset" not in parsed
    assert yaml.safe_load(render({}, adapter=Path("seed")))["adapter_name_or_path"] == "seed"


VALUES = st.floats(1e-12, 1e12) | st.booleans() | st.text("a1: #-\n'[{%&*", max_size=6)


@given(st.dictionaries(st.sampled_from(sorted(SETTINGS)), VALUES, max_size=5))
def test_the_yaml_parses_back(settings: dict[str, Any]) -> None:
    assert settings.items() <= yaml.safe_load(render(settings)).items()


@pytest.mark.parametrize("key", ["output_dir", "overwrite_output_dir", "dataset"])
def test_a_setting_that_is_not_the_callers_is_refused(key: str) -> None:
    with pytest.raises(files.UserError, match=key):
        render({key: "x"})


def test_a_new_adapter_on_top_of_another_is_refused() -> None:
    with pytest.raises(files.UserError, match="create_new_adapter"):
        render({"create_new_adapter": True}, adapter=Path("seed"))


def test_summary_and_log_take_each_step_once(tmp_path: Path) -> None:
    history = [
        {"step": 2, "epoch": 0.5, "loss": 3.0, "learning_rate": 1e-3, "grad_norm": 1.0},
        {"step": 4, "epoch": 1.0, "loss": 1.0, "learning_rate": 1e-3, "grad_norm": 1.0},
        {"step": 4, "epoch": 1.0, "eval_loss": 0.9, "eval_runtime": 1.0},
        {"step": 6, "epoch": 1.5, "loss": 2.0, "learning_rate": 1e-3, "grad_norm": 1.0},
        {"step": 6, "epoch": 1.5, "train_loss": 2.0, "train_runtime": 12.5},
    ]
    state = {"global_step": 6, "max_steps": 6, "epoch": 1.5, "log_history": history}
    files.write_json(tmp_path / "trainer_state.json", state)
    log = llamafactory.read_log(tmp_path)
    assert [(row["step"], row.get("loss"), row.get("eval_loss")) for row in log] == [
        (2, 3.0, None),
        (4, 1.0, 0.9),
        (6, 2.0, None),
    ]
    summary = llamafactory.summary(tmp_path)
    assert summary["loss"] == {"final": 2.0, "final_step": 6, "best": 1.0, "best_step": 4}
    assert summary["eval_loss"] == {"final": 0.9, "final_step": 4, "best": 0.9, "best_step": 4}
    assert (summary["steps"], summary["epochs"], summary["runtime"]) == (6, 1.5, 12.5)


@pytest.mark.parametrize(
    ("log", "code", "reason"),
    [
        ("x\nValueError: Some keys are not used: ['learning_rat']\n", 1, "Some keys are not used: ['learning_rat']"),
        ("[rank0]: torch.OutOfMemoryError: CUDA out of memory.\nChildFailedError: \n", 1, "CUDA out of memory."),
        ("torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n", 1, "exit status 1, see its log."),
        ("", -9, "killed by SIGKILL (often: out of memory)."),
    ],
)
def test_the_last_error_is_the_reason(log: str, code: int, reason: str) -> None:
    assert launch._reason(log, code) == reason


STATE = ("trainer_state.json", "{}")
SCHEDULER = ("scheduler.pt", "")


@pytest.mark.parametrize(
    ("held", "whole"),
    [
        ([STATE, SCHEDULER, ("optimizer.pt", "")], True),
        ([STATE, SCHEDULER, ("optimizer.bin", "")], True),  # FSDP, in one file
        ([STATE, SCHEDULER, ("optimizer_0/__0_0.distcp", "")], True),  # FSDP, in shards
        ([STATE, ("global_step6/mp_rank_00_model_states.pt", "")], True),  # DeepSpeed
        ([], False),
        ([STATE, SCHEDULER], False),
        ([STATE, ("optimizer.pt", "")], False),
        ([SCHEDULER, ("optimizer.pt", "")], False),
        ([("trainer_state.json", '{"ep'), SCHEDULER, ("optimizer.bin", "")], False),
        ([SCHEDULER, ("optimizer_0/__0_0.distcp", "")], False),
        ([("global_step6/mp_rank_00_model_states.pt", "")], False),
    ],
)
def test_only_half_written_checkpoints_are_removed(tmp_path: Path, held: list[tuple[str, str]], whole: bool) -> None:
    checkpoint = tmp_path / "checkpoint-6"
    checkpoint.mkdir()
    for name, text in [("adapter_model.safetensors", ""), *held]:
        files.write_text(checkpoint / name, text)
    launch._remove_broken_checkpoints(tmp_path)
    assert checkpoint.exists() is whole


@pytest.mark.parametrize(
    ("settings", "before", "why"),
    [
        ({"num_train_epochs": 5, "lr_scheduler_type": "constant"}, {"num_train_epochs": 3.0}, ""),
        ({"max_steps": 9, "lr_scheduler_type": "constant", "warmup_ratio": 0.1}, {"max_steps": 8}, ""),
        ({"max_steps": 9, "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 5}, {"max_steps": 8}, ""),
        ({"max_steps": 9, "lr_scheduler_type": "inverse_sqrt", "warmup_ratio": 0.1}, {"max_steps": 8}, "warmup_steps"),
        ({"num_train_epochs": 5, "lr_scheduler_type": "cosine"}, {"num_train_epochs": 3.0}, "cosine"),
        ({"num_train_epochs": 5}, {"num_train_epochs": 3.0}, "linear"),
        ({"num_train_epochs": 2, "lr_scheduler_type": "constant"}, {"num_train_epochs": 3.0}, "less"),
        ({"max_steps": 9, "lr_scheduler_type": "constant"}, {"num_train_epochs": 1.0}, "do not compare"),
        ({"lr_scheduler_type": "cosine"}, {"num_train_epochs": 3.0}, ""),
    ],
)  # fmt: skip
def test_a_run_is_trained_on_only_where_its_schedule_allows(settings: Any, before: Any, why: str) -> None:
    found = llamafactory.why_anew(settings, before)
    assert why in found
    assert bool(why) == bool(found)


def test_a_run_that_cannot_be_trained_on_is_emptied_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def there() -> set[str]:
        return {path.name for path in tmp_path.iterdir()}

    def prepare(epochs: float, schedule: str) -> str:
        launch._prepare(tmp_path, {"num_train_epochs": epochs, "lr_scheduler_type": schedule})
        return capsys.readouterr().err

    (tmp_path / "lock").touch()
    assert prepare(1, "cosine") == ""
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "trainer_state.json").write_text("{}")
    assert "now asked for num_train_epochs 2; trains only what is missing." in prepare(2, "constant")
    assert there() == {"lock", "length.json", "checkpoint-1"}
    assert prepare(2, "cosine") == ""
    (tmp_path / "adapter_model.safetensors").touch()
    assert "starts anew: lr_scheduler_type cosine" in prepare(3, "cosine")
    assert there() == {"lock", "length.json"}
    assert "starts anew: it kept no checkpoint" in prepare(4, "constant")
    (tmp_path / "adapter_model.safetensors").touch()  # killed in the midst of writing the last files
    assert prepare(4, "constant") == ""
    assert there() == {"lock", "length.json"}
