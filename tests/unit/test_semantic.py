"""Semantic similarity: worked out by hand on three sentences, and what it must and must not tell apart."""

import math

import numpy as np
import pytest

from radtune.evaluate import semantic, text
from radtune.evaluate.semantic import fit, scores
from radtune.language import meaning

CORPUS = ["acute blood", "acute clot", "old scar"]
TRAIN = [
    "A hyperdense area in the left frontal lobe suggests an acute haemorrhage with oedema around it.",
    "Acute haemorrhage in the right temporal lobe; the area is hyperdense and oedema surrounds it.",
    "The hyperdense area is an acute haemorrhage of the basal ganglia.",
    "A hypodense area in the territory of the middle cerebral artery suggests an old infarct.",
    "An old infarct in the right parietal lobe; the area is hypodense and the sulci are wide.",
    "The hypodense area is an old infarct of the cerebellum with atrophy.",
    "左侧额叶高密度影，提示急性出血伴水肿。",
    "右侧颞叶急性出血，高密度影，周围水肿。",
    "小脑低密度影，提示陈旧性梗死。",
    "右侧顶叶低密度影，陈旧性梗死，脑沟增宽。",
]


def score(prediction: str | None, reference: str, corpus: list[str] = TRAIN, **options: int) -> float:
    space = fit(corpus, **options)
    assert space is not None
    return float(scores(space, [prediction], [reference])[0])


def test_three_sentences_by_hand() -> None:
    """At full rank, of "acute blood" and "acute clot": the share of acute, which two of three sentences have."""
    acute, other = math.log(4 / 3) + 1, math.log(4 / 2) + 1
    assert score("acute blood", "acute clot", CORPUS) == pytest.approx(100 * acute**2 / (acute**2 + other**2))
    assert score("acute blood", "old scar", CORPUS) == pytest.approx(0, abs=1e-9)
    # twice the word counts 1 + ln 2 times
    twice = acute * (1 + math.log(2))
    assert score("acute acute clot", "acute clot", [*CORPUS, "acute acute clot"]) < 100
    space = fit(CORPUS)
    assert space is not None
    row = meaning._matrix([meaning._count("acute acute clot")], space.rows, space.weights).toarray()[0]
    assert row[space.rows["acut"]] == pytest.approx(twice / math.hypot(twice, other))


def test_words_of_the_same_company_are_near() -> None:
    """At rank 1 the sentences with acute are one direction: blood and clot lie on it alike, a scar not at all."""
    assert text.rouge("blood", "clot")["rouge_1"] == 0
    assert score("blood", "clot", CORPUS, rank=1) == pytest.approx(100)
    assert score("scar", "clot", CORPUS, rank=1) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("rank", [2, 100])
@pytest.mark.parametrize("reference", TRAIN)
def test_a_reference_is_its_own_equal(reference: str, rank: int) -> None:
    assert score(reference, reference, rank=rank) == pytest.approx(100)


@pytest.mark.parametrize(
    ("paraphrase", "other", "reference"),
    [
        ("Oedema surrounds an acute hyperdense haemorrhage of the left frontal lobe.", TRAIN[3], TRAIN[0]),
        ("Left frontal haemorrhage, acute: a hyperdense area.", TRAIN[4], TRAIN[0]),
        ("额叶左侧见急性出血，周围水肿，呈高密度影。", TRAIN[9], TRAIN[6]),
    ],
)
@pytest.mark.parametrize("rank", [6, 100])
def test_the_same_content_in_other_words_beats_another_case(
    paraphrase: str, other: str, reference: str, rank: int
) -> None:
    assert score(paraphrase, reference, rank=rank) > 20 + score(other, reference, rank=rank)


def test_what_has_no_score_and_what_scores_nothing() -> None:
    box = '[{"bbox_2d": [0, 0, 100, 100], "label": "acute"}]'
    assert math.isnan(score(None, "acute blood", CORPUS))
    assert math.isnan(score(box, box, CORPUS))
    assert math.isnan(score("acute", "nowhere known", CORPUS))
    assert score("", "acute blood", CORPUS) == score("1 2 3", "acute blood", CORPUS) == 0
    assert fit([]) is fit([box]) is fit(["12 3.5"]) is None


def test_the_same_in_every_order_and_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = TRAIN, [*TRAIN[1:], TRAIN[0]]

    def found(corpus: list[str]) -> list[float]:
        space = fit(corpus, rank=3)
        assert space is not None
        return list(scores(space, *pairs))

    assert found(TRAIN) == found(TRAIN[::-1]) == found(TRAIN * 2)
    monkeypatch.setattr(meaning, "FITTED", 6)
    space = fit(TRAIN)
    assert space is not None
    assert "fitted on 6 distinct answers of train alone" in semantic.signature(space)
    assert found(TRAIN) == found(TRAIN[::-1])
    assert not np.isnan(found(TRAIN)).all()
