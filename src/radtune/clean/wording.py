"""Wording that should not be learned, found in every kept text by itself (text.py) and by what the others have; what
becomes of it is rewrite.py's.

    radtune find-wording --samples samples.parquet --disagreements disagreements.jsonl --out wording.parquet ...

wording.parquet: a row for each kind found in a field of an answer: id (as in the ShareGPT files), tag, split, kind,
field, start and end of the evidence there (characters; all three null of a contradiction), evidence, note.
wording.json: counts by kind and split, and of each kind its most common evidence with an example.

What is rare, misspelt or boilerplate is told by train alone, so that no text of validation or test decides which rows
of train are dropped.
"""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from radtune.clean.text import GROUPS, OFTEN, SHARE, Finding, Kind, by_lexicon, fields, garbled, lower
from radtune.files import read_jsonl, replacing, write_json
from radtune.language.terms import pieces
from radtune.language.words import CJK

FEW = 20  # texts: a word or phrase in more is neither rare nor misspelt
LENGTH = 20  # characters of a sentence that is boilerplate
EXAMPLES, AROUND = 5, 60  # of a kind; characters to each side of the evidence

Ints = NDArray[np.integer[Any]]


_WORD = re.compile(rf"([a-z]+|[{CJK}])|[^\sa-z{CJK}]+")  # or, without a group, what parts words but a blank
_SENTENCE = re.compile(r"[^.!?。！？；\n]+(?:\.(?=\d)[^.!?。！？；\n]+)*[.!?。！？；]*")


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
    trained = [row[5] == "train" for row in rows]
    uses = {(n, g) for g, own, used in zip(of_group, said, trained, strict=True) if used for n in own.values()}
    found = _find(list(numbers), sorted(uses))
    wrong = _contradictions(disagreements)
    texts, lines = list(numbers), []
    for (shard, number, id, tag, _, split, _), group, own in zip(rows, of_group, said, strict=True):
        kinds: dict[tuple[Kind, str | None], dict[str, Any]] = {}
        for name, n in own.items():
            for kind, start, end, note, only in found.get(n, ()):
                if only not in (None, group):
                    continue
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
    """What is found in each of `texts`, by its number; `uses` are pairs of a text and a group of train that has it."""
    found: dict[int, list[Finding]] = defaultdict(list)
    numbers = {"": 0}  # of each word; 0 parts words
    count: Counter[int] = Counter()  # texts of train that have a word
    trained = {n for n, _ in uses}
    said, ends = array("i"), [0]
    for n, text in enumerate(texts):
        low = lower(text)
        found_here = [*by_lexicon(low), *garbled(low, text)]
        if found_here:
            found[n] += found_here
        words = [numbers.setdefault(word, len(numbers)) for word in _WORD.findall(low)]
        said.extend([*words, 0])
        ends.append(len(said))
        if n in trained:
            count.update(set(words))
    counted = {word: count[n] for word, n in numbers.items() if n}
    for n, of in groupby(_unusual(counted, np.asarray(said), ends, uses), key=itemgetter(0)):
        spans = [match.span() for match in _WORD.finditer(lower(texts[n]))]
        for _, i, kind, width, note, group in of:
            found[n].append(Finding(kind, spans[i][0], spans[i + width - 1][1], note, group))
    for n, sentence in _boilerplate(texts, uses):
        found[n].append(sentence)
    return found


def _unusual(
    count: Mapping[str, int], said: Ints, ends: Sequence[int], uses: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int, Kind, int, str, int | None]]:
    """Text, place among its words, kind, number of words, note, and the group that is meant, of what is unusual.

    `count` has of each word the texts of train; `said` are the numbers of all words, from 1 in its order, of all texts
    one after the other, with 0 where more than a blank parts them; `ends` tell where each text begins and ends.
    """
    least = np.full(len(ends) - 1, np.iinfo(np.int32).max, np.int32)  # of the groups of train that have a text
    greatest = np.full(len(ends) - 1, -1, np.int32)
    for n, group in uses:
        least[n], greatest[n] = min(least[n], group), max(greatest[n], group)
    text_of = np.repeat(np.arange(len(ends) - 1, dtype=np.int32), np.diff(ends))

    def rows(kind: Kind, width: int, held: _Held, wanted: Any, notes: Sequence[str] = ()) -> Iterator[Any]:
        chosen = np.flatnonzero(np.repeat(wanted, np.diff(held.starts, append=len(held.places))))
        which = np.searchsorted(held.starts, chosen, "right") - 1
        for at, of in sorted(zip(held.places[chosen].tolist(), which.tolist(), strict=True)):
            group = int(held.least[of]) if not notes and held.texts[of] else None
            yield int(text_of[at]), at - ends[text_of[at]], kind, width, notes[of] if notes else "", group

    words, several = ["", *count], len({group for _, group in uses}) > 1  # groups to compare with
    terms = _misspelt(count)
    few = np.array([False, *(n <= FEW for n in count.values())])
    at = np.flatnonzero(few[said])
    if len(at):
        held = _hold(said[at].astype(np.int64), at, text_of, least, greatest)
        notes = [terms.get(words[n], "") for n in held.numbers]
        yield from rows(Kind.MISSPELT, 1, held, np.array(notes) != "", notes)
        long = np.array([len(words[n]) > 2 or not words[n].isascii() for n in held.numbers])
        yield from rows(Kind.RARE, 1, held, held.alone() & long & several)
    seen = np.bincount(said[greatest[text_of] >= 0], minlength=len(words)).astype(np.float32)
    seen[0] = 0
    chance = seen[said[:-1]] * seen[said[1:]] / max(1, seen.sum())
    at = np.flatnonzero(chance >= OFTEN)
    if several and len(at):
        pairs = said[at].astype(np.int64) * len(words) + said[at + 1]
        held = _hold(pairs, at, text_of, least, greatest)
        yield from rows(Kind.PHRASE, 2, held, held.alone())


class _Held(NamedTuple):
    """Words or phrases by number, ascending, with who holds each."""

    numbers: list[int]
    texts: Ints  # of train that have it, how many
    least: Ints  # of the groups of those
    greatest: Ints  # -1 where train has none
    starts: Ints  # in `places`, where its own begin
    places: Ints  # where it stands first in each text, of train or not

    def alone(self) -> Any:
        """Which of them a single group of train has, or none, in FEW texts at most."""
        return (self.texts <= FEW) & ((self.texts == 0) | (self.least == self.greatest))


def _hold(numbers: Ints, places: Ints, text_of: Ints, least: Ints, greatest: Ints) -> _Held:
    """Of the `numbers` at `places`; `least` and `greatest` of each text's groups."""
    keys = numbers * len(text_of) + places  # sorted by number, text and place
    keys.sort()
    numbers, places = np.divmod(keys, len(text_of))
    texts = text_of[places]
    first = (np.diff(numbers, prepend=-1) != 0) | (np.diff(texts, prepend=-1) != 0)
    numbers, places, texts = numbers[first], places[first], texts[first]
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    count = np.add.reduceat(greatest[texts] >= 0, starts, dtype=np.int64)
    groups = np.minimum.reduceat(least[texts], starts), np.maximum.reduceat(greatest[texts], starts)
    return _Held(numbers[starts].tolist(), count, *groups, starts, places)


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


def _boilerplate(texts: Sequence[str], uses: Sequence[tuple[int, int]]) -> Iterator[tuple[int, Finding]]:
    """Of each text its first sentence that stands in so many groups of train; rows of one group count once."""
    places = [[m for m in _SENTENCE.finditer(text) if len(m[0].strip()) >= LENGTH] for text in texts]
    hashes = [[hash(match[0].strip()) for match in found] for found in places]
    pairs = np.array([(h, group) for n, group in uses for h in hashes[n]], np.int64).reshape(-1, 2)
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
