"""The wordings of the user turn: config/prompts/en.yaml and files of its shape."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from radtune.data.answers import TAGS
from radtune.files import UserError

Wordings = dict[str, list[str]]  # by tag


class Prompts(NamedTuple):
    """What a file holds; only `seen` has every tag, and the other two may be empty."""

    seen: Wordings
    unseen: Wordings  # those that training never uses
    constraint: str


def read_prompts(path: Path) -> Prompts:
    """Raises UserError where a tag has no wording, a key is no tag, or an unseen wording is among the seen ones."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise UserError(f"{path}: needs a list of wordings under each of {', '.join(TAGS)}.")
    unseen, constraint = found.pop("unseen", None) or {}, found.pop("constraint", None) or ""
    found.pop("cases", None)  # radtune.cases reads them
    if not isinstance(unseen, dict) or not isinstance(constraint, str):
        raise UserError(f"{path}: unseen must hold lists of wordings by tag, and constraint a sentence.")
    for where, wordings, tags in (("", found, TAGS), ("unseen.", unseen, tuple(unseen))):
        if unknown := sorted(map(str, set(wordings) - set(TAGS))):
            raise UserError(f"{path}: {where}{unknown[0]} is no known tag (they are {', '.join(TAGS)}).")
        for tag in tags:
            if not _are_wordings(wordings.get(tag)):
                raise UserError(f"{path}: {where}{tag} needs a list of one or more wordings.")
    for tag, wordings in unseen.items():
        if both := sorted({w.strip() for w in wordings} & {w.strip() for w in found[tag]}):
            raise UserError(f"{path}: unseen.{tag} has a wording of {tag}: {both[0]!r}; take it out of one of the two.")
    return Prompts(found, unseen, constraint.strip())


def _are_wordings(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) and one.strip() for one in value)


def taught(path: Path, wordings: int | None, constraint: bool) -> tuple[Wordings, str]:
    """What training uses: of each tag the first `wordings` (None: all), and the constraint, "" where none is asked for.

    Raises UserError, beside those of read_prompts(), where the file has no constraint but one is asked for.
    """
    found = read_prompts(path)
    if constraint and not found.constraint:
        raise UserError(f"{path}: has no constraint; write one, or set prompts.constraint to false.")
    return {tag: found.seen[tag][:wordings] for tag in TAGS}, found.constraint if constraint else ""


def choose(wordings: Wordings, seed: int, id: str, tag: str) -> str:
    """By seed, id and tag, so that a new row never changes another row's prompt."""
    choice = int.from_bytes(hashlib.sha256(f"{seed}/{id}/{tag}".encode()).digest()[:8], "big")
    return wordings[tag][choice % len(wordings[tag])]
