"""How near two texts are in meaning, with no model to download: latent semantic analysis of train.

Words that train uses in the same company lie close together (Deerwester et al. 1990). Places, numbers and denials are
but words to it: what must not change is held by terms.py and places.py.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from radtune.language.words import words as words_of

RANK, FITTED, SEED = 100, 10_000, 0

Floats = NDArray[np.float64]


class Space(NamedTuple):
    """Row of each word, its weight (words,), and the words in the latent space (words, rank)."""

    rows: dict[str, int]
    weights: Floats
    words: Floats
    fitted: int  # texts


def fit(texts: Iterable[str], rank: int = RANK) -> Space | None:
    """The space of the distinct `texts`, of FITTED drawn from more; None without a word."""
    from scipy.sparse.linalg import svds

    distinct = sorted(set(texts))
    counted = [_count(one) for one in random.Random(SEED).sample(distinct, min(FITTED, len(distinct)))]
    within = Counter(word for words in counted for word in words)
    if not within:
        return None
    rows = {word: n for n, word in enumerate(sorted(within))}
    weights = np.log((1 + len(counted)) / (1 + np.array([within[word] for word in rows]))) + 1
    matrix = _matrix(counted, rows, weights)
    if rank < min(matrix.shape):
        _, values, words = svds(matrix, k=rank, return_singular_vectors="vh", rng=np.random.default_rng(SEED))
    else:  # svds takes no rank as large as that
        _, values, words = np.linalg.svd(matrix.toarray(), full_matrices=False)
    words = words[values > 1e-6 * values.max()]  # what no text has a part in is arbitrary, another on each machine
    return Space(rows, weights, words.T, len(counted))


def vectors(space: Space, texts: Sequence[str]) -> Floats:
    """(texts, rank), each of length 1, or 0 where the space knows no word of the text."""
    found = np.asarray(_matrix([_count(one) for one in texts], space.rows, space.weights) @ space.words)
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(np.divide(found, length, out=np.zeros_like(found), where=length > 1e-9))


def similarity(space: Space, texts: Sequence[str], others: Sequence[str]) -> Floats:
    """Cosine x 100 of each pair, 0 to 100; NaN where the space knows no word of the other."""
    ours, theirs = vectors(space, texts), vectors(space, others)
    return np.where(theirs.any(axis=1), 100 * np.clip(np.sum(ours * theirs, axis=1), 0, 1), np.nan)


def _count(one: str) -> Counter[str]:
    return Counter(word for word in words_of(one) if not word.isdecimal())


def _matrix(counted: Sequence[Counter[str]], rows: dict[str, int], weights: Floats) -> Any:
    """TF-IDF of texts, (texts, words), sparse, each of length 1; words that are not in `rows` are left out."""
    from scipy.sparse import csr_array, diags_array

    found = [[(rows[word], n) for word, n in words.items() if word in rows] for words in counted]
    columns, tf = np.array([pair for one in found for pair in one], np.int64).reshape(-1, 2).T
    ends = np.cumsum([0, *map(len, found)])
    matrix = csr_array(((1 + np.log(tf)) * weights[columns], columns, ends), shape=(len(counted), len(rows)))
    length = np.sqrt(matrix.power(2).sum(axis=1))
    return diags_array(1 / np.where(length, length, 1)) @ matrix
