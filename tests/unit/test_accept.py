"""A rewrite that says anything else than its original is refused, and why is named."""

import pytest

from radtune.clean.accept import REFUSALS, refusal

TEXT = (
    "I'm sorry, but the image you provided shows a hyperdense area of 1.3% in the left frontal lobe, 12 mm wide, which "
    "may be an acute haemorrhage. There is no midline shift."
)
GOOD = (
    "Hyperdense area of 1.3% in the left frontal lobe, 12 mm wide, possibly an acute haemorrhage. No midline shift is "
    "present."
)
ZH = "很抱歉，您提供的图像显示左侧额叶高密度影，约占1.3%，可能为急性出血，未见中线移位。"
ZH_GOOD = "左侧额叶高密度影，约占1.3%，可能为急性出血，未见中线移位。"
KINDS = ("chatty", "vague")


@pytest.mark.parametrize(("text", "rewrite"), [(TEXT, GOOD), (ZH, ZH_GOOD)])
def test_the_same_in_other_words_is_taken(text: str, rewrite: str) -> None:
    assert refusal(text, rewrite, KINDS) is None


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("1.3%", "1.4%", "numbers"),
        ("1.3%", "1.3 mm", "numbers"),
        (" of 1.3%", "", "numbers"),
        ("12 mm", "12 cm", "numbers"),
        ("left", "right", "side"),
        ("left ", "", "side"),
        ("left frontal", "upper left frontal", "location"),
        ("Hyperdense", "Hypodense", "density"),
        ("acute haemorrhage", "acute infarct", "findings"),
        ("acute haemorrhage", "acute haemorrhage with oedema", "findings"),
        ("No midline shift is present", "There is midline shift", "findings"),
        ("frontal lobe", "frontal and parietal lobes", "anatomy"),
        ("No midline shift is present.", "No midline shift is present, and no device.", "negation"),
        ("possibly ", "", "certainty"),
        ("Hyperdense", "I can see a hyperdense", "wording"),
        (" is present.", " is present.\n", "form"),
        ("Hyperdense", "**Hyperdense**", "form"),
        ("present.", "present.<|im_end|>", "form"),
        ("present.", "present.\u202e", "form"),
        ("present.", "present. " + "The rest is as it was. " * 10, "length"),
    ],
)
def test_what_changed_is_named(old: str, new: str, why: str) -> None:
    assert old in GOOD
    assert refusal(TEXT, GOOD.replace(old, new), KINDS) == why
    assert why in REFUSALS


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("左侧", "右侧", "side"),
        ("1.3%", "1.8%", "numbers"),
        ("未见中线移位", "中线移位", "findings"),
        ("急性出血", "急性梗死", "findings"),
        ("额叶", "颞叶", "anatomy"),
        ("可能为", "为", "certainty"),
        ("高密度", "低密度", "density"),
        ("额叶", "额叶后部", "location"),
    ],
)
def test_what_changed_in_chinese_is_named(old: str, new: str, why: str) -> None:
    assert refusal(ZH, ZH_GOOD.replace(old, new), KINDS) == why


def test_nothing_is_no_rewrite() -> None:
    assert refusal(TEXT, " \n", KINDS) == "empty"


def test_a_denial_that_is_worded_as_chatter_stays_a_denial() -> None:
    assert refusal("I cannot see a haemorrhage.", "A haemorrhage is seen.", KINDS) == "findings"
    assert refusal("I cannot see a haemorrhage.", "No haemorrhage is seen.", KINDS) is None


def test_what_takes_back_becomes_a_doubt() -> None:
    text = "This might be or might not be an infarct."
    assert refusal(text, "Possible infarct.", KINDS) is None
    assert refusal(text, "An infarct.", KINDS) == "certainty"
    assert refusal(text, "No infarct.", KINDS) == "findings"


def test_wording_that_nobody_asked_to_change_may_stay() -> None:
    assert refusal("Sorry, a haemorhage of the left side.", "Sorry, a haemorhage, left side.", ["misspelt"]) is None
    assert refusal("Sorry, a lesion of the left side.", "Sorry, a lesion, left side.", ["chatty"]) == "wording"
