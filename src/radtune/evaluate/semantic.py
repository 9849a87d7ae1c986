"""How near an answer's meaning is to its reference's, with no model to download: latent semantic analysis of train.

Words that train uses in the same company lie close together (Deerwester et al. 1990), so that a paraphrase is worth
more than ROUGE gives it. Places, numbers and denials are watched by scores of their own: to this one they are words.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from radtune.evaluate import boxes, text

RANK, FITTED, SEED = 100, 10_000, 0

Floats = NDArray[np.float64]


class Space(NamedTuple):
    """Row of each word, its weight (words,), and the words in the latent space (words, rank)."""

    rows: dict[str, int]
    weights: Floats
    words: Floats
    fitted: int  # texts

    def signature(self) -> str:
        return (
            "cosine x 100, below 0 as 0, of prediction and reference in the latent space of TF-IDF (1 + ln tf, ln of "
            "(1 + texts)/(1 + those with the word) + 1, unit length; words as for ROUGE, no numbers) after an SVD "
            f"(SciPy {version('scipy')}) to rank {self.words.shape[1]}, fitted on {self.fitted} distinct answers of "
            f"train alone with {len(self.rows)} words; not where the reference is a box alone"
        )


def fit(references: Iterable[str], rank: int = RANK) -> Space | None:
    """The space of the distinct `references` that are no mere box, of FITTED drawn from more; None without a word."""
    from scipy.sparse.linalg import svds

    distinct = sorted(one for one in set(references) if boxes.parse(one) is None)
    counted = [_count(one) for one in random.Random(SEED).sample(distinct, min(FITTED, len(distinct)))]
    within = Counter(word for words in counted for word in words)
    if not within:
        return None
    rows = {word: n for n, word in enumerate(sorted(within))}
    weights = np.log((1 + len(counted)) / (1 + np.array([within[word] for word in rows]))) + 1
    matrix = _matrix(counted, rows, weights)
    if rank < min(matrix.shape):
        words = svds(matrix, k=rank, return_singular_vectors="vh", rng=np.random.default_rng(SEED))[2]
    else:  # svds takes no rank as large as that
        words = np.linalg.svd(matrix.toarray(), full_matrices=False)[2]
    return Space(rows, weights, words.T, len(counted))


def scores(space: Space, predictions: Sequence[str | None], references: Sequence[str]) -> Floats:
    """0 to 100 for each pair; NaN without a prediction, or where the reference is a box alone or has no known word."""
    ours, theirs = (_vectors(space, [one or "" for one in texts]) for texts in (predictions, references))
    found = 100 * np.clip(np.sum(ours * theirs, axis=1), 0, 1)
    asked = np.array([p is not None and boxes.parse(r) is None for p, r in zip(predictions, references, strict=True)])
    return np.where(asked & theirs.any(axis=1), found, np.nan)


def _count(one: str) -> Counter[str]:
    return Counter(word for word in text.words(one) if not word.isdecimal())


def _matrix(counted: Sequence[Counter[str]], rows: dict[str, int], weights: Floats) -> Any:
    """TF-IDF of texts, (texts, words), sparse, each of length 1; words that are not in `rows` are left out."""
    from scipy.sparse import csr_array, diags_array

    found = [[(rows[word], n) for word, n in words.items() if word in rows] for words in counted]
    columns, tf = np.array([pair for one in found for pair in one], np.int64).reshape(-1, 2).T
    ends = np.cumsum([0, *map(len, found)])
    matrix = csr_array(((1 + np.log(tf)) * weights[columns], columns, ends), shape=(len(counted), len(rows)))
    length = np.sqrt(matrix.power(2).sum(axis=1))
    return diags_array(1 / np.where(length, length, 1)) @ matrix


def _vectors(space: Space, texts: Sequence[str]) -> Floats:
    """(texts, rank), each of length 1, or 0 where the space knows no word of the text."""
    vectors = np.asarray(_matrix([_count(one) for one in texts], space.rows, space.weights) @ space.words)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 1e-9))
