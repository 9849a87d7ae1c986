"""Whether a rewritten text says what its original says: in anything that a score watches, it may not differ.

Numbers with their units, sides, places, densities, findings and anatomy with what is denied of them, the number of
denials, and whether there is doubt are read from both by the words that the scores read. What none of these sees, such
as a verb, the similarity of the two is to hold.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from typing import Any

from radtune import places
from radtune.clean.wording import Kind, chatter
from radtune.control import obeyed
from radtune.language.terms import denials, named

LONGER, SLACK = 1.2, 20  # times the original's length, and characters beyond: the most that a rewrite may have
TAKEN_BACK = "takes back what it says"  # of wording.yaml

# Why an original stays, in the order in which it is looked at.
REFUSALS = {
    "empty": "The rewrite is empty.",
    "form": "The rewrite has other lines or markup than the original, or tokens that a chat model obeys.",
    "length": "The rewrite is longer than the original allows.",
    "wording": "The rewrite has wording that it was to be rid of.",
    "numbers": "Numbers, percentages or units changed.",
    "side": "A side changed.",
    "location": "A place in the image changed.",
    "density": "A density changed.",
    "findings": "A finding was added, lost, denied, or is denied no longer.",
    "anatomy": "Anatomy was added or lost.",
    "negation": "There are more denials, or fewer.",
    "certainty": "Doubt was added or lost.",
    "similarity": "The meaning is not near enough.",
    "unchanged": "The rewrite is the original.",
    "cut": "The answer was cut at its longest.",
    "timeout": "The server did not answer in time.",
    "connection": "The server could not be reached.",
    "status": "The server answered with an error.",
    "nonsense": "The server's answer was no chat completion.",
    "not wording": "What is wrong is no matter of wording: nothing was sent.",
}

_NUMBER = re.compile(
    r"\d+(?:[.,]\d+)*\s*(?:%|％|per ?cent|[mc]m|ml|毫米|厘米|毫升)?|百分之[零一二两三四五六七八九十点]+"
    r"|\b(?:two|three|four|five|six|seven|eight|nine|ten|single|multiple|several)\b"
)
_CHINESE_PLACE = re.compile("[上下前后内外中][部方侧缘段份角]|[上下][左右]|附近|周围|旁")
_DOUBT = re.compile(
    r"\b(?:may|might|could|possib\w+|probab\w+|suspect\w*|suspicious|suggest\w*|likely|question\w*|presum\w+|uncertain)\b"
    "|可能|疑似|怀疑|考虑|提示|或许|倾向|待排"
)


def refusal(original: str, rewrite: str, kinds: Collection[str]) -> str | None:
    """The first of REFUSALS that holds, but similarity; `kinds` of wording are what the rewrite was to be rid of."""
    if not rewrite.strip():
        return "empty"
    if obeyed(rewrite) or any(rewrite.count(sign) > original.count(sign) for sign in ("\n", "<", "```", "**", "#")):
        return "form"
    if len(rewrite) > LONGER * len(original) + SLACK:
        return "length"
    asked = [kind for kind in (Kind.CHATTY, Kind.VAGUE) if kind in kinds]
    if next(chatter(rewrite, asked), None):
        return "wording"
    ours, theirs = facts(rewrite), facts(original)
    return next((name for name in theirs if ours[name] != theirs[name]), None)


def facts(text: str) -> dict[str, Any]:
    """What must not change, by the code under which REFUSALS has it."""
    low = bare(text).lower()
    found = {section: named(low, section) for section in ("sides", "density", "findings", "anatomy")}
    numbers = Counter(
        re.sub(r"\s|per ?cent|％", lambda m: "" if m[0].isspace() else "%", n) for n in _NUMBER.findall(low)
    )
    return {
        "numbers": numbers,
        "side": found["sides"],
        "location": (
            [places.place(low, axis) for axis in ("horizontal", "vertical")],
            places.named(low),
            set(_CHINESE_PLACE.findall(low)),
        ),
        "density": found["density"],
        "findings": found["findings"],
        "anatomy": found["anatomy"],
        "negation": denials(low),
        "certainty": _DOUBT.search(low) is not None,
    }


def bare(text: str) -> str:
    """The text without the wording that a rewrite leaves out, but for what denies: "I cannot see a haemorrhage"."""
    for found in sorted(chatter(text), key=lambda found: found.start, reverse=True):
        phrase = text[found.start : found.end]
        if found.note == TAKEN_BACK:
            text = f"{text[: found.start]} possibly {text[found.end :]}"
        elif not denials(phrase):
            text = f"{text[: found.start]} {text[found.end :]}"
    return text
