"""Texts cut into the words that ROUGE compares, in English and Chinese; and which of the two a text is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache

CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
KEPT = 2**9  # texts whose words or n-grams are remembered, at 30 kB each: those of a sample, and answers common to many
_TOKEN = re.compile(f"[a-z0-9]+|[{CJK}]")
_CJK_CHARACTER = re.compile(f"[{CJK}]")
_LATIN_WORD = re.compile("[A-Za-z]+")


def mostly_chinese(texts: Sequence[str]) -> bool:
    """Whether CJK characters outnumber Latin words over all texts; decides how sacreBLEU cuts them."""
    return sum(len(_CJK_CHARACTER.findall(t)) - len(_LATIN_WORD.findall(t)) for t in texts) > 0


class _Tokenizer:
    """rouge-score's default tokenizer with its stemmer, stems cached, plus a token for each CJK character."""

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer

        self._stem = cache(PorterStemmer().stem)

    def tokenize(self, text: str) -> list[str]:
        return [self._stem(word) if len(word) > 3 else word for word in _TOKEN.findall(text.lower())]


@cache
def _tokenizer() -> _Tokenizer:
    return _Tokenizer()


@lru_cache(maxsize=KEPT)
def words(text: str) -> list[str]:
    """The words that ROUGE compares: lower case, stemmed, each CJK character one."""
    found: list[str] = _tokenizer().tokenize(text)
    return found
