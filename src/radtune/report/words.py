"""The page's own words in two languages: `t("{n:,} samples", n=12)` is English text that carries its Chinese along.

Templates write both, and report.js shows one. Text from data has no translation and is a value, never a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml

_NUMBER = re.compile(r"\d+(?:\.\d+)*")
_BETWEEN = {"; ": "；", ", ": "，"}


class Words(str):
    """English text; `zh` is the same in Chinese."""

    zh: str


def t(english: str, **values: object) -> Words:
    """The text with its {placeholders} filled in both languages; Words as values are translated too.

    A text that words.zh.yaml lacks stays English: no report fails for want of a translation, but a test does.
    """
    found = _chinese().get(english, english)
    return _words(english.format(**values), found.format(**{name: chinese(v) for name, v in values.items()}))


def said(text: str) -> Words:
    """A fixed text of another stage, with its Chinese where words.zh.yaml has one: as it stands, or by `key`."""
    found, of_any_numbers = (_chinese().get(of) for of in (text, key(text)))
    return _words(text, found or (of_any_numbers.format(*_NUMBER.findall(text)) if of_any_numbers else text))


def key(text: str) -> str:
    """The text with `{}` for each number, such as a version's or how many draws there were."""
    return _NUMBER.sub("{}", text)


def join(parts: Iterable[str], between: str = "; ") -> Words:
    """Parts one after the other, `between` being "; " or ", "."""
    parts = list(parts)
    return _words(between.join(parts), _BETWEEN[between].join(map(str, map(chinese, parts))))


def chinese(value: object) -> object:
    """What stands for `value` in a Chinese text."""
    return value.zh if isinstance(value, Words) else value


def _words(english: str, zh: str) -> Words:
    words = Words(english)
    words.zh = zh
    return words


@cache
def _chinese() -> dict[str, str]:
    found: dict[str, str] = yaml.safe_load(Path(__file__).with_name("words.zh.yaml").read_text(encoding="utf-8"))
    return found
