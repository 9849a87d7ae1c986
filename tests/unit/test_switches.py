"""What each switch did: whom an experiment is held against, what differs, and which way its effect goes."""

from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from radtune.config import resolve
from radtune.report.switches import switches

TRAINING = {"num_train_epochs": 2, "learning_rate": 1e-4}


def experiment(**settings: Any) -> dict[str, Any]:
    return {"images": "enhanced", "training": TRAINING, "init_adapter": None, "dataset": repr(settings)} | settings


def difference(of: str, minus: str, value: float, better: str | None, **rest: Any) -> dict[str, Any]:
    found = {"split": "test", "metric": "rouge_l", "of": of, "minus": minus, "value": value, "p": 0.01}
    return found | {"interval": [value - 1, value + 2], "better": better} | rest


SETTINGS = {
    "images": {"enhanced": {"size": 224, "clahe": {"clip_limit": 2.0}}, "plain": {"size": 224, "clahe": None}},
    "experiments": {
        "base": experiment(training=None),
        "lora": experiment(),
        "plain": experiment(images="plain"),
        "longer": experiment(images="plain", training=TRAINING | {"num_train_epochs": 3}),
    },
}
ALL = [difference(*pair, 5, pair[0]) for pair in (("lora", "base"), ("plain", "base"), ("plain", "lora"))]


def test_an_experiment_is_held_against_the_most_alike_of_those_before_it() -> None:
    pairs = [("lora", "base"), ("plain", "base"), ("plain", "lora"), ("longer", "base"), ("longer", "lora")]
    found = switches(SETTINGS, [difference(*pair, 5, pair[0]) for pair in [*pairs, ("longer", "plain")]], "test", {})
    assert [(row["experiment"], row["against"]) for row in found] == [
        ("lora", "base"),
        ("plain", "lora"),
        ("longer", "plain"),
    ]
    training, clahe, epochs = (row["what"] for row in found)
    assert [key for key, *_ in training] == ["training"]
    assert training[0][1] == "none"
    assert clahe == [("images.clahe", '{"clip_limit": 2.0}', "none")]
    assert epochs == [("training.num_train_epochs", "2", "3")]


def test_a_difference_taken_the_other_way_round_is_turned() -> None:
    turned = switches(SETTINGS, [difference("lora", "plain", 5, "lora")], "test", {})
    assert [(row["experiment"], row["against"]) for row in turned] == [("plain", "lora")]
    effect = turned[0]["effects"]["rouge_l"]
    assert (effect["value"], effect["interval"], effect["says"]) == (-5, [-7, -4], "worse")
    assert switches(SETTINGS, [difference("plain", "lora", 5, None)], "test", {})[0]["effects"]["rouge_l"]["says"] == (
        "no difference shown"
    )


def test_a_tuned_one_is_held_against_a_tuned_one_however_many_arguments_differ() -> None:
    more = TRAINING | {"num_train_epochs": 3, "learning_rate": 1e-5, "seed": 1}
    experiments = SETTINGS["experiments"] | {"plain": experiment(training=more)}
    settings = SETTINGS | {"experiments": experiments}
    assert [row["against"] for row in switches(settings, ALL, "test", {})] == ["base", "lora"]


def test_an_experiment_with_cases_is_held_against_copying_them_too() -> None:
    copied = {"value": 40.0, "n": 9, "interval": [30, 50], "lift": 4.0, "lift_interval": [1.0, 7.0], "better": True}
    missed = copied | {"lift": 0.2, "lift_interval": [0.1, 0.3], "better": False}
    floors = {"rouge_l": {"floors": {"copied": copied}}, "findings_missed": {"floors": {"copied": missed}}}
    scores = {"lora": {"rouge_l": {"floors": {"nearest": copied}}}, "plain": floors | {"iou": {"floors": {}}}}
    first, second, third = switches(SETTINGS, ALL, "test", scores)
    assert [first["against"], second["against"]] == ["base", "lora"]
    assert (third["experiment"], third["against"], third["what"]) == ("plain", "nearest case, copied", [])
    effects = {metric: effect for metric, effect in third["effects"].items() if effect}
    assert effects == {
        "rouge_l": {"value": 4.0, "interval": [1.0, 7.0], "says": "better"},
        "findings_missed": {"value": 0.2, "interval": [0.1, 0.3], "says": "worse"},
    }


def test_another_split_and_experiments_without_scores_say_nothing() -> None:
    assert switches(SETTINGS, [difference("plain", "lora", 5, None, split="validation")], "test", {}) == []
    assert switches({}, [], "test", {}) == []


def test_each_wish_is_held_against_the_tuned_model_in_what_it_switches() -> None:
    given: dict[str, Any] = {}
    for name in ("config.yaml", "wishes.yaml", "rewritten.yaml"):
        layer = yaml.safe_load(Path("config", name).read_text(encoding="utf-8"))
        given = given | layer | {"experiments": given.get("experiments", {}) | layer["experiments"]}
    settings = resolve(given)
    pairs = combinations(settings["experiments"], 2)
    found = switches(settings, [difference(of, minus, 5, None) for minus, of in pairs], "test", {})
    assert [row["experiment"] for row in found] == [name for name in settings["experiments"] if name != "base"]
    switched = {row["experiment"]: {key for key, *_ in row["what"]} for row in found}
    assert {row["against"] for row in found} == {"base", "lora"}
    assert switched["longer"] == {"training.num_train_epochs"}
    assert switched["worded"] == {"prompts.wordings"}
    assert switched["constrained"] == {"prompts.constraint"}
    assert switched["cases"] == switched["cases_later"] == {"retrieval.used_in"}
    assert switched["valid"] == {"generation.valid_records"}
    assert switched["dropped"] == {"cleaning.action", "cleaning.kinds"}
    assert switched["rewritten"] >= {"cleaning.action", "cleaning.rewrite.base_url"}
