"""What each switch did: every experiment against the one that its settings differ least from, metric by metric; one
that is given similar cases also against copying the nearest of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from radtune.report.verdict import FLOORS
from radtune.report.words import Words, t

METRICS = {
    "rouge_l": "ROUGE-L",
    "semantic": t("Meaning (LSA)"),
    "slots": t("Place and density words"),
    "findings_missed": t("Findings missed (lower is better)"),
    "record_valid": t("Records that are valid JSON"),
    "iou": t("Box overlap (IoU)"),
    "reworded_change_rouge_l": t("Unseen wording: change of ROUGE-L"),
    "reworded_change_slots": t("Unseen wording: change of place and density words"),
}
COPIED = "copied"  # of FLOORS
# what follows from the rest
_DERIVED = ("dataset", "plain", "cleaned", "encoder", "fetched", "model_name", "adapter", "pixels")
_LONGEST = 60  # characters of a setting


def switches(
    settings: Mapping[str, Any],
    differences: Sequence[Mapping[str, Any]],
    split: str,
    scores: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """A row for each experiment but the first: experiment, against, what ([(key, before, after)]), effects.

    `settings`: the config as merged. `differences`: compare's, of which those of `split` are read. `effects`: of
    each of METRICS {value, interval, says}, experiment minus the other, or None. The other is, of those before it, the
    one with the fewest settings that differ, a tuned one for a tuned one where there is one. `scores`: of each
    experiment evaluate's metrics on the split; where `copied` is a floor in them, a row says what the model adds.
    """
    found = {(row["of"], row["minus"], row["metric"]): row for row in differences if row["split"] == split}
    scored = {name for pair in found for name in pair[:2]}
    given = settings.get("experiments", {})
    made = {name: _made(given, name, settings) for name in given if name in scored}
    rows: list[dict[str, Any]] = []
    for n, name in enumerate(made):
        whats = {other: list(_differing(made[other], made[name])) for other in list(made)[:n]}
        if not whats:
            continue
        untuned = {other: of["training"] is None for other, of in made.items()}
        against = min(whats, key=lambda other: (untuned[other] != untuned[name], len(whats[other])))
        pairs = {metric: (found.get((name, against, metric)), found.get((against, name, metric))) for metric in METRICS}
        effects = {metric: _effect(*pair, name) if any(pair) else None for metric, pair in pairs.items()}
        rows.append({"experiment": name, "against": against, "what": whats[against], "effects": effects})
        copied = {metric: scores.get(name, {}).get(metric, {}).get("floors", {}).get(COPIED) for metric in METRICS}
        if any(copied.values()):
            lifts = {metric: _lift(floor) if floor else None for metric, floor in copied.items()}
            rows.append({"experiment": name, "against": FLOORS[COPIED], "what": [], "effects": lifts})
    return rows


def _made(experiments: Mapping[str, Any], name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What an experiment follows from: its recipe itself, since another name for the same is no difference; and of one
    that takes an adapter as it is, that adapter's training.
    """
    found = {key: value for key, value in experiments[name].items() if key not in _DERIVED}
    found["images"] = settings["images"][found["images"]]
    if found["training"] is None and found["init_adapter"]:
        found |= {key: experiments[found["init_adapter"]][key] for key in ("training", "init_adapter")}
    return found


def _effect(row: Mapping[str, Any] | None, turned: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """Of the pair's difference as compare took it, or of that with the two exchanged."""
    if row:
        value, interval = row["value"], row["interval"]
    else:
        assert turned
        row, value, interval = (
            turned,
            -turned["value"],
            turned["interval"] and [-end for end in turned["interval"][::-1]],
        )
    return {"value": value, "interval": interval, "says": _says(row["better"] and row["better"] == name)}


def _lift(floor: Mapping[str, Any]) -> dict[str, Any]:
    """Of the model over one of its floors."""
    return {"value": floor["lift"], "interval": floor["lift_interval"], "says": _says(floor["better"])}


def _says(better: bool | None) -> Words:
    return t("no difference shown") if better is None else t("better") if better else t("worse")


def _differing(before: Any, after: Any, key: str = "") -> Iterator[tuple[str, str | Words, str | Words]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            yield from _differing(before.get(name), after.get(name), f"{key}.{name}".lstrip("."))
    elif before != after:
        yield key, _text(before), _text(after)


def _text(value: Any) -> str | Words:
    """A setting as YAML has it; a long one, such as all arguments of a training, in a word."""
    if value is None:
        return t("none")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else t("as in the config")
