"""How similar cases enter a question: the block of their answers, worded under `cases` in a file of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from radtune.control import neutral
from radtune.files import UserError
from radtune.resize import IMAGE

KEYS = ("before", "case", "after")


def read_wording(prompts: Path) -> dict[str, str]:
    """{before, case, after}; `case` holds {n} and {answer}. Raises UserError where one is missing."""
    content = yaml.safe_load(prompts.read_text(encoding="utf-8"))
    found = content.get("cases") if isinstance(content, dict) else None
    if not isinstance(found, dict) or not all(isinstance(found.get(key), str) for key in KEYS):
        raise UserError(f"{prompts}: retrieval needs cases: {{{', '.join(KEYS)}}}, as in config/prompts/en.yaml.")
    if "{answer}" not in found["case"]:
        raise UserError(f"{prompts}: cases.case needs {{answer}}, for which a case's answer stands.")
    return {key: found[key] for key in KEYS}


def with_cases(content: str, answers: Sequence[str], wording: dict[str, str], characters: int) -> str:
    """A user turn, `<image>` and question, with the answers of similar cases before the question; as it is without any.

    An answer is one line, cut after so many characters, and holds nothing that would be obeyed. A box stays as it was,
    in its own picture's frame, and the wording says so: pictures share their letterbox, so it is a hint of a place.
    """
    if not answers:
        return content
    lines = [wording["before"]]
    for n, answer in enumerate(answers, 1):
        plain = neutral(" ".join(answer.split()))
        shown = plain if len(plain) <= characters else f"{plain[:characters]}…"
        lines.append(wording["case"].replace("{n}", str(n)).replace("{answer}", shown))
    image, question = (IMAGE, content.removeprefix(IMAGE)) if content.startswith(IMAGE) else ("", content)
    return image + "\n".join([*lines, wording["after"], question])
