"""What the figures say, in words: the verdict, what a reader has to know before it, and numbers as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from radtune.report.words import Words, said, t

BASE = "base"  # the untuned model's experiment
FLOORS = {
    "shuffled": t("shuffled references"),
    "common": t("most common answer"),
    "nearest": t("nearest training image"),
    "copied": t("nearest case, copied"),
    "blank": t("black picture"),
}


class Evaluation(NamedTuple):
    """One evaluate/{experiment}/{split}.json."""

    experiment: str
    split: str
    content: dict[str, Any]

    def metric(self, name: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.content["overall"]["metrics"].get(name)
        return found


def as_score(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def as_signed(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def as_span(interval: Sequence[float] | None, digits: int = 1) -> Words:
    """An interval, its ends with a typographic minus."""
    if interval is None:
        return t("no interval")
    low, high = (f"{end:.{digits}f}".replace("-", "−") for end in interval)
    return t("{low} to {high}", low=low, high=high)


def rank(results: Sequence[Evaluation]) -> list[Evaluation]:
    """Best ROUGE-L first."""
    return sorted(results, key=lambda r: -r.content["overall"]["metrics"]["rouge_l"]["value"])


def verdict(ranked: Sequence[Evaluation], differences: Sequence[Mapping[str, Any]] = ()) -> list[Words]:
    """Three sentences from the figures: the best experiment, its lift over the best floor, and what it says of places.

    The floors are those that evaluate makes and the untuned base. A difference is claimed where its interval leaves out
    zero; between experiments, where compare's `differences` find one.
    """
    best = ranked[0]
    score = best.content["overall"]["metrics"]["rouge_l"]
    interval = score["interval"]
    first = t(
        "{experiment} has the highest ROUGE-L on the {split} split ({n:,} samples, {groups:,} groups): {score}, "
        "95 % interval {span}",
        experiment=best.experiment,
        split=said(best.split),
        n=best.content["n"],
        groups=best.content["groups"],
        score=as_score(score["value"]),
        span=as_span(interval),
    )
    tuned = [r for r in ranked[1:] if r.experiment != BASE]
    if tuned:
        second = tuned[0].content["overall"]["metrics"]["rouge_l"]
        first = t(
            "{first}; {experiment} follows with {score} ({span})",
            first=first,
            experiment=tuned[0].experiment,
            score=as_score(second["value"]),
            span=as_span(second["interval"]),
        )
        if not _found(differences, best, tuned[0]):
            first = t("{first}: no difference shown between the two", first=first)
    own = FLOORS.get(score["floor_name"])
    floors = [(own, score["floor"], score["floor_interval"])] if own else []
    if best.experiment != BASE:
        floors += [
            (t("the untuned {base} model", base=BASE), m["value"], m["interval"])
            for r in ranked
            if r.experiment == BASE and (m := r.metric("rouge_l"))
        ]
    sentences = [t("{sentence}.", sentence=first)]
    if not floors:
        return [*sentences, t("There is no floor to set it against, so this score says nothing yet.")]
    name, value, floor_interval = max(floors, key=lambda floor: floor[1])
    lift = t(
        "{lift} points against the best floor, {name} ({floor})",
        lift=as_signed(score["value"] - value),
        name=name,
        floor=as_score(value),
    )
    if not interval or not floor_interval:
        sentences.append(t("That is {lift}, without an interval, as there are fewer than two groups.", lift=lift))
    else:
        # Conservative for the base, whose samples are the same: the widest lift that both intervals allow.
        paired = score["lift_interval"] if name == own else None
        span = paired or [interval[0] - floor_interval[1], interval[1] - floor_interval[0]]
        says = {"lift": lift, "span": as_span(span), "outcome": _outcome(span)}
        sentences.append(t("That is {lift}, interval {span}: {outcome}.", **says))
    if (slots := best.metric("slots")) and slots["floor_name"]:
        words = t(
            "It gets {score} % of the place and density words right, the best floor ({name}) {floor} %, interval of "
            "the difference {span}: {outcome}.",
            score=as_score(slots["value"]),
            name=FLOORS[slots["floor_name"]],
            floor=as_score(slots["floor"]),
            span=as_span(slots["lift_interval"]),
            outcome=_outcome(slots["lift_interval"]),
        )
        sentences.append(words)
    return sentences


def _outcome(span: Sequence[float] | None) -> Words:
    if span and span[0] > 0:
        return t("better")
    return t("worse") if span and span[1] < 0 else t("no difference shown")


def _found(differences: Sequence[Mapping[str, Any]], one: Evaluation, other: Evaluation) -> bool:
    """Whether compare shows a difference in ROUGE-L between the two."""
    pair = {one.experiment, other.experiment}
    return any(
        row["better"] and row["metric"] == "rouge_l" and row["split"] == one.split and {row["of"], row["minus"]} == pair
        for row in differences
    )


def cautions(results: Sequence[Evaluation], main: str) -> list[Words]:
    """What a reader has to know before any figure."""
    notes = []
    shown = [r for r in results if r.split == main]
    floors = [r.content["overall"]["metrics"]["rouge_l"]["floors"].get("shuffled", {}) for r in shown]
    # This floor's score depends on the samples alone.
    if len({(r.content["n"], floor.get("value"), floor.get("n")) for r, floor in zip(shown, floors, strict=True)}) > 1:
        counts = ", ".join(f"{r.experiment} {r.content['n']:,}" for r in shown)
        notes.append(
            t("The experiments were not scored on the same samples ({counts}): do not compare them.", counts=counts)
        )
    if (groups := min(r.content["groups"] for r in shown)) < 20:
        notes.append(t("Only {groups} groups: intervals from so few are too narrow.", groups=groups))
    for r in shown:
        empty, unfinished = r.content.get("empty", 0), r.content.get("unfinished", 0)
        if empty or unfinished:
            notes.append(
                t(
                    "{experiment}: {empty:,} of {n:,} answers are empty, {unfinished:,} hit the length limit.",
                    experiment=r.experiment,
                    empty=empty,
                    n=r.content["n"],
                    unfinished=unfinished,
                )
            )
    return notes
