"""Whether a rewritten text says what its original says: in anything that a score watches, it may not differ.

Numbers with sign and unit, sides, places, densities, findings and anatomy with what is denied of them, the number of
denials, whether there is doubt, and which of them belong together are read from both, mostly by the words that the
scores read. What none of these sees, such as a verb, the similarity of the two is to hold.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from typing import Any

from radtune import places
from radtune.clean.text import Kind, chatter
from radtune.control import obeyed
from radtune.language.terms import denials, mentions, named, normal

LONGER, SLACK = 1.2, 20  # times the original's length, and characters beyond: the most that a rewrite may have

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
    "moved": "A side, place, number, density or doubt is said of something else.",
    "similarity": "The meaning is not near enough.",
    "unchanged": "The rewrite is the original.",
    "cut": "The answer was cut at its longest.",
    "timeout": "The server did not answer in time.",
    "connection": "The server could not be reached.",
    "status": "The server answered with an error.",
    "nonsense": "The server's answer was no chat completion.",
    "not wording": "What is wrong is no matter of wording: nothing was sent.",
}

_UNITS = {
    "%": "%|％|per ?cent",
    "mm": "mm|millimet(?:er|re)s?|毫米",
    "cm": "cm|centimet(?:er|re)s?|厘米",
    "mm2": "mm[2²]",
    "cm2": "cm[2²]",
    "mm3": "mm[3³]",
    "ml": "ml|cc|cm[3³]|millilit(?:er|re)s?|毫升",
    "hu": "hu|hounsfield units?",
    "degree": "°|degrees?|度",
    "year": "years?|岁|年",
    "month": "months?|个?月",
    "day": "days?|天",
    "hour": "hours?|小时",
}
_DIGITS = re.compile(
    r"((?<![a-z\d%])[-−–+±](?=\d)|[<>≤≥] ?|\b(?:minus|(?:less|more|greater) than|at (?:least|most)|up to) "
    r"|负|[大小]于|超过|不足)?"
    rf"(\d+(?:[.,]\d+)*)(?:[\s-]*(?:{'|'.join(f'({of})' for of in _UNITS.values())})(?![a-z\d²³]))?"
)
_NUMERAL = "零〇一二两三四五六七八九十百千"
_COUNTER = "[处个枚块条片层次例支根发灶]"
_NUMBER_WORD = re.compile(
    r"\b(?:(?:a|one|two)[- ]thirds?|halves|half|quarters?|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
    r"|dozen|fifteen|twenty|thirty|forty|fifty|hundred|twice|single|solitary|multiple|several|numerous|few|many)\b"
    rf"|[{_NUMERAL}]+分之[{_NUMERAL}点\d.]+|一半|半数|大半|[{_NUMERAL}点]+(?:毫米|厘米|毫升|岁|年|天|小时|[倍度])"
    rf"|(?!一{_COUNTER})[{_NUMERAL}数几多单双半]+(?={_COUNTER})"  # 一个 is but an article
)
_PLACE = re.compile(
    r"\b(?:(?:upper|lower)[- ]middle|upper|lower|top|bottom|middle)\b"
    r"|\b(?:anterior|posterior|superior|inferior|medial|lateral)"
    "|[上下前后内外中][部方侧缘段份角]|[上下][左右]|附近|周围|旁"
)
_DOUBT = re.compile(
    r"\b(?:may|might|could|possib\w+|probab\w+|potential\w*|perhaps|maybe|suspect\w*|suspicious|suggest\w*|likely|seem\w*"
    r"|question\w*|presum\w+|uncertain)\b|可能|疑似|怀疑|考虑|提示|或许|也许|似乎|好像|倾向|待排"
)
_SENTENCE = re.compile(r"[.!?;。！？；\n]+(?!\d)")
_CLAUSE = re.compile(
    r"(?:(?:[,，:：、()（）](?!\d)|\b(?:and|or|but|while|whereas|with|which|that|as|suggests?|causes?|shows?|[a-z]+ing)\b"
    r"|[和及与伴并而或]|提示|考虑|可见)\s*)+"
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
    low = normal(bare(text))
    found = {section: named(low, section) for section in ("sides", "density", "findings", "anatomy")}
    whole = not found["density"] and not found["findings"]  # nothing that a place could be said of but the image
    return {
        "numbers": Counter(value for _, _, value in _numbers(low)),
        "side": found["sides"],
        "location": (
            [places.place(low, axis) for axis in ("horizontal", "vertical") if whole],
            places.named(low),
            {value for _, _, value in _places(low)},
        ),
        "density": found["density"],
        "findings": found["findings"],
        "anatomy": found["anatomy"],
        "negation": denials(low),
        "certainty": _DOUBT.search(low) is not None,
        "moved": _together(low),
    }


def bare(text: str) -> str:
    """The text without the wording that a rewrite leaves out, but for what denies: "I cannot see a haemorrhage".

    Vague wording doubts, so that it leaves a plain word of doubt behind.
    """
    rest = len(text)
    for found in sorted(chatter(text), key=lambda found: found.start, reverse=True):
        vague = found.kind == Kind.VAGUE
        if found.end <= rest and (vague or not any(denials(text[found.start : found.end]))):
            text = f"{text[: found.start]} {'possibly ' if vague else ''}{text[found.end :]}"
            rest = found.start
    return text


def _numbers(low: str) -> Iterator[tuple[int, int, str]]:
    for match in _DIGITS.finditer(low):
        sign = re.sub("[−–]|minus|负", "-", (match[1] or "").strip())
        unit = ["", *_UNITS][(match.lastindex or 2) - 2]
        yield match.start(), match.end(), f"{sign}{match[2]}{unit}"
    for match in _NUMBER_WORD.finditer(low):
        yield match.start(), match.end(), match[0].replace("两", "二")


def _places(low: str) -> Iterator[tuple[int, int, str]]:
    for match in _PLACE.finditer(low):
        yield match.start(), match.end(), min(places.named(match[0]), default=match[0])


def _together(low: str) -> set[tuple[Any, Any]]:
    """Each thing that the text names, with the nearest of every other kind.

    Nearest is what the fewest sentences, then the fewest clauses part; at a tie what stands before, and within a clause
    what the fewest characters part.
    """
    kinds: dict[str, list[tuple[int, int, Any]]] = defaultdict(list)
    for section in ("sides", "density", "findings", "anatomy"):
        for start, end, term, stated in mentions(low, section):
            kinds[section].append((start, end, (term, stated)))
    kinds["number"], kinds["place"] = sorted(_numbers(low)), sorted(_places(low))
    kinds["doubt"] = [(*match.span(), "doubt") for match in _DOUBT.finditer(low)]
    breaks = [[match.start() for match in pattern.finditer(low)] for pattern in (_SENTENCE, _CLAUSE)]

    def apart(one: tuple[int, int, Any], other: tuple[int, int, Any]) -> tuple[int, int, bool, int]:
        (_, end, _), (start, _, _) = sorted((one, other), key=lambda of: of[:2])
        sentences, clauses = (bisect(at, start) - bisect(at, end - 1) for at in breaks)
        return max(sentences, 0), max(clauses, 0), clauses > 0 and other > one, max(start - end, 0)

    found = set()
    for kind, own in kinds.items():
        for others in (of for other, of in kinds.items() if other != kind and of):
            starts = [start for start, _, _ in others]
            for one in own:
                i = bisect(starts, one[0])
                near = min(others[max(0, i - 1) : i + 1], key=lambda other: apart(one, other))
                found.add((one[2], near[2]))
    return found
