"""Sample cards: which samples a reader sees, their pictures, and where prediction and reference differ."""

from __future__ import annotations

import base64
import difflib
import io
import itertools
import random
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radtune.report.words import Words

if TYPE_CHECKING:
    from PIL import Image

CARDS, DOUBTFUL = 48, 24  # with the pictures' size they bound the page, however many answers there are
KINDS = ("best", "worst", "contradiction", "random")
_SIDE, _SMALL = 448, 96  # longest side of an embedded picture in pixels, and of a similar case's
SIMILAR = 3  # cases of a sample that a card shows
_SHOWN = 1200  # characters of a text that a card shows
_CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_PIECE = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+(?:[-.][^\W{_CJK}]+)*|\s+|.")
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def visible(text: str) -> str:
    """Text with control, bidirectional and other invisible characters written out, as `⟨U+202E⟩`; line feeds stay."""
    if text.isprintable():  # as nearly all are, a picture's data among them
        return text
    return "".join(
        f"⟨U+{ord(c):04X}⟩" if c not in "\n\t" and unicodedata.category(c) in _INVISIBLE else c
        for c in text.replace("\r\n", "\n")
    )


def cards(
    rows: Sequence[Mapping[str, Any]],
    scores: Sequence[Mapping[str, Any]],
    others: Mapping[str, Mapping[tuple[str, str], str]],
    doubts: Mapping[int, Sequence[Words]],
    similar: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]] | None = None,
) -> list[dict[str, Any]]:
    """Best, worst and random samples of each tag, CARDS at most in all, and DOUBTFUL at most of `doubts`.

    `rows` are predictions and `scores` their per-sample scores, line by line; `others` the predictions of further
    experiments by (id, tag); `doubts` the contradictions by line; `similar` the cases that an experiment with retrieval
    was given, by (id, tag). A sample has one card, whatever it was chosen for.
    """
    by_tag: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        by_tag[row["tag"]].append(i)
    chosen = []
    for tag in sorted(by_tag):
        metric = "iou" if any(scores[i]["iou"] is not None for i in by_tag[tag]) else "rouge_l"
        ranked = sorted(by_tag[tag], key=lambda i: (-(scores[i][metric] or 0.0), rows[i]["id"]))
        chosen += _choose(ranked, max(1, CARDS // len(by_tag)), tag)
    kinds = {i: [kind] for i, kind in chosen[:CARDS]}
    doubtful = sorted(doubts, key=lambda i: (-len(doubts[i]), i))
    for i in _turns(doubtful, lambda i: rows[i]["tag"])[:DOUBTFUL]:
        kinds.setdefault(i, [])
    for i in kinds.keys() & doubts.keys():
        kinds[i].append("contradiction")
    mixed = _turns(sorted(kinds), lambda i: (rows[i]["tag"], KINDS.index(kinds[i][0])))
    order = _turns(mixed, lambda i: rows[i]["tag"])
    return [_card(rows[i], scores[i], kinds[i], others, doubts.get(i, ()), similar or {}) for i in order]


def _choose(ranked: list[int], count: int, seed: str) -> list[tuple[int, str]]:
    """A third from the top, a third from the bottom, the rest drawn from what lies between."""
    third = count // 3
    best = ranked[: max(1, third)]
    worst = [i for i in ranked[::-1] if i not in best][:third]
    between = [i for i in ranked if i not in best and i not in worst]
    drawn = random.Random(seed).sample(between, min(len(between), count - len(best) - len(worst)))
    return [(i, "best") for i in best] + [(i, "random") for i in drawn] + [(i, "worst") for i in worst]


def _turns(lines: Iterable[int], key: Callable[[int], Any]) -> list[int]:
    """The lines in their order, but those of each key in turn."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for i in lines:
        groups[key(i)].append(i)
    turns = itertools.zip_longest(*(groups[name] for name in sorted(groups)))
    return [i for turn in turns for i in turn if i is not None]


def _card(
    row: Mapping[str, Any],
    scores: Mapping[str, Any],
    kinds: list[str],
    others: Mapping[str, Mapping[tuple[str, str], str]],
    doubts: Sequence[Words],
    similar: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    reference, prediction = differences(row["reference"], row["prediction"])
    return {
        "id": row["id"],
        "tag": row["tag"],
        "kinds": kinds,
        "doubts": doubts,
        "side": {None: "unsaid", 100.0: "right"}.get(scores["laterality"], "wrong"),
        "prompt": shorten(row.get("prompt", "").replace("<image>", "").strip()),
        "reference": reference,
        "prediction": prediction,
        "others": {
            name: shorten(answers[row["id"], row["tag"]])
            for name, answers in others.items()
            if (row["id"], row["tag"]) in answers
        },
        "similar": [
            {**case, "answer": shorten(case["answer"])} for case in similar.get((row["id"], row["tag"]), ())[:SIMILAR]
        ],
        "rouge_l": scores["rouge_l"],
        "iou": scores["iou"],
        "slots": scores["slots"],
        "image": row.get("image", ""),
        "boxes": [
            {"kind": name, "x": box[0], "y": box[1], "width": box[2] - box[0], "height": box[3] - box[1]}
            for name in ("reference", "prediction")
            if (box := scores[f"box_{name}"])
        ],
    }


def pictures(cards: Iterable[Mapping[str, Any]], media_dir: Path) -> dict[str, dict[str, str]]:
    """{file: {"name": of its element, "uri"}} of the pictures of the cards and, small, of their similar cases, each
    once, without those that cannot be read.
    """
    cards = list(cards)
    sides = {case["image"]: _SMALL for card in cards for case in card.get("similar", ())} | {
        c["image"]: _SIDE for c in cards
    }
    found = (
        (file, {"name": f"picture-{n}", "uri": picture(media_dir, file, side) or ""})
        for n, (file, side) in enumerate(sides.items())
    )
    return {file: of for file, of in found if of["uri"]}


def picture(media_dir: Path, name: str, side: int = _SIDE) -> str | None:
    """The picture as a JPEG data URI; None where it cannot be read or lies outside `media_dir`."""
    from PIL import Image

    try:
        path = (media_dir / name).resolve()
        if not path.is_relative_to(media_dir.resolve()):
            return None
        with Image.open(path) as image:
            return data_uri(image, side)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def data_uri(image: Image.Image, side: int = _SIDE) -> str:
    """A copy of the picture as a JPEG data URI, at most `side` pixels a side."""
    small = image.convert("RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def differences(reference: str, prediction: str) -> tuple[list[tuple[bool, str]], list[tuple[bool, str]]]:
    """Both texts as (differs, piece) runs: words, or single CJK characters, that the other text lacks there."""
    a, b = (_PIECE.findall(visible(shorten(text))) for text in (reference, prediction))
    left, right = [], []
    for operation, a1, a2, b1, b2 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        # White space alone in common stands between two differences: one mark reads better than two.
        differs = operation != "equal" or not "".join(a[a1:a2]).strip()
        left.append((differs, "".join(a[a1:a2])))
        right.append((differs, "".join(b[b1:b2])))
    return _joined(left), _joined(right)


def _joined(runs: list[tuple[bool, str]]) -> list[tuple[bool, str]]:
    grouped = itertools.groupby((run for run in runs if run[1]), key=lambda run: run[0])
    return [(differs, "".join(piece for _, piece in group)) for differs, group in grouped]


def shorten(text: str) -> str:
    """The first characters of a long text, and how many more there are."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} … (+{len(text) - _SHOWN:,})"
