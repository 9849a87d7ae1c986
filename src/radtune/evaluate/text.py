"""Text metrics of a prediction against a reference, 0 to 100: sacreBLEU, ROUGE, exact match, LLaMA-Factory's own.

An empty prediction scores 0 everywhere. Slow parts are cached per text and the longest common subsequence is
bit-parallel, because every reference is scored twice: against the model and, as a floor, against another sample.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
_TOKEN = re.compile(f"[a-z0-9]+|[{_CJK}]")
_CJK_CHARACTER = re.compile(f"[{_CJK}]")
_LATIN_WORD = re.compile("[A-Za-z]+")
_KEPT = 2**13  # texts whose n-grams are remembered: at most about 1 GB


def mostly_chinese(texts: Sequence[str]) -> bool:
    """Whether CJK characters outnumber Latin words over all texts; decides how sacreBLEU cuts them."""
    return sum(len(_CJK_CHARACTER.findall(t)) - len(_LATIN_WORD.findall(t)) for t in texts) > 0


def signatures(chinese: bool) -> dict[str, str]:
    """What each text metric is, precisely enough to repeat it. sacreBLEU has its own (`bleu_signature`)."""
    rouge = (
        f"rouge-score {version('rouge-score')}, F-measure x 100, mean over samples, lower case, Porter stemmer on "
        "words over 3 letters, punctuation dropped"
    )
    if chinese:
        rouge += "; each CJK character is a token, by this package's tokenizer, as rouge-score's own drops CJK"
    theirs = (
        f"as LLaMA-Factory 0.9.5 computes it: rouge-chinese {version('rouge-chinese')} on jieba {version('jieba')} "
        "tokens, F x 100, rounded to 4 digits a sample, mean over samples"
    )
    return {
        "rouge_1": rouge,
        "rouge_2": rouge,
        "rouge_l": rouge,
        "chrf": f"sacreBLEU {version('sacrebleu')} chrF2 of a sample (6 characters, no words), mean over samples",
        "exact_match": "prediction equals reference after runs of white space become one space; share in percent",
        "llamafactory_bleu_4": "LLaMA-Factory BLEU-4 (character level): nltk sentence_bleu on characters, smoothing "
        "method3, x 100, rounded to 4 digits a sample, mean over samples; near 40 for mismatched English captions",
        "llamafactory_rouge_1": theirs,
        "llamafactory_rouge_2": theirs,
        "llamafactory_rouge_l": theirs,
    }


@cache
def _sacrebleu(chinese: bool) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize="zh" if chinese else "13a")


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


@lru_cache(maxsize=2**16)
def chrf(prediction: str, reference: str) -> float:
    return float(_chrf().sentence_score(prediction, [reference]).score)


def bleu_signature(chinese: bool) -> str:
    bleu = _sacrebleu(chinese)
    bleu.corpus_score(["a"], [["a"]])  # it has no signature before its first score
    return str(bleu.get_signature())


def bleu_counts(prediction: str, reference: str, chinese: bool) -> list[int]:
    """What corpus BLEU sums over samples: tokens of both, matched 1- to 4-grams, 1- to 4-grams of the prediction.

    sacreBLEU cuts the words (tokenizer zh for Chinese, else 13a) and turns the sums into a score; the counting is done
    here, once a pair, where its `corpus_score` would do it again for each task.
    """
    ours, theirs = _bleu_ngrams(prediction, chinese), _bleu_ngrams(reference, chinese)
    matched = [_matched(a, b) for a, b in zip(ours, theirs, strict=True)]
    return [ours[0].total(), theirs[0].total(), *matched, *(counts.total() for counts in ours)]


def corpus_bleu(totals: NDArray[np.float64], order: int = 4) -> NDArray[np.float64]:
    """sacreBLEU's corpus BLEU, up to n-grams of `order`, from rows of sums of `bleu_counts`."""
    compute = _sacrebleu(False).compute_bleu
    rows = ([int(count) for count in row] for row in totals)
    return np.array(
        [
            compute(grams[:order], grams[4 : 4 + order], ours, theirs, smooth_method="exp", max_ngram_order=order).score
            for ours, theirs, *grams in rows
        ]
    )


@lru_cache(maxsize=_KEPT)
def _bleu_ngrams(text: str, chinese: bool) -> list[Counter[Hashable]]:
    words = tuple(_sacrebleu(chinese).tokenizer(text.rstrip()).split())
    return [Counter(zip(*(words[i:] for i in range(n)), strict=False)) for n in range(1, 5)]


def _matched(ours: Counter[Hashable], theirs: Counter[Hashable]) -> int:
    common = ours.keys() & theirs.keys()
    return sum(map(min, map(ours.__getitem__, common), map(theirs.__getitem__, common)))


@lru_cache(maxsize=2**16)
def scores(prediction: str, reference: str) -> dict[str, float]:
    """Every per-sample text metric of one pair, keyed as in `signatures`."""
    return (
        rouge(prediction, reference)
        | {"chrf": chrf(prediction, reference), "exact_match": exact_match(prediction, reference)}
        | llamafactory(prediction, reference)
    )


def exact_match(prediction: str, reference: str) -> float:
    return 100.0 if prediction.split() and prediction.split() == reference.split() else 0.0


def lcs_length(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence. Bit-parallel: Hyyrö 2004, "Bit-parallel LCS-length computation"."""
    masks: dict[Hashable, int] = {}
    for i, token in enumerate(a):
        masks[token] = masks.get(token, 0) | 1 << i
    ones = rows = (1 << len(a)) - 1
    for token in b:
        matched = rows & masks.get(token, 0)
        rows = ((rows + matched) | (rows - matched)) & ones
    return len(a) - rows.bit_count()


# --- rouge-score ---------------------------------------------------------------------------------------------------


class _Tokenizer:
    """rouge-score's default tokenizer with its stemmer, stems cached, plus a token for each CJK character."""

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer

        self._stem = cache(PorterStemmer().stem)

    def tokenize(self, text: str) -> list[str]:
        return [self._stem(word) if len(word) > 3 else word for word in _TOKEN.findall(text.lower())]


@cache
def _rouge_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2"], tokenizer=_Tokenizer())


@lru_cache(maxsize=_KEPT)
def words(text: str) -> list[str]:
    """The words that ROUGE compares: lower case, stemmed, each CJK character one."""
    found: list[str] = _rouge_scorer()._tokenizer.tokenize(text)
    return found


def rouge(prediction: str, reference: str) -> dict[str, float]:
    """ROUGE-1, -2 and -L F-measures x 100, equal to rouge-score's with its stemmer on."""
    ngrams = _rouge_scorer().score(reference, prediction)
    ours, theirs = words(prediction), words(reference)
    common = lcs_length(ours, theirs)
    return {
        "rouge_1": 100 * ngrams["rouge1"].fmeasure,
        "rouge_2": 100 * ngrams["rouge2"].fmeasure,
        "rouge_l": 100 * 2 * common / (len(ours) + len(theirs)) if common else 0.0,
    }


# --- LLaMA-Factory's metric, to the last digit: llamafactory/train/sft/metric.py, ComputeSimilarity ----------------


@lru_cache(maxsize=2**16)
def _jieba_cut(text: str) -> list[str]:
    import jieba

    jieba.setLogLevel(logging.WARNING)  # it announces the loading of its dictionary on stderr
    return list(jieba.cut(text))


@lru_cache(maxsize=_KEPT)
def _chinese_rouge_words(text: str) -> list[str]:
    """The words rouge_chinese 1.0.3 sees in jieba's tokens, cut into sentences and flattened again as it does."""
    from rouge_chinese import Rouge

    # jieba never joins across white space, so cutting piece by piece gives the same tokens, and the pieces repeat.
    sentences = Rouge().cut_sent(" ".join(token for piece in re.split(r"(\s)", text) for token in _jieba_cut(piece)))
    return [word for sentence in sentences if sentence for word in " ".join(sentence.split()).split(" ")]


@lru_cache(maxsize=_KEPT)
def _character_ngrams(text: str) -> list[Counter[Hashable]]:
    return [Counter(text[i : i + n] for i in range(len(text) - n + 1)) for n in range(1, 5)]


def llamafactory(prediction: str, reference: str) -> dict[str, float]:
    """LLaMA-Factory's BLEU-4 and ROUGE-1, -2, -L of one pair, each rounded to 4 digits as it rounds them."""
    result = {"llamafactory_bleu_4": round(100 * _character_bleu_4(prediction, reference), 4)}
    names = ["llamafactory_rouge_1", "llamafactory_rouge_2", "llamafactory_rouge_l"]
    if not prediction.strip() or not reference.strip():
        return result | dict.fromkeys(names, 0.0)
    ours, theirs = _chinese_rouge_words(prediction), _chinese_rouge_words(reference)
    for name, n in zip(names[:2], (1, 2), strict=True):
        a, b = ({tuple(words[i : i + n]) for i in range(len(words) - n + 1)} for words in (ours, theirs))
        result[name] = _rouge_chinese_f(len(a & b), len(a), len(b))
    result[names[2]] = _rouge_chinese_f(lcs_length(ours, theirs), len(ours), len(theirs))
    return result


def _rouge_chinese_f(common: int, ours: int, theirs: int) -> float:
    precision, recall = common / ours if ours else 0.0, common / theirs if theirs else 0.0
    return round(2.0 * ((precision * recall) / (precision + recall + 1e-8)) * 100, 4)


def _character_bleu_4(prediction: str, reference: str) -> float:
    """nltk's sentence_bleu of the characters with smoothing method3; its own takes 20 times as long."""
    precisions: list[float] = []
    zeros = 0
    for ours, theirs in zip(_character_ngrams(prediction), _character_ngrams(reference), strict=True):
        matched = _matched(ours, theirs)
        total = max(1, ours.total())
        if not matched and not precisions:
            return 0.0  # no character in common: nltk gives 0 before any smoothing
        if not matched:
            zeros += 1
        precisions.append(matched / total if matched else 1 / (2**zeros * total))
    penalty = 1.0 if len(prediction) > len(reference) else math.exp(1 - len(reference) / len(prediction))
    return penalty * math.exp(math.fsum(0.25 * math.log(p) for p in precisions))
