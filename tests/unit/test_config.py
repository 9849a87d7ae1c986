"""Configs are checked before anything runs, and every problem is one sentence that names the key."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from radtune.config import SCHEMA, resolve
from radtune.files import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "config" / name).read_text())


@pytest.mark.parametrize("name", ["config.yaml", "reference.yaml", "demo.yaml"])
def test_each_shipped_config_is_valid_and_has_the_untuned_base(name: str) -> None:
    config = resolve(load(name))
    assert config["experiments"]["base"]["training"] is None
    assert any(experiment["training"] for experiment in config["experiments"].values())


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"dataset": {"sorce": "local"}}, "dataset.sorce is no known key; did you mean source?"),
        ({"trainning": {}}, "trainning is no known key; did you mean training?"),
        ({"images": {"enhanced": {"clahe": {"clip": 2}}}}, "clahe.clip is no known key; did you mean clip_limit?"),
        ({"experiments": {"lora": {"trainin": {}}}}, "lora.trainin is no known key; did you mean training?"),
        ({"split": {"by": "patient"}}, "split.by is 'patient', not one of group, official."),
        ({"images": {"enhanced": {"size": 450}}}, "images.enhanced.size: 450 is not a multiple of 32."),
        ({"training": {"num_train_epochs": "three"}}, "training.num_train_epochs: 'three' is not of type 'number'."),
        ({"split": {"fractions": {"train": 0.5}}}, "split.fractions sum to 0.6, not 1."),
        ({"dataset": {"source": "local"}}, "dataset.path is missing"),
        ({"dataset": {"source": "local", "path": "no/where"}}, "dataset.path no/where is no folder."),
        ({"model": {"source": "local", "path": "no/model"}}, "model.path no/model is no folder."),
        ({"evaluation": {"embedding": "no/encoder"}}, "evaluation.embedding no/encoder is no folder."),
        ({"dataset": {"source": "local", "path": "s3:/b/set"}}, "dataset.path is not of the form s3://BUCKET/PREFIX"),
        ({"model": {"source": "local", "path": "s3://b/m?X-Amz-Signature=1"}}, "model.path is not of the form s3://"),
        ({"cleaning": {"action": "rewrite"}}, "cleaning.rewrite.base_url is missing; cleaning.action"),
        ({"experiments": {"a": {"cleaning": {"kinds": ["dull"]}}}}, "cleaning.kinds.0 is 'dull', not one of empty"),
        ({"prompts": {"file": "no.yaml"}}, "prompts.file no.yaml is no file."),
        (
            {"generation": {"valid_records": True}, "answers": {"record": "reference"}},
            "generation.valid_records needs answers.record json.",
        ),
        (
            {"generation": {"valid_records": True, "backend": "vllm"}},
            "generation.valid_records needs generation.backend transformers.",
        ),
        ({"experiments": {"lora": {"images": "enhancd"}}}, "experiments.lora.images enhancd is no recipe under images"),
        ({"experiments": {"a": {}, "b": {"init_adapter": "aa"}}}, "aa is no trained experiment; did you mean a?"),
        ({"experiments": {"a": {"init_adapter": "base"}}}, "a.init_adapter base is no trained experiment"),
        ({"experiments": {"a": {"init_adapter": "b"}, "b": {"init_adapter": "a"}}}, "closes a circle: a -> b -> a."),
        ({"experiments": {"a": {}, "b": {"init_adapter": "a", "training": {"lora_rank": 4}}}}, "4 has no effect"),
        ({"experiments": {"base": {"training": {"seed": 1}}}}, "experiments.base is the untuned model"),
        ({"experiments": {"a": {"retrieval": {"used_in": "train"}}}}, "'train', not one of nothing, prediction, train"),
        ({"experiments": {"a": {"retrieval": {"used_in": "training", "encoder": "no/clip"}}}},
         "retrieval.encoder no/clip of experiments.a is no folder, nor `model`; one of a hub, OWNER/NAME, needs"
         " retrieval.encoder_revision."),
        ({"retrieval": {"encoder": "../clip", "encoder_revision": "main"}, "experiments": {"a": {"retrieval": {
            "used_in": "training"}}}}, "retrieval.encoder ../clip of experiments.a is no OWNER/NAME of a hub"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve(config)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_in_object_storage_needs_no_folder_here_and_shows_no_credential() -> None:
    given = {"a": {}, "b": {"model": {"source": "local", "path": "s3://bucket/models/My=Qwen/"}}}
    config = resolve({"dataset": {"source": "local", "path": "s3://bucket/set/"}, "experiments": given})
    found = [config["dataset"], config["experiments"]["b"]["model"]]
    assert [(part["source"], part["repo"]) for part in found] == [
        ("s3", "s3://bucket/set"),
        ("s3", "s3://bucket/models/My=Qwen"),
    ]
    assert config["experiments"]["b"]["model_name"].startswith("My-Qwen-")
    assert config["experiments"]["a"]["model"]["source"] == "huggingface"
    with pytest.raises(UserError) as caught:
        resolve({"dataset": {"source": "local", "path": "s3://key:secret@bucket/set"}})
    assert "secret@" not in str(caught.value)


def test_the_real_job_is_evaluated_once_an_epoch_by_loss_alone_and_keeps_the_best() -> None:
    config = resolve(yaml.safe_load((ROOT / "config" / "config.yaml").read_text()))
    wanted = {
        **{"eval_strategy": "epoch", "prediction_loss_only": True, "per_device_eval_batch_size": 1},
        **{"eval_accumulation_steps": 1, "load_best_model_at_end": True, "early_stopping_steps": 1},
        **{"save_strategy": "epoch", "save_total_limit": 2},  # the trainer wants it to be as evaluation is
    }
    for name in ("lora", "lora_unboxed"):
        training = config["experiments"][name]["training"]
        assert {key: training[key] for key in wanted} == wanted


def test_an_experiment_overrides_only_what_it_names() -> None:
    config = resolve({"experiments": {"a": {}, "b": {"training": {"learning_rate": 1e-3, "my_new_option": 7}}}})
    a, b = config["experiments"]["a"], config["experiments"]["b"]
    assert b["training"] == a["training"] | {"learning_rate": 1e-3, "my_new_option": 7}
    assert a["dataset"] == b["dataset"]
    assert a["model_name"] == b["model_name"]


def test_a_part_of_the_tiny_models_training_keeps_the_rest() -> None:
    tiny = {"source": "tiny", "tiny": {"training": {"num_train_epochs": 2}}}
    whole, part = (resolve({"model": m})["model"]["tiny"]["training"] for m in ({"source": "tiny"}, tiny))
    assert part == whole | {"num_train_epochs": 2}
    assert whole["num_train_epochs"] == 1


def test_an_experiment_that_is_false_is_left_out() -> None:
    assert list(resolve({"experiments": {"a": False, "b": None}})["experiments"]) == ["base", "b"]
    with pytest.raises(UserError, match=r"experiments\.a: "):
        resolve({"experiments": {"a": True}})


def test_a_cleaned_dataset_is_one_of_its_own_and_speed_is_none_of_its_name() -> None:
    how = {"base_url": "http://h/v1", "model": "m"}
    given: dict[str, Any] = {"keep": {"action": "keep", "kinds": ["rare"]}, "drop": {"action": "drop"}}
    for name, more in {
        "rewrite": {},
        "fast": {"concurrency": 99, "price": {"input": 1}},
        "near": {"similarity": 80},
    }.items():
        given[name] = {"action": "rewrite", "rewrite": how | more}
    found = resolve({"experiments": {"lora": {}} | {name: {"cleaning": of} for name, of in given.items()}})[
        "experiments"
    ]
    datasets = {name: of["dataset"] for name, of in found.items()}
    assert datasets["base"] == datasets["lora"] == datasets["keep"]
    assert datasets["rewrite"] == datasets["fast"]
    assert len({datasets[name] for name in ("keep", "drop", "rewrite", "near")}) == 4
    assert found["keep"]["cleaned"] is None
    assert found["rewrite"]["cleaning"]["rewrite"]["prompt"] == "config/prompts/rewrite.yaml"


@pytest.mark.parametrize("url", ["http://me:secret@h/v1", "https://h/v1?key=secret", "h/v1"])
def test_an_address_with_a_credential_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(
        UserError, match=r"rewrite\.base_url is not of the form http://HOST/v1; its key, OPENAI"
    ) as caught:
        resolve({"cleaning": {"action": "rewrite", "rewrite": {"base_url": url, "model": "m"}}})
    assert "secret" not in str(caught.value)


def test_experiments_share_a_dataset_only_where_nothing_in_it_differs() -> None:
    given = {"same": {"generation": {"batch_size": 2}}, "english": {"prompts": {"language": "en"}}}
    given |= {"florence": {"answers": {"box": "florence"}}, "plain": {"images": "plain"}}
    given |= {"varied": {"prompts": {"wordings": None}}, "strict": {"prompts": {"constraint": True}}}
    given |= {"valid": {"generation": {"valid_records": True, "reworded": 0}}}
    config = resolve({"images": {"enhanced": {}, "plain": {"clahe": None}}, "experiments": given})
    datasets = {name: experiment["dataset"] for name, experiment in config["experiments"].items()}
    assert datasets["same"] == datasets["valid"] == datasets["base"]
    assert len(set(datasets.values())) == 6
    assert config["images"]["plain"]["clahe"] is None


def test_cases_make_a_dataset_of_their_own_beside_the_plain_one(tmp_path: Path) -> None:
    given: dict[str, Any] = {"lora": {}, "off": {"retrieval": {"k": 5}}}
    given |= {"cases": {"retrieval": {"used_in": "training"}}, "more": {"retrieval": {"used_in": "training", "k": 3}}}
    given |= {"later": {"retrieval": {"used_in": "prediction"}}}
    given |= {"other": {"retrieval": {"used_in": "training", "encoder": str(tmp_path)}}}
    found = resolve({"experiments": given})["experiments"]
    assert {found[name]["dataset"] for name in ("base", "lora", "off")} == {found["lora"]["plain"]}
    assert found["lora"]["encoder"] is None
    on = ("cases", "more", "later", "other")
    assert {found[name]["plain"] for name in on} == {found["lora"]["plain"]}
    assert len({found[name]["dataset"] for name in on} | {found["lora"]["dataset"]}) == 5
    assert (
        found["cases"]["encoder"] == found["more"]["encoder"] == found["later"]["encoder"] != found["other"]["encoder"]
    )


def test_an_encoder_of_a_hub_has_a_folder_of_its_own_by_name_and_revision() -> None:
    clip = {"used_in": "training", "encoder": "some/clip", "encoder_revision": "main"}
    given = {"a": clip, "same": clip | {"k": 3}, "b": clip | {"encoder_revision": "v2"}}
    given["c"] = clip | {"encoder_source": "modelscope"}
    found = resolve({"experiments": {name: {"retrieval": retrieval} for name, retrieval in given.items()}})
    experiments = found["experiments"]
    assert experiments["a"]["fetched"] == {"source": "huggingface", "repo": "some/clip", "revision": "main"}
    assert experiments["a"]["encoder"] == experiments["same"]["encoder"]
    assert len({experiments[name]["encoder"] for name in given}) == 3
    for name in given:
        assert experiments[name]["encoder"].startswith("clip-")
        assert experiments[name]["retrieval"]["encoder"] == f"results/run/model/{experiments[name]['encoder']}"
    assert experiments["base"]["fetched"] is None


def test_another_pixel_limit_is_another_encoder_and_an_adapter_brings_its_own() -> None:
    small = {"training": {"image_max_pixels": 9216}}
    cases = {"retrieval": {"used_in": "prediction"}}
    given = {"small": small | cases, "large": cases, "again": {"training": None, "init_adapter": "small"} | cases}
    given["untuned"] = {"training": None} | cases
    found = resolve({"experiments": given})["experiments"]
    assert found["again"]["encoder"] == found["small"]["encoder"] != found["large"]["encoder"]
    assert {name: value["adapter"] for name, value in found.items()} == {
        **{"base": None, "small": "small", "large": "large"},
        **{"again": "small", "untuned": None},
    }
    assert found["again"]["pixels"]["image_max_pixels"] == 9216
    assert found["untuned"]["encoder"] == found["large"]["encoder"]


def reference_table() -> str:
    """The table of keys as config/README.md must hold it."""
    schema = yaml.safe_load(SCHEMA.read_text())
    rows = ["| key | default | meaning |", "|---|---|---|"]

    def walk(part: dict[str, Any], path: str) -> None:
        part = schema["$defs"][part["$ref"].split("/")[-1]] | part if "$ref" in part else part
        children = part.get("properties", {})
        if path:
            default = "" if children or "default" not in part else f"`{json.dumps(part['default'])}`"
            values = f" One of {', '.join(part['enum'])}." if "enum" in part else ""
            rows.append(f"| `{path}` | {default} | {part['description']}{values} |")
        for key, child in children.items():
            if not path.startswith("experiments.") or "description" in child:  # overrides are described where they are
                walk(child, f"{path}.{key}" if path else key)
        if isinstance(part.get("additionalProperties"), dict):
            walk({"description": "Named as you like."} | part["additionalProperties"], f"{path}.NAME")

    walk(schema, "")
    return "\n".join(rows)


def test_every_key_is_described_in_the_readme() -> None:
    table = reference_table()
    assert table in (ROOT / "config" / "README.md").read_text(), f"config/README.md needs this table:\n{table}"
