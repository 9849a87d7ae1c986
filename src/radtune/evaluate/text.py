"""Text metrics of a prediction against a reference, 0 to 100: sacreBLEU, ROUGE, exact match, LLaMA-Factory's own.

An empty prediction scores 0 everywhere. As a reference is scored against the model and up to four floors, what is
counted in a text is kept while its sample is at hand.
"""

from __future__ import annotations

import itertools
import logging
import math
import re
from collections import defaultdict
from collections.abc import Hashable, Sequence
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from radtune.language.words import KEPT as _KEPT
from radtune.language.words import words

_SENTENCE_END = re.compile(r"[。！？?]|\.{6}|…{2}")  # where rouge_chinese cuts, beside line feeds


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


def chrf(prediction: str, reference: str) -> float:
    """sacreBLEU's chrF2 of one pair; it would count a reference's n-grams again for each answer to it."""
    ours, theirs = (_characters("".join(text.split()), 6) for text in (prediction, reference))
    counts = zip(_numbers(ours, 6), _numbers(theirs, 6), _matched(ours, theirs, 6), strict=True)
    return float(_chrf()._compute_f_score([count for of_order in counts for count in of_order]))


def bleu_signature(chinese: bool) -> str:
    bleu = _sacrebleu(chinese)
    bleu.corpus_score(["a"], [["a"]])  # it has no signature before its first score
    return str(bleu.get_signature())


def bleu_counts(prediction: str, reference: str, chinese: bool) -> tuple[int, ...]:
    """What corpus BLEU sums over samples: tokens of both, matched 1- to 4-grams, 1- to 4-grams of the prediction.

    sacreBLEU cuts the words (tokenizer zh for Chinese, else 13a); the counting is done here, once a pair, where its
    `corpus_score` would do it again for each task.
    """
    ours, theirs = _bleu_words(prediction, chinese), _bleu_words(reference, chinese)
    return ours.length, theirs.length, *_matched(ours, theirs, 4), *_numbers(ours, 4)


# an array at a time, yet to the last digit what Python's own give
_log, _exp = np.frompyfunc(math.log, 1, 1), np.frompyfunc(math.exp, 1, 1)


def corpus_bleu(totals: NDArray[np.float64], order: int = 4) -> NDArray[np.float64]:
    """sacreBLEU's corpus BLEU with smoothing exp, up to n-grams of `order`, from rows of sums of `bleu_counts`.

    Equal to its `compute_bleu`, which takes one row at a time and words each score.
    """
    scored = totals[:, 2 : 2 + order].any(axis=1) & totals[:, 6 : 6 + order].all(axis=1)
    ours, theirs, *grams = totals[scored].T
    matched, found = np.array(grams[:order]), np.array(grams[4 : 4 + order])
    smoothed = 100.0 / (2.0 ** np.cumsum(matched == 0, axis=0) * found)
    logs = _log(np.where(matched > 0, 100.0 * matched / found, smoothed))
    penalty = _exp(np.minimum(1 - theirs / ours, 0.0))
    scores = np.zeros(len(totals))
    scores[scored] = penalty * _exp(sum(logs) / order)
    return scores


class _Ngrams(NamedTuple):
    """The n-grams of a text as sorted numbers whose last three bits are n - 1, and how often each is there.

    A number of 61 bits stands for an n-gram: two of them share one in 20,000 pairs of texts in fewer than one run of a
    million. Counter takes four times as long.
    """

    length: int  # of the text, in what it is cut into
    grams: NDArray[np.uint64]
    counts: NDArray[np.intp]


def _ngrams(codes: NDArray[np.uint64], order: int) -> _Ngrams:
    """1- to `order`-grams of a text that is cut into `codes`."""
    grams, found = np.zeros(len(codes) + 1, np.uint64), [codes[:0]]
    for n in range(min(order, len(codes))):
        grams = grams[:-1] * np.uint64(0x9E3779B97F4A7C15) + codes[n:]
        found.append(grams << np.uint64(3) | np.uint64(n))
    return _Ngrams(len(codes), *np.unique(np.concatenate(found), return_counts=True))


def _numbers(text: _Ngrams, order: int) -> list[int]:
    return [max(text.length - n, 0) for n in range(order)]


def _matched(ours: _Ngrams, theirs: _Ngrams, order: int) -> list[int]:
    """How many 1- to `order`-grams two texts share, each as often as it is in both."""
    if not ours.length or not theirs.length:
        return [0] * order
    place = np.minimum(np.searchsorted(theirs.grams, ours.grams), len(theirs.grams) - 1)
    both = theirs.grams[place] == ours.grams
    least = np.minimum(ours.counts[both], theirs.counts[place[both]])
    counts = np.bincount((ours.grams[both] & np.uint64(7)).astype(np.intp), least, minlength=order)
    return [int(count) for count in counts]


@lru_cache(maxsize=_KEPT)
def _characters(text: str, order: int) -> _Ngrams:
    return _ngrams(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64), order)


_codes: dict[str, int] = defaultdict(itertools.count(1).__next__)  # of each word met


def _words(words: Sequence[str], order: int) -> _Ngrams:
    return _ngrams(np.array([_codes[word] for word in words], np.uint64), order)


@lru_cache(maxsize=_KEPT)
def _bleu_words(text: str, chinese: bool) -> _Ngrams:
    return _words(_sacrebleu(chinese).tokenizer(text.rstrip()).split(), 4)


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


@lru_cache(maxsize=_KEPT)
def _rouge_words(text: str) -> _Ngrams:
    return _words(words(text), 2)


def rouge(prediction: str, reference: str) -> dict[str, float]:
    """ROUGE-1, -2 and -L F-measures x 100, equal to rouge-score's with its stemmer on."""
    from rouge_score.scoring import fmeasure

    ours, theirs = _rouge_words(prediction), _rouge_words(reference)
    counts = zip(_matched(ours, theirs, 2), _numbers(ours, 2), _numbers(theirs, 2), strict=True)
    found = [100 * fmeasure(matched / max(a, 1), matched / max(b, 1)) for matched, a, b in counts]
    return {"rouge_1": found[0], "rouge_2": found[1], "rouge_l": rouge_l(prediction, reference)}


def rouge_l(prediction: str, reference: str) -> float:
    ours, theirs = words(prediction), words(reference)
    common = lcs_length(ours, theirs)
    return 100 * 2 * common / (len(ours) + len(theirs)) if common else 0.0


# --- LLaMA-Factory's metric, to the last digit: llamafactory/train/sft/metric.py, ComputeSimilarity ----------------


@lru_cache(maxsize=2**16)
def _jieba_cut(text: str) -> list[str]:
    import jieba

    jieba.setLogLevel(logging.WARNING)  # it announces the loading of its dictionary on stderr
    return list(jieba.cut(text))


@lru_cache(maxsize=_KEPT)
def _chinese_rouge_words(text: str) -> tuple[list[str], set[tuple[str, ...]], set[tuple[str, ...]]]:
    """The words rouge_chinese 1.0.3 sees in jieba's tokens, cut into sentences and flattened again as it does; and the
    different 1- and 2-grams of them.
    """
    from rouge_chinese import Rouge

    # jieba never joins across white space, so cutting piece by piece gives the same tokens, and the pieces repeat.
    tokens = " ".join(token for piece in re.split(r"(\s)", text) for token in _jieba_cut(piece))
    sentences = Rouge().cut_sent(tokens) if _SENTENCE_END.search(tokens) else tokens.rstrip().split("\n")
    words = [word for sentence in sentences if sentence for word in " ".join(sentence.split()).split(" ")]
    return words, {(word,) for word in words}, set(itertools.pairwise(words))


def llamafactory(prediction: str, reference: str) -> dict[str, float]:
    """LLaMA-Factory's BLEU-4 and ROUGE-1, -2, -L of one pair, each rounded to 4 digits as it rounds them."""
    result = {"llamafactory_bleu_4": round(100 * _character_bleu_4(prediction, reference), 4)}
    names = ["llamafactory_rouge_1", "llamafactory_rouge_2", "llamafactory_rouge_l"]
    if not prediction.strip() or not reference.strip():
        return result | dict.fromkeys(names, 0.0)
    (ours, *grams), (theirs, *stated) = (_chinese_rouge_words(text) for text in (prediction, reference))
    for name, a, b in zip(names[:2], grams, stated, strict=True):
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
    ours, theirs = _characters(prediction, 4), _characters(reference, 4)
    for matched, number in zip(_matched(ours, theirs, 4), _numbers(ours, 4), strict=True):
        total = max(1, number)
        if not matched and not precisions:
            return 0.0  # no character in common: nltk gives 0 before any smoothing
        if not matched:
            zeros += 1
        precisions.append(matched / total if matched else 1 / (2**zeros * total))
    penalty = 1.0 if len(prediction) > len(reference) else math.exp(1 - len(reference) / len(prediction))
    return penalty * math.exp(math.fsum(0.25 * math.log(p) for p in precisions))
