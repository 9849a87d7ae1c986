"""Terms read from sentences, and answers made wrong on purpose: the score that watches moves, ROUGE hardly does."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radtune.evaluate import clinical, slots, text
from radtune.evaluate.clinical import counts, scores
from radtune.language import terms
from radtune.language.terms import named

ENGLISH = (
    "The image is a non-contrast CT scan of the brain at the level of the basal ganglia, showing the thalami and the "
    "third ventricle, with a large hyperdense area on the left side. It occupies approximately 3.5% of the image area. "
    "This suggests acute haemorrhage with oedema around it; there is no midline shift and no fracture of the skull."
)
CHINESE = (
    "图像为脑部非增强CT扫描，层面位于基底节区，可见丘脑和第三脑室，左侧见大片高密度影，约占图像面积的3.5%。"
    "提示急性出血伴周围水肿；未见中线移位，未见颅骨骨折。"
)
TEMPLATES = {  # the likeliest words of another image
    ENGLISH: "The image is a non-contrast CT scan of the brain at the level of the lateral ventricles, showing the "
    "falx and the white matter, with a large hypodense area on the right side. It occupies approximately 1.2% of the "
    "image area. This suggests an old infarct with atrophy around it; there is no midline shift and no fracture of the "
    "skull.",
    CHINESE: "图像为脑部非增强CT扫描，层面位于侧脑室区，可见大脑镰和白质，右侧见大片低密度影，约占图像面积的1.2%。"
    "提示陈旧性梗死伴周围萎缩；未见中线移位，未见颅骨骨折。",
}


def all_scores(prediction: str, reference: str) -> dict[str, float]:
    """Every score of what is said, and F1 of this one pair."""
    found = scores(prediction, reference) | slots.scores(prediction, reference)
    of = {key: np.array([value], np.float64) for key, value in counts(prediction, reference).items()}
    return found | {f"{key}_f1": float(clinical.f1(value)[0]) for key, value in of.items()}


@pytest.mark.parametrize(
    ("reference", "right", "wrong", "moved"),
    [
        (ENGLISH, "left", "right", {"laterality": (100, 0), "slot_horizontal": (100, 0), "slots": (100, 50)}),
        (
            ENGLISH,
            "no midline shift",
            "a midline shift",
            {"denial": (100, 75), "findings_invented": (0, 1), "finding_f1": (100, 80)},
        ),
        (ENGLISH, "3.5%", "9.5%", {"area_error": (0, 6)}),
        (ENGLISH, "hyperdense", "hypodense", {"slot_density": (100, 0), "slots": (100, 50)}),
        (
            ENGLISH,
            "oedema",
            "hydrocephalus",
            {"finding_f1": (100, 50), "findings_missed": (0, 1), "findings_invented": (0, 1)},
        ),
        (ENGLISH, "basal ganglia", "cerebellum", {"anatomy_f1": (100, 75)}),
        (CHINESE, "左侧", "右侧", {"laterality": (100, 0)}),
        (
            CHINESE,
            "未见中线移位",
            "可见中线移位",
            {"denial": (100, 75), "findings_invented": (0, 1), "finding_f1": (100, 80)},
        ),
        (CHINESE, "3.5%", "9.5%", {"area_error": (0, 6)}),
        (CHINESE, "高密度", "低密度", {"slot_density": (100, 0), "slots": (100, 0)}),
        (
            CHINESE,
            "水肿",
            "脑积水",
            {"finding_f1": (100, 50), "findings_missed": (0, 1), "findings_invented": (0, 1)},
        ),
        (CHINESE, "基底节", "小脑", {"anatomy_f1": (100, 75)}),
    ],
)
def test_what_is_wrong_moves_the_scores_that_watch_it_and_no_other(
    reference: str, right: str, wrong: str, moved: dict[str, tuple[float, float]]
) -> None:
    assert reference.count(right) == 1
    prediction = reference.replace(right, wrong)
    before, after = all_scores(reference, reference), all_scores(prediction, reference)
    assert before.keys() == after.keys()
    assert {key: (before[key], after[key]) for key in before if before[key] != pytest.approx(after[key])} == moved
    assert text.rouge(prediction, reference)["rouge_l"] > 95


@pytest.mark.parametrize("reference", [ENGLISH, CHINESE])
def test_a_template_scores_high_by_rouge_and_low_by_what_it_says(reference: str) -> None:
    found = all_scores(TEMPLATES[reference], reference)
    assert text.rouge(TEMPLATES[reference], reference)["rouge_l"] > 75
    assert found["finding_f1"] == found["laterality"] == found["slot_density"] == 0
    assert (found["findings_invented"], found["findings_missed"]) == (2, 2)
    assert found["area_error"] == pytest.approx(2.3)
    assert found["anatomy_f1"] == pytest.approx(100 * 2 * 1 / (4 + 4))  # the skull alone of four each
    assert found["denial"] == 100  # it denies what it always denies


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
        ("No bleeding here, a bleed there is.", {"haemorrhage": True}),
        ("No bleeding here. A bleed there.", {"haemorrhage": True}),
        ("There is little pressure on the falx", {"mass effect": False}),
        ("未见出血，可见左侧额叶梗死。", {"haemorrhage": False, "infarct": True}),
        ("占位效应明显，中线移位", {"mass effect": True, "midline shift": True}),
        ("The notes say nothing of a massive storm in Ischia.", {}),
        ("", {}),
        # where a denial ends
        ("No haemorrhage, mass, or fracture is seen.", {"haemorrhage": False, "mass": False, "fracture": False}),
        ("No haemorrhage, mass or fracture is seen, oedema is present.", {"mass": False, "oedema": True}),
        ("No fracture is seen and the ventricles are dilated.", {"fracture": False, "hydrocephalus": True}),
        ("A haemorrhage is seen, midline shift is not present.", {"haemorrhage": True, "midline shift": False}),
        ("No abnormality other than an infarct.", {"infarct": True}),
        ("Neither haemorrhage nor infarct, whereas atrophy is marked.", {"infarct": False, "atrophy": True}),
        ('{"caption": "No haemorrhage", "notes": "An infarct"}', {"haemorrhage": False, "infarct": True}),
        ("未见出血，左侧额叶梗死。", {"haemorrhage": False, "infarct": True}),
        ("未见出血、肿块及骨折。", {"haemorrhage": False, "mass": False, "fracture": False}),
        ("无出血但伴水肿", {"haemorrhage": False, "oedema": True}),
        # other ways to deny
        ("Fracture not seen; the haemorrhage has resolved.", {"fracture": False, "haemorrhage": False}),
        ("Infarct has been ruled out.", {"infarct": False}),
        ("A tumour is unlikely.", {"mass": False}),
        ("Lack of oedema; free of calcification; negative for fracture", {"oedema": False, "calcification": False}),
        ("It is unlikely to be an abscess but a cyst instead of a tumour.", {"abscess": False, "cyst": True}),
        ("The midline is not shifted and the ventricles are not enlarged.", {"midline shift": False}),
        ("中线结构无移位，脑室未见扩张。", {"midline shift": False, "hydrocephalus": False}),
        ("占位效应不明显，骨折未见，出血已吸收。", {"mass effect": False, "fracture": False, "haemorrhage": False}),
        ("The tissue does not show signs of oedema, and a fracture isn’t seen.", {"oedema": False, "fracture": False}),
        ("It doesn't suggest a tumour and cannot be seen.", {"mass": False}),
        ("No features that would suggest an abscess", {"abscess": False}),
        ("No findings consistent with haemorrhage, nothing suggestive of oedema", {"haemorrhage": False}),
        ("No haemorrhage, suggesting an infarct", {"haemorrhage": False, "infarct": True}),
        (
            "It may have mass effect or a midline shift, although this isn't directly visible.",
            {"mass effect": True, "midline shift": True},
        ),
        ("There is no mass effect and the haemorrhage is stable.", {"mass effect": False, "haemorrhage": True}),
        ("The absence of midline shift suggests that the clot is a bleed.", {"haemorrhage": True}),
        ("The haemorrhage no longer shows mass effect.", {"haemorrhage": True, "mass effect": False}),
        (
            "Fracture: absent. Haemorrhage: none, oedema: yes.",
            {"fracture": False, "haemorrhage": False, "oedema": True},
        ),
        ("Findings: no haemorrhage.", {"haemorrhage": False}),
        # what only begins like a denial
        ("There is no change in the hemorrhage.", {"haemorrhage": True}),
        ("No significant increase in oedema, without change of the infarct", {"oedema": True, "infarct": True}),
        ("Not only a haemorrhage but also oedema.", {"haemorrhage": True, "oedema": True}),
        ("A haemorrhage cannot be excluded; we cannot rule out an infarct.", {"haemorrhage": True, "infarct": True}),
        ("The haematoma is not without oedema.", {"haemorrhage": True, "oedema": True}),
        ("No doubt of a fracture, a little swelling", {"fracture": True, "oedema": True}),
        ("A CT of the brain without contrast, an acute haemorrhage", {"haemorrhage": True}),
        ("structures without any medical devices, a haemorrhage", {"haemorrhage": True}),
        ("A not well-defined mass", {"mass": True}),
        ("不能排除梗死；出血未见明显变化；水肿无吸收", {"infarct": True, "haemorrhage": True, "oedema": True}),
        # words and their edges
        ("A non-haemorrhagic infarct with swollen gyri", {"infarct": True, "oedema": True}),
        ("非出血性梗死", {"infarct": True}),
        ("为梗死而非出血", {"infarct": True}),
        ("Blood vessels and blood flow; a haemorrhagic stroke", {"haemorrhage": True}),
        ("见hemorrhage灶，伴edema。", {"haemorrhage": True, "oedema": True}),
        ("Displacement of the midline structures and effaced sulci", {"midline shift": True, "mass effect": True}),
    ],
)
def test_findings_are_stated_or_denied(sentence: str, findings: dict[str, bool]) -> None:
    found = named(sentence, "findings")
    assert {term: found.get(term) for term in findings or found} == findings
    assert {term for term, stated in found.items() if stated} <= {term for term, stated in findings.items() if stated}


@pytest.mark.parametrize(
    ("sentence", "terms"),
    [
        ("a temporoparietal and fronto-occipital lesion", {"temporal", "parietal", "frontal", "occipital"}),
        ("the frontal bone, the sphenoid sinus and the frontal horn", {"skull", "sinuses", "lateral ventricles"}),
        ("the 3rd ventricle and the ventricular system", {"third ventricle", "ventricles"}),
        ("a subdural, an epidural and a subarachnoid one", {"subdural", "epidural", "subarachnoid"}),
        ("the left cerebellar hemisphere under the tentorium", {"cerebellum", "tentorium"}),
        ("the globus pallidus and the pons", {"basal ganglia", "brainstem"}),
        ("下丘脑、小脑幕和小脑半球", {"tentorium", "cerebellum"}),
        ("左侧额颞叶、右侧顶枕叶", {"frontal", "temporal", "parietal", "occipital"}),
        ("硬膜下、硬膜外及蛛网膜下腔", {"subdural", "epidural", "subarachnoid"}),
        ("双侧基底节区、侧脑室旁、第四脑室", {"basal ganglia", "lateral ventricles", "fourth ventricle"}),
    ],
)
def test_anatomy_is_named(sentence: str, terms: set[str]) -> None:
    short = ("lobe", "space", "region")
    found = named(sentence, "anatomy")
    assert {" ".join(word for word in term.split() if word not in short) for term in found} == terms


@pytest.mark.parametrize(
    ("sentence", "sides"),
    [
        ("on the left", {"left"}),
        ("leftward shift of the midline, no midline shift, midline structures", {"left"}),
        ("a lesion in the midline, midline shift", {"midline"}),
        ("The central nervous system and the central sulcus", set()),
        ("bilateral", {"left", "right"}),
        ("on both cerebral hemispheres", {"left", "right"}),
        ("the left lesion; bilateral ventricles", {"left", "both"}),
        ("占图像的5%左右", set()),
        ("左右两侧", {"left", "right"}),
        ("双侧脑室", {"left", "right"}),
        ("右侧中央区，中线结构居中，中线移位", {"right", "midline"}),
        ("左侧中央沟", {"left"}),
    ],
)
def test_sides_are_named(sentence: str, sides: set[str]) -> None:
    assert clinical._sides(sentence) == sides


def test_precision_and_recall_are_of_all_samples_together() -> None:
    """Of three findings stated two are true, of four true ones two are stated."""
    pairs = [
        ("Haemorrhage with oedema.", "A haematoma, no oedema."),
        ("An infarct.", "An infarct, atrophy and a cyst."),
    ]
    totals = np.sum([counts(*pair)["finding"] for pair in pairs], axis=0, dtype=np.float64)[None]
    assert clinical.precision(totals)[0] == pytest.approx(100 * 2 / 3)
    assert clinical.recall(totals)[0] == pytest.approx(100 * 2 / 4)
    assert clinical.f1(totals)[0] == pytest.approx(100 * 2 * 2 / (3 + 4))
    assert scores(*pairs[0]) == {"findings_invented": 1, "findings_missed": 0, "denial": 50}
    assert scores(*pairs[1]) == {"findings_invented": 0, "findings_missed": 2, "denial": 100}
    nothing = np.zeros((1, 3))
    assert clinical.precision(nothing) == clinical.recall(nothing) == clinical.f1(nothing) == 0


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
    for section in ("findings", "anatomy", "density", "sides"):
        for term, ways in terms._lexicon()[section].items():
            for way in ways:
                if re.fullmatch(r"[\w -]+", way):
                    assert named(f"It is {way} here", section) == {term: True}, (section, way)


@given(st.text(), st.text())
def test_no_text_is_an_error(one: str, other: str) -> None:
    assert all(value >= 0 for value in scores(one, other).values())
