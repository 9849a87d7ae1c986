"""Terms read from sentences, and answers made wrong on purpose: the score that watches moves, ROUGE hardly does."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radtune.evaluate import clinical, slots, text
from radtune.evaluate.clinical import counts, named, scores

REFERENCE = (
    "The image is a non-contrast CT scan of the brain at the level of the basal ganglia, showing the thalami and the "
    "third ventricle, with a large hyperdense area on the left side. It occupies approximately 3.5% of the image area. "
    "This suggests acute haemorrhage with oedema around it; there is no midline shift and no fracture of the skull."
)
SWAPPED = REFERENCE.replace("left", "right")
FLIPPED = REFERENCE.replace("no midline shift", "a midline shift")
CHANGED = REFERENCE.replace("3.5%", "9.5%")
INVENTED = REFERENCE.replace("oedema", "hydrocephalus")
TEMPLATE = (  # the likeliest words of another image
    "The image is a non-contrast CT scan of the brain at the level of the lateral ventricles, showing the falx and the "
    "white matter, with a large hypodense area on the right side. It occupies approximately 1.2% of the image area. "
    "This suggests an old infarct with atrophy around it; there is no midline shift and no fracture of the skull."
)


def all_scores(prediction: str) -> dict[str, float]:
    found = scores(prediction, REFERENCE) | slots.scores(prediction, REFERENCE)
    of = {key: [float(n) for n in value] for key, value in counts(prediction, REFERENCE).items()}
    import numpy as np

    return found | {f"{key}_f1": float(clinical.f1(np.array([value]))[0]) for key, value in of.items()}


@pytest.mark.parametrize(
    ("prediction", "metric", "before", "after"),
    [
        (SWAPPED, "laterality", 100, 0),
        (FLIPPED, "denial", 100, 75),
        (FLIPPED, "findings_invented", 0, 1),
        (CHANGED, "area_error", 0, 6),
        (INVENTED, "finding_f1", 100, 50),
        (INVENTED, "findings_missed", 0, 1),
    ],
)
def test_what_is_wrong_moves_the_score_that_watches_it(
    prediction: str, metric: str, before: float, after: float
) -> None:
    assert all_scores(REFERENCE)[metric] == before
    assert all_scores(prediction)[metric] == after
    assert text.rouge(prediction, REFERENCE)["rouge_l"] > 96


def test_a_template_scores_high_by_rouge_and_low_by_what_it_says() -> None:
    found = all_scores(TEMPLATE)
    assert text.rouge(TEMPLATE, REFERENCE)["rouge_l"] > 75
    assert found["finding_f1"] == found["laterality"] == found["slot_density"] == 0
    assert (found["findings_invented"], found["findings_missed"]) == (2, 2)
    assert found["anatomy_f1"] < 50


@pytest.mark.parametrize(
    ("sentence", "findings"),
    [
        ("No hyperdense area; an infarct is seen.", {"infarct": True}),
        (
            "There is no evidence of haemorrhage, mass or fracture, but an old infarct.",
            {"haemorrhage": False, "mass": False, "fracture": False, "infarct": True},
        ),
        ("Hemorrhage is not seen.", {"haemorrhage": False}),
        (
            "Hydrocephalus and a cyst are absent. A tumor is seen.",
            {"hydrocephalus": False, "cyst": False, "mass": True},
        ),
        ("Acute blood rather than an infarct.", {"haemorrhage": True, "infarct": False}),
        ("Without mass effect. An abscess of 1.5 cm.", {"mass effect": False, "abscess": True}),
        (
            "No bleeding here, a bleed there is.",
            {"haemorrhage": False},
        ),  # what one sentence denies and states is denied
        ("No bleeding here. A bleed there.", {"haemorrhage": True}),
        ("There is little pressure on the falx", {"mass effect": False}),
        ("未见出血，可见左侧额叶梗死。", {"haemorrhage": False, "infarct": True}),
        ("占位效应明显，中线移位", {"mass effect": True, "midline shift": True}),
        ("The notes say nothing of a massive storm in Ischia.", {}),
        ("", {}),
    ],
)
def test_findings_are_stated_or_denied(sentence: str, findings: dict[str, bool]) -> None:
    assert named(sentence, "findings") == findings


def test_synonyms_are_one_and_languages_too() -> None:
    assert counts("a haematoma in the putamen", "fresh blood in the basal ganglia") == {
        "finding": (1, 0, 0),
        "anatomy": (1, 0, 0),
    }
    assert counts("左侧丘脑血肿", "bleeding of the left thalamus") == {"finding": (1, 0, 0), "anatomy": (1, 0, 0)}
    assert named("frontal horns of the ventricles", "anatomy") == {"lateral ventricles": True}


def test_what_neither_text_names_is_left_out() -> None:
    assert counts("a scan", "a picture") == {}
    assert scores("a scan", "a picture") == {}
    assert scores("bilateral", "on both sides") == {"laterality": 100}


def test_every_way_names_its_own_term() -> None:
    """An English word is one that its own pattern finds; no two terms of a section share one."""
    for section in ("findings", "anatomy", "sides"):
        for term, ways in clinical._lexicon()[section].items():
            for way in ways:
                if re.fullmatch(r"[\w -]+", way):
                    assert named(f"It is {way} here", section) == {term: True}, (section, way)


@given(st.text(), st.text())
def test_no_text_is_an_error(one: str, other: str) -> None:
    assert all(value >= 0 for value in scores(one, other).values())
