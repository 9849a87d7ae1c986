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


@pytest.mark.parametrize(
    ("text", "doubtful", "certain"),
    [
        ("It may possibly be blood on the left.", "It may be blood on the left.", "It is blood on the left."),
        ("It seems that there is an infarct.", "Possible infarct.", "There is an infarct."),
        ("I think this is an infarct.", "Probably an infarct.", "An infarct."),
        ("There seems to be an infarct.", "There may be an infarct.", "There is an infarct."),
        ("貌似有左侧出血。", "左侧可能有出血。", "左侧出血。"),
        ("也许可能是左侧出血。", "可能为左侧出血。", "左侧出血。"),
        ("我认为是左侧出血。", "考虑左侧出血。", "左侧出血。"),
    ],
)
def test_wording_that_doubts_leaves_its_doubt(text: str, doubtful: str, certain: str) -> None:
    assert refusal(text, doubtful, KINDS) is None
    assert refusal(text, certain, KINDS) == "certainty"


@pytest.mark.parametrize(
    ("text", "rewrite", "why"),
    [
        ("A haemorrhage of -5 HU.", "A haemorrhage of 5 HU.", "numbers"),
        ("A haemorrhage of −5 HU.", "A haemorrhage of -5 HU.", None),
        ("A haemorrhage of 5 HU.", "A haemorrhage of 5.", "numbers"),
        ("A haemorrhage of 5-6 mm.", "A haemorrhage of 5-7 mm.", "numbers"),
        ("A haemorrhage of less than 5 mm.", "A haemorrhage of more than 5 mm.", "numbers"),
        ("A mass of 12 millimetres.", "A mass of 12 centimetres.", "numbers"),
        ("A mass of half of the lobe.", "A mass of a quarter of the lobe.", "numbers"),
        ("Eleven lesions of the third ventricle.", "Twelve lesions of the third ventricle.", "numbers"),
        ("左侧两处出血。", "左侧三处出血。", "numbers"),
        ("左侧两处出血。", "左侧见两个出血灶。", None),
        ("左侧两处出血。", "左侧一处出血。", "numbers"),
        ("左侧十二个低密度影。", "左侧十三个低密度影。", "numbers"),
        ("出血密度约-5HU。", "出血密度约5HU。", "numbers"),
        ("单发出血。", "多发出血。", "numbers"),
        ("出血占三分之一。", "出血占四分之一。", "numbers"),
        ("出血占一半。", "出血。", "numbers"),
        ("出血约三毫米。", "出血约三厘米。", "numbers"),
        ("见一个左侧高密度影，位于半卵圆中心。", "左侧高密度影，位于半卵圆中心。", None),
        ("No change in the haemorrhage.", "The haemorrhage.", "negation"),
        ("An abnormality cannot be excluded.", "An abnormality is excluded.", "negation"),
        ("出血无明显变化。", "出血明显变化。", "negation"),
        ("No left infarct, but a right infarct.", "A left infarct, but no right infarct.", "side"),
    ],
)
def test_numbers_have_sign_and_unit_and_no_denial_is_lost(text: str, rewrite: str, why: str | None) -> None:
    assert refusal(text, rewrite, KINDS) == why


LEFT_RIGHT = "A haemorrhage lies on the left side and an infarct on the right side."
DENSITIES = "A hyperdense area of 3% lies on the left, a hypodense area of 8% on the right."


@pytest.mark.parametrize(
    ("text", "rewrite"),
    [
        (LEFT_RIGHT, "A haemorrhage lies on the right side and an infarct on the left side."),
        (LEFT_RIGHT, "An infarct lies on the left side and a haemorrhage on the right side."),
        (DENSITIES, "A hypodense area of 3% lies on the left, a hyperdense area of 8% on the right."),
        (DENSITIES, "A hyperdense area of 8% lies on the left, a hypodense area of 3% on the right."),
        (DENSITIES, "A hyperdense area of 3% lies on the right, a hypodense area of 8% on the left."),
        ("Areas of 3% on the left and 8% on the right.", "Areas of 8% on the left and 3% on the right."),
        ("Left frontal and right parietal oedema.", "Right frontal and left parietal oedema."),
        ("A haemorrhage on the left. An infarct.", "A haemorrhage. An infarct on the left."),
        ("A haemorrhage on the left and an infarct.", "A haemorrhage and a left infarct."),
        ("A haemorrhage of 3%, with oedema.", "A haemorrhage, with oedema of 3%."),
        ("An upper mass, an infarct at the bottom.", "A mass at the bottom, an upper infarct."),
        ("A mass in the frontal lobe, a cyst in the pons.", "A mass in the pons, a cyst in the frontal lobe."),
        ("Possibly a haemorrhage. There is an infarct.", "There is a haemorrhage. Possibly an infarct."),
        ("It may be a haemorrhage. Possible infarct.", "It may be a haemorrhage. There is an infarct."),
        ("A hyperdense area suggests a haemorrhage and a hypodense area suggests an infarct.",
         "A hypodense area suggests a haemorrhage and a hyperdense area suggests an infarct."),
        ("左侧出血，右侧梗死。", "右侧出血，左侧梗死。"),
        ("左侧高密度影约占3%，右侧低密度影约占8%。", "左侧高密度影约占8%，右侧低密度影约占3%。"),
        ("左侧额叶出血，右侧颞叶梗死。", "左侧颞叶出血，右侧额叶梗死。"),
        ("病灶上部出血，下部梗死。", "病灶下部出血，上部梗死。"),
        ("出血，左侧梗死。", "左侧出血，梗死。"),
    ],
)  # fmt: skip
def test_what_belongs_together_stays_together(text: str, rewrite: str) -> None:
    assert refusal(text, rewrite, KINDS) == "moved"


@pytest.mark.parametrize(
    ("text", "rewrite"),
    [
        (LEFT_RIGHT, "Left haemorrhage and right infarct."),
        (LEFT_RIGHT, "An infarct on the right and a haemorrhage on the left."),
        (DENSITIES, "Hyperdense area on the left (3%). Hypodense area on the right (8%)."),
        (DENSITIES, "A 3% hyperdense area on the left and an 8% hypodense area on the right."),
        (
            "I can see a hyperdense area of 3% on the left, which, as you can see, may be a haemorrhage. "
            "There is no midline shift, and no fracture.",
            "Left hyperdense area of 3%, possibly a haemorrhage. No midline shift. No fracture.",
        ),
        (
            "A hyperdense area lies on the left. It may be a haemorrhage.",
            "Hyperdense area on the left, possibly haemorrhage.",
        ),
        ("您可以看到，左侧额叶有出血，右侧颞叶有低密度影。", "左侧额叶出血，右侧颞叶低密度影。"),
    ],
)
def test_another_order_or_cut_of_the_same_is_taken(text: str, rewrite: str) -> None:
    assert refusal(text, rewrite, KINDS) is None


def test_wording_that_nobody_asked_to_change_may_stay() -> None:
    assert refusal("Sorry, a haemorhage of the left side.", "Sorry, a haemorhage, left side.", ["misspelt"]) is None
    assert refusal("Sorry, a lesion of the left side.", "Sorry, a lesion, left side.", ["chatty"]) == "wording"
