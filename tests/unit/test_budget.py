"""The check before training, as far as it needs no model."""

from typing import Any

import pytest

from radtune.files import UserError
from radtune.train import budget, fit, lengths


@pytest.mark.parametrize(
    ("version", "slow"), [("2.9.0", True), ("2.9.1+cu128", True), ("2.7.1", False), ("2.10.0", False)]
)
def test_a_torch_with_a_slow_convolution_is_refused(version: str, slow: bool) -> None:
    if slow:
        with pytest.raises(UserError, match=r"torch 2\.9.* 10 to 20 times"):
            budget.check_torch(version)
    else:
        budget.check_torch(version)


def test_bf16_wants_a_device_that_has_it() -> None:
    budget.check_dtype({"bf16": True}, True, True)
    budget.check_dtype({"bf16": True, "use_cpu": True}, False, False)
    budget.check_dtype({"fp16": True}, True, False)
    with pytest.raises(UserError, match="this GPU has no bfloat16; set bf16: false and fp16: true"):
        budget.check_dtype({"bf16": True}, True, False)
    with pytest.raises(UserError, match="torch sees no GPU here"):
        budget.check_dtype({"pure_bf16": True}, False, False)


def test_what_is_smaller_keeps_the_effective_batch() -> None:
    settings = {"per_device_train_batch_size": 6, "gradient_accumulation_steps": 4}
    changes = list(fit.smaller(settings | {"disable_gradient_checkpointing": True}))
    assert changes[0] == {"disable_gradient_checkpointing": False}
    assert [change.get("per_device_train_batch_size") for change in changes[1:]] == [3, 2, 1, 1]
    assert {c["per_device_train_batch_size"] * c["gradient_accumulation_steps"] for c in changes[1:]} == {24}
    assert changes[-1]["quantization_bit"] == 4
    assert list(fit.smaller({**settings, "per_device_train_batch_size": 1, "quantization_bit": 4})) == []


def test_the_distribution() -> None:
    expected = {"count": 4, "mean": 13.2, "p50": 2, "p95": 47, "max": 47}
    assert lengths.distribution([3, 47, 2, 1]) == expected
    assert lengths.distribution([*range(1, 101)])["p95"] == 95


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        # batches of 2 from 5 samples of 16 tokens: 3 of them, 2 an update
        ({}, {"sequences": 5, "micro_batches": 3, "updates": 2, "tokens": 80, "padding": 0.0, "longest": 16}),
        # a pack of 41 takes two of 16, one token being kept; 3 packs of 48 tokens
        (
            {"neat_packing": True},
            {"sequences": 3, "micro_batches": 2, "updates": 1, "tokens": 80, "padding": 0.4444, "longest": 48},
        ),
    ],
)
def test_an_epoch(settings: dict[str, bool], found: dict[str, float]) -> None:
    given = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "cutoff_len": 41}
    assert lengths.epoch([16] * 5, given | settings, 1) == found


def test_grouping_by_length_pads_less() -> None:
    samples = [8 * (n % 10 + 1) for n in range(100)]
    given = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "cutoff_len": 99}
    padding = [lengths.epoch(samples, given | {"group_by_length": by}, 1)["padding"] for by in (False, True)]
    assert padding[1] < padding[0] / 3


def test_two_gpus_share_the_samples() -> None:
    given = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "cutoff_len": 99}
    assert lengths.epoch([8] * 10, given, 2)["updates"] == 3


def test_without_a_rate_no_hours_are_claimed() -> None:
    epoch = {"updates": 10, "tokens": 36000}
    settings = {"max_steps": -1, "num_train_epochs": 2.5}
    without = {"evaluations": 0, "evaluation_tokens": 0}
    expected = {"updates": 25, "epochs": 2.5, "tokens": 90000, **without}
    assert budget.training(settings, epoch, 0, None, 3.0) == expected
    assert budget.training(settings, epoch, 0, 5, 3.0)["cost"] == 15.0
    assert budget.training(settings | {"max_steps": 5}, epoch, 0, 5, None)["hours"] == 1.0


def test_evaluations_take_time_and_money_too() -> None:
    epoch = {"updates": 10, "tokens": 36000}
    settings = {"max_steps": -1, "num_train_epochs": 2.5, "eval_strategy": "steps", "eval_steps": 10}
    found = budget.training(settings, epoch, 6000, 5, 3.0)
    assert (found["evaluations"], found["evaluation_tokens"]) == (3, 18000)  # after 10, 20 and 25 updates
    assert (found["hours"], found["cost"]) == (6.0, 18.0)


@pytest.mark.parametrize(
    ("settings", "times"),
    [
        ({"eval_strategy": "epoch"}, 3),
        ({"eval_strategy": "epoch", "eval_on_start": True}, 4),
        ({"eval_strategy": "steps", "eval_steps": 0.2}, 5),
        ({"eval_strategy": "steps", "logging_steps": 5}, 5),
        ({"eval_strategy": "no", "eval_steps": 5, "eval_on_start": True}, 0),
        ({"eval_steps": 5}, 0),
    ],
)
def test_how_often_the_validation_split_is_seen(settings: dict[str, Any], times: int) -> None:
    assert budget.evaluations(settings, 25, 10) == times
