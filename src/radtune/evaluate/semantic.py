"""How near an answer's meaning is to its reference's, in the latent semantic space of train's answers.

A paraphrase is worth more than ROUGE gives it. Places, numbers and denials are watched by scores of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from radtune.evaluate import boxes
from radtune.language import meaning
from radtune.language.meaning import Space

Floats = NDArray[np.float64]


def signature(space: Space) -> str:
    return (
        "cosine x 100, below 0 as 0, of prediction and reference in the latent space of TF-IDF (1 + ln tf, ln of "
        "(1 + texts)/(1 + those with the word) + 1, unit length; words as for ROUGE, no numbers) after an SVD "
        f"(SciPy {version('scipy')}) to rank {space.words.shape[1]}, fitted on {space.fitted} distinct answers of "
        f"train alone with {len(space.rows)} words; not where the reference is a box alone"
    )


def fit(references: Iterable[str], rank: int = meaning.RANK) -> Space | None:
    """The space of the `references` that are no mere box; None without a word."""
    return meaning.fit((one for one in set(references) if boxes.parse(one) is None), rank)


def scores(space: Space, predictions: Sequence[str | None], references: Sequence[str]) -> Floats:
    """0 to 100 for each pair; NaN without a prediction, or where the reference is a box alone or has no known word."""
    found = meaning.similarity(space, [one or "" for one in predictions], references)
    asked = np.array([p is not None and boxes.parse(r) is None for p, r in zip(predictions, references, strict=True)])
    return np.where(asked, found, np.nan)
