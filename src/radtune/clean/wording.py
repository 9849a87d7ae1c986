"""Wording that should not be learned, found in every kept text; what becomes of it is rewrite.py's.

    radtune find-wording --samples samples.parquet --disagreements disagreements.jsonl --out wording.parquet ...

wording.parquet: a row for each kind found in a field of an answer: id (as in the ShareGPT files), tag, split, kind,
field, start and end of the evidence there (characters; all three null of a contradiction), evidence, note.
wording.json: counts by kind and split, and of each kind its most common evidence with an example.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from radtune.files import read_jsonl, replacing, write_json
from radtune.language.terms import pieces
from radtune.language.words import CJK
from radtune.reasons import RECORD_KEYS

FEW = 20  # texts: a word in more is neither rare nor misspelt
OFTEN = 10  # times as many texts have the term that a word misspells
SHARE, GROUPS, LENGTH = (
    0.05,
    10,
    20,
)  # of the groups, at least so many of them, characters: of a sentence that is boilerplate
EXAMPLES, AROUND = 5, 60  # of a kind; characters to each side of the evidence


class Kind(StrEnum):
    """What is wrong with a wording; `sentence` says it to a person."""

    sentence: str

    def __new__(cls, code: str, sentence: str) -> Kind:
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member

    EMPTY = "empty", "The answer, or a field of the record, says nothing."
    CHATTY = "chatty", "It speaks as an assistant does: of itself, of the request, to the reader."
    VAGUE = "vague", "It takes back what it says, doubts twice, or tells how things seem."
    GARBLED = "garbled", "Wrongly decoded characters, remains of markup, or characters and words said over and over."
    MISSPELT = "misspelt", f"A word that is one letter from a term that {OFTEN} times as many texts have."
    RARE = "rare", "It has a word, or a Chinese character, that no other group has."
    BOILERPLATE = (
        "boilerplate",
        f"A sentence that stands to the letter in {SHARE:.0%} of the groups, and in {GROUPS} at least.",
    )
    CONTRADICTION = "contradiction", "What it says of the region is not what the rectangle in its own pixels shows."


class Finding(NamedTuple):
    kind: Kind
    start: int
    end: int
    note: str = ""


_WORD = re.compile(f"[a-z]+|[{CJK}]")
_SENTENCE = re.compile(r"[^.!?。！？；\n]+(?:\.(?=\d)[^.!?。！？；\n]+)*[.!?。！？；]*")
_ESCAPE = re.compile(
    r"\\[nrt]|\\u[0-9a-f]{4}|&(?:amp|lt|gt|quot|nbsp|#\d+);|</?(?:unk|pad|s|bos|eos|br|p)/?>"
    r"|\[(?:unk|mask|pad|cls|sep)\]|(?<!\w)##\w+|[\u2581\ufffd]|锟斤拷|烫烫"
)
_AGAIN = re.compile(rf"([a-z])\1{{3,}}|([{CJK}])\2{{2,}}|\b(?!(?:had|that)\b)([a-z]{{2,}}) \3\b|([!?;,])\4{{3,}}")
_DIGITS_INSIDE = re.compile(r"(?<![a-z0-9_])[a-z]{2,}[0-9]+[a-z]{2,}(?![a-z0-9_])")
# what UTF-8 looks like to who reads it as Windows-1252: a run of letters beyond ASCII that decodes
_MISREAD = re.compile("[\u0080-\u00ff\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u2122]{2,}")


def fields(tag: str, parts: Mapping[str, Any]) -> dict[str, str]:
    """The free texts of an answer's parts (data/samples.parquet) by the name of their field."""
    names = {"JSON_RECORD": RECORD_KEYS[:4], "REGION_OF_INTEREST": ("features", "observation")}
    named = names.get(tag, ("label",) if tag == "DETECT_REGION_LOC" else ("text",))
    return {name: parts[name] for name in named if parts.get(name)}


def find_wording(samples: Path, disagreements: Path, out: Path, summary: Path) -> None:
    """Write wording.parquet to `out` and wording.json to `summary`; `disagreements` is the finding of check."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ["shard", "row", "sample", "tag", "group", "split", "parts"]
    kept = pq.read_table(samples, columns=names, filters=[("status", "=", "kept")])
    rows = list(zip(*(kept[name].to_pylist() for name in names), strict=True))
    numbers: dict[str, int] = {}  # of each distinct text
    said = [
        {name: numbers.setdefault(text, len(numbers)) for name, text in fields(row[3], json.loads(row[6])).items()}
        for row in rows
    ]
    groups: dict[str, int] = {}
    of_group = [groups.setdefault(row[4], len(groups)) for row in rows]
    found = _find(list(numbers), [(n, g) for g, texts in zip(of_group, said, strict=True) for n in texts.values()])
    wrong = _contradictions(disagreements)
    texts, lines = list(numbers), []
    for (shard, number, id, tag, _, split, _), group, own in zip(rows, of_group, said, strict=True):
        kinds: dict[tuple[Kind, str | None], dict[str, Any]] = {}
        for name, n in own.items():
            for kind, start, end, note in found.get(n, ()):
                place = {"field": name, "start": start, "end": end, "evidence": texts[n][start:end], "note": note}
                kinds.setdefault((kind, name), place | {"text": n})
        if (shard, number) in wrong:
            kinds[Kind.CONTRADICTION, None] = wrong[shard, number] | {"text": next(iter(own.values()), None)}
        head = {"id": id, "tag": tag, "split": split, "group": group}
        lines += [head | {"kind": str(kind)} | of for (kind, _), of in kinds.items()]
    strings = ("id", "tag", "split", "kind", "field", "evidence", "note")
    schema = pa.schema([(name, pa.string()) for name in strings] + [("start", pa.int32()), ("end", pa.int32())])
    with replacing(out) as temporary:
        pq.write_table(pa.Table.from_pylist(lines, schema), temporary)
    totals = {"rows": len(rows), "texts": len(texts), "groups": len(groups)}
    write_json(summary, totals | {"kinds": {str(kind): _count(kind, lines, texts) for kind in Kind}})


def _find(texts: Sequence[str], uses: Sequence[tuple[int, int]]) -> dict[int, list[Finding]]:
    """What is found in each of `texts`, by its number; `uses` are pairs of a text and a group that has it."""
    found: dict[int, list[Finding]] = defaultdict(list)
    count: Counter[str] = Counter()
    holders: dict[str, list[int]] = defaultdict(list)  # of each word, the first FEW texts that have it
    for n, text in enumerate(texts):
        low = _lower(text)
        found_here = [*_by_lexicon(low), *_garbled(low, text)]
        if found_here:
            found[n] += found_here
        words = set(_WORD.findall(low))
        count.update(words)
        for word in words:
            if len(held := holders[word]) < FEW:
                held.append(n)
    for kind, noted in ((Kind.MISSPELT, _misspelt(count)), (Kind.RARE, _rare(holders, uses))):
        for word, note in noted.items():
            for n in holders[word] if count[word] < FEW else ():
                if place := re.search(rf"(?<![a-z]){word}(?![a-z])", _lower(texts[n])):
                    found[n].append(Finding(kind, *place.span(), note))
    for n, of in _boilerplate(texts, uses):
        found[n].append(of)
    return found


def _lower(text: str) -> str:
    """In lower case and of the same length: a few letters would become two."""
    low = text.lower().replace("’", "'")
    return low if len(low) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


@cache
def _ways(kind: str) -> tuple[re.Pattern[str], list[str]]:
    """One pattern for all ways of a kind, and why of each of its groups; an empty group at a way's end tells which."""
    lexicon = yaml.safe_load(Path(__file__).with_name("wording.yaml").read_text(encoding="utf-8"))
    ways = [(way, why) for why, ways in lexicon[kind].items() for way in ways]
    ways.sort(key=lambda way: not way[0].isascii())
    english, chinese = (
        "|".join(f"(?:{way}){end}()" for way, _ in ways if way.isascii() == bool(end)) for end in (r"\b", "")
    )
    return re.compile(rf"\b(?:{english})|(?=[^\x00-\x7f])(?:{chinese})", re.ASCII), [why for _, why in ways]


def chatter(text: str, kinds: Sequence[Kind] = (Kind.CHATTY, Kind.VAGUE)) -> Iterator[Finding]:
    """Every place where `text` is worded as the lexicon forbids."""
    for kind in kinds:
        pattern, whys = _ways(kind)
        for match in pattern.finditer(_lower(text)):
            yield Finding(kind, *match.span(), whys[(match.lastindex or 0) - 1])


def _by_lexicon(low: str) -> Iterator[Finding]:
    for kind in (Kind.CHATTY, Kind.VAGUE):
        pattern, whys = _ways(kind)
        if match := pattern.search(low):
            yield Finding(kind, *match.span(), whys[(match.lastindex or 0) - 1])
    if len(low) < 2 * AROUND:
        pattern, whys = _ways(Kind.EMPTY)
        bare = low.strip(" \t\n.。,，:;-")
        if not _ANY.search(bare) or pattern.fullmatch(bare):
            yield Finding(Kind.EMPTY, 0, len(low), whys[0])


_ANY = re.compile(f"[a-z0-9{CJK}]")


def _garbled(low: str, text: str) -> Iterator[Finding]:
    for pattern in (_ESCAPE, _AGAIN, _DIGITS_INSIDE):
        if match := pattern.search(low):
            yield Finding(Kind.GARBLED, *match.span())
            return
    if not text.isascii():
        for match in _MISREAD.finditer(text):
            try:
                meant = match[0].encode("cp1252").decode()
            except UnicodeError:
                continue
            yield Finding(Kind.GARBLED, *match.span(), meant)
            return


def _misspelt(count: Mapping[str, int]) -> dict[str, str]:
    """{word: the term that it is one letter from}: letters left out, added, changed or exchanged, but for the first."""
    terms = {word: n for word, n in count.items() if len(word) >= 6 and n >= OFTEN and pieces().search(word)}
    without: dict[str, list[str]] = defaultdict(list)
    for term in terms:
        for i in range(1, len(term)):
            without[term[:i] + term[i + 1 :]].append(term)
    found = {}
    for word, n in count.items():
        if len(word) < 6 or n > FEW or word in terms or pieces().search(word):
            continue
        shorter = [word[:i] + word[i + 1 :] for i in range(1, len(word))]
        near = {*without.get(word, ()), *(one for one in shorter if one in terms)}
        near |= {term for one in shorter for term in without.get(one, ()) if _one_edit(word, term)}
        if near and terms[best := max(near, key=lambda term: (terms[term], term))] >= OFTEN * n:
            found[word] = best
    return found


def _one_edit(a: str, b: str) -> bool:
    """Whether two words of one length differ by one letter or by two neighbours exchanged."""
    apart = [i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y]
    if len(a) != len(b) or len(apart) > 2:
        return False
    i, j = apart[0], apart[-1]
    return len(apart) == 1 or (j == i + 1 and a[i] == b[j] and a[j] == b[i])


def _rare(holders: Mapping[str, list[int]], uses: Sequence[tuple[int, int]]) -> dict[str, str]:
    """Words of three letters and more, and Chinese characters, in texts of one group alone; of two groups and more."""
    groups: dict[int, set[int]] = defaultdict(set)
    for n, group in uses:
        groups[n].add(group)
    if len({group for _, group in uses}) < 2:
        return {}
    single = {n: next(iter(of)) if len(of) == 1 else None for n, of in groups.items()}
    long = (word for word in holders if len(word) > 2 or not word.isascii())
    return {word: "" for word in long if len(of := {single[n] for n in holders[word]}) == 1 and None not in of}


def _boilerplate(texts: Sequence[str], uses: Sequence[tuple[int, int]]) -> Iterator[tuple[int, Finding]]:
    """Of each text its first sentence that stands in so many groups; rows of one group count once."""
    places = [[m for m in _SENTENCE.finditer(text) if len(m[0].strip()) >= LENGTH] for text in texts]
    hashes = [[hash(match[0].strip()) for match in found] for found in places]
    pairs = np.array([(h, group) for n, group in set(uses) for h in hashes[n]], np.int64).reshape(-1, 2)
    counted = np.unique(np.unique(pairs, axis=0)[:, 0], return_counts=True)
    least = max(GROUPS, SHARE * len({group for _, group in uses}))
    often = {int(h): int(n) for h, n in zip(*counted, strict=True) if n >= least}
    for n, found in enumerate(places):
        for match, h in zip(found, hashes[n], strict=True):
            if h in often:
                blank = len(match[0]) - len(match[0].lstrip())
                yield n, Finding(Kind.BOILERPLATE, match.start() + blank, match.end(), f"{often[h]} groups")
                break


def _contradictions(path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The first disagreement of each row, by shard and row."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for row in read_jsonl(path):
        says, shows = (
            one if isinstance(one := row[key], str) else json.dumps(one) for key in ("text_says", "pixels_say")
        )
        place = {"field": None, "start": None, "end": None, "evidence": says, "note": f"{row['kind']}: {shows}"}
        found.setdefault((row["shard"], row["row"]), place)
    return found


def _count(kind: Kind, lines: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> dict[str, Any]:
    """rows, groups, splits, and as examples the most common evidence, with the first text that has it around it."""
    own = [line for line in lines if line["kind"] == kind]
    rows = {(line["id"], line["tag"]): line for line in own}.values()
    evidence = Counter(line["evidence"].lower() for line in own)
    examples = []
    for said, n in evidence.most_common(EXAMPLES):
        line = next(line for line in own if line["evidence"].lower() == said)
        start, end = line["start"], line["end"]
        text = texts[line["text"]] if line["text"] is not None else ""
        around = [text[max(0, start - AROUND) : start], text[end : end + AROUND]] if end else ["", ""]
        keys = ("id", "tag", "field", "evidence", "note")
        examples.append({"rows": n, "around": around} | {key: line[key] for key in keys})
    return {
        "sentence": kind.sentence,
        "rows": len(rows),
        "groups": len({line["group"] for line in rows}),
        "splits": dict(Counter(line["split"] for line in rows)),
        "different": len(evidence),
        "examples": examples,
    }
