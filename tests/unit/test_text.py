"""Each text metric equals the package it is named after, on English, Chinese and awkward pairs."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radtune.evaluate import text
from radtune.language.words import mostly_chinese

PAIRS = [
    ("The lesion is located left-center, covering 1.3% of the area.", "The lesion is located right, covering 1.3%."),
    ("A CT scan of the brain. Is it normal? Yes!", "A CT scan of the brain shows hyperdense areas; is it abnormal?"),
    ("左侧基底节区高密度影。占位效应明显！建议复查。", "右侧基底节区见高密度影。建议结合临床。"),
    ("identical answer", "identical answer"),
    ("short", "a much longer reference than the prediction, by far"),
    ("a much longer prediction than the reference, by far", "short"),
    ("one\ntwo  three\r\n\tfour", "one two\nthree four\n"),
    ("\nleading line feed\n\nand a blank line", "\n\nleading line feed\nand"),
    ("xyz", "0123456789"),
    ("", "an empty prediction"),
    (" \n", "a blank prediction"),
    ("... ……", "。？"),
    ("x", "x"),
    ("CT 提示：left-center 区 hyperdense 影", "CT 提示：right 区 hypodense 影"),
]


@pytest.mark.parametrize(("prediction", "reference"), PAIRS)
def test_llamafactory_metric_equals_its_own_functions_to_the_last_digit(prediction: str, reference: str) -> None:
    """The body of ComputeSimilarity.__call__ (llamafactory 0.9.5), with the functions it calls."""
    import jieba
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
    from rouge_chinese import Rouge

    hypothesis, label = list(jieba.cut(prediction)), list(jieba.cut(reference))
    if len(" ".join(hypothesis).split()) == 0 or len(" ".join(label).split()) == 0:
        result = {"rouge-1": {"f": 0.0}, "rouge-2": {"f": 0.0}, "rouge-l": {"f": 0.0}}
    else:
        result = Rouge().get_scores(" ".join(hypothesis), " ".join(label))[0]
    bleu = sentence_bleu([list(reference)], list(prediction), smoothing_function=SmoothingFunction().method3)
    expected = {
        f"llamafactory_{name.replace('-', '_')}": round(score["f"] * 100, 4) for name, score in result.items()
    } | {"llamafactory_bleu_4": round(bleu * 100, 4)}
    assert text.llamafactory(prediction, reference) == expected


@pytest.mark.slow
def test_llamafactory_metric_equals_its_class() -> None:
    """LLaMA-Factory's ComputeSimilarity itself, on code points for tokens."""
    from llamafactory.train.sft.metric import ComputeSimilarity

    class CodePoints:
        pad_token_id = 0

        def batch_decode(self, rows: np.ndarray, skip_special_tokens: bool) -> list[str]:
            return ["".join(chr(c) for c in row if c) for row in rows]

    def encode(texts: list[str]) -> np.ndarray:
        rows = np.full((len(texts), max(map(len, texts))), -100)
        for row, string in zip(rows, texts, strict=True):
            row[: len(string)] = [ord(c) for c in string]
        return rows

    predictions, references = (list(texts) for texts in zip(*PAIRS, strict=True))
    theirs = ComputeSimilarity(CodePoints())(
        SimpleNamespace(predictions=encode(predictions), label_ids=encode(references))
    )
    ours = [text.llamafactory(*pair) for pair in PAIRS]
    assert {
        name: float(np.mean([s[f"llamafactory_{name.replace('-', '_')}"] for s in ours])) for name in theirs
    } == theirs


@pytest.mark.parametrize(("prediction", "reference"), [p for p in PAIRS if "左" not in p[0] and "区" not in p[0]])
def test_rouge_equals_rouge_score_with_its_stemmer(prediction: str, reference: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    theirs = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True).score(reference, prediction)
    assert text.rouge(prediction, reference) == pytest.approx(
        {
            name: 100 * theirs[key].fmeasure
            for name, key in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL"))
        }
    )


def test_rouge_of_chinese_counts_characters() -> None:
    # 4 of 5 characters in common, in order, and 3 of 4 bigrams: 侧高 高密 密影.
    scores = text.rouge("左侧高密影", "右侧高密影")
    assert scores == pytest.approx({"rouge_1": 80.0, "rouge_2": 75.0, "rouge_l": 80.0})


def test_chrf_by_hand() -> None:
    """3 of 4 characters, 2 of 3 pairs, 1 of 2 threes and no four in common; longer ones there are none."""
    assert text.chrf("abcd", "abce") == pytest.approx(100 * (3 / 4 + 2 / 3 + 1 / 2 + 0) / 4)
    # precision 1, recall 1/2 of the characters alone, with recall twice as heavy: 5 P R / (4 P + R)
    assert text.chrf("a", "ab") == pytest.approx(100 * 5 * 0.5 / (4 + 0.5))


def test_corpus_bleu_by_hand() -> None:
    """4 of 5 words, 3 of 4 pairs, 2 of 3 threes and 1 of 2 fours, as long as the reference."""
    counts = np.array([text.bleu_counts("the area is so dense", "the area is so bright", False)], np.float64)
    for order, share in enumerate((4 / 5, 4 / 5 * 3 / 4, 4 / 5 * 3 / 4 * 2 / 3, 4 / 5 * 3 / 4 * 2 / 3 / 2), 1):
        assert text.corpus_bleu(counts, order)[0] == pytest.approx(100 * share ** (1 / order))
    # two words of four: e to the 1 - 4/2
    short = np.array([text.bleu_counts("the area", "the area is dense", False)], np.float64)
    assert text.corpus_bleu(short, 2)[0] == pytest.approx(100 * np.exp(-1))


def test_corpus_bleu_equals_sacrebleu() -> None:
    from sacrebleu.metrics.bleu import BLEU

    for chinese, tokenize in ((False, "13a"), (True, "zh")):
        predictions, references = (list(texts) for texts in zip(*PAIRS, strict=True))
        counts = np.sum([text.bleu_counts(*pair, chinese) for pair in PAIRS], axis=0)
        for order in (1, 2, 3, 4):
            theirs = BLEU(tokenize=tokenize, max_ngram_order=order).corpus_score(predictions, [references]).score
            assert text.corpus_bleu(counts[None], order)[0] == pytest.approx(theirs, abs=1e-12)
        assert f"tok:{tokenize}" in text.bleu_signature(chinese)


COUNTS = st.tuples(*[st.integers(0, 9)] * 10).map(lambda row: (row[6], *row[1:]))  # as many words as 1-grams


@given(st.lists(COUNTS, min_size=1, max_size=4), st.integers(1, 4))
def test_bleu_of_any_counts_is_sacrebleu_s_to_the_last_digit(rows: list[tuple[int, ...]], order: int) -> None:
    from sacrebleu.metrics.bleu import BLEU

    for row, ours in zip(rows, text.corpus_bleu(np.array(rows, float), order), strict=True):
        matched, found = list(row[2 : 2 + order]), list(row[6 : 6 + order])
        theirs = BLEU.compute_bleu(matched, found, *row[:2], smooth_method="exp", max_ngram_order=order).score
        assert ours == theirs


FEW = st.text("ab左 .\n\ud800", max_size=12)  # so that n-grams are shared


@given(FEW, FEW)
def test_character_metrics_equal_their_libraries_to_the_last_digit(prediction: str, reference: str) -> None:
    from sacrebleu.metrics.chrf import CHRF

    assert text.chrf(prediction, reference) == CHRF().sentence_score(prediction, [reference]).score
    ours, theirs = ("".join(of.split()) for of in (prediction, reference))
    shared = [
        sum((Counter(ours[i : i + n] for i in range(len(ours) - n + 1)) & grams).values())
        for n in range(1, 7)
        for grams in [Counter(theirs[i : i + n] for i in range(len(theirs) - n + 1))]
    ]
    assert text._matched(text._characters(ours, 6), text._characters(theirs, 6), 6) == shared


def test_exact_match_ignores_white_space_only() -> None:
    assert text.exact_match(" a  b\n", "a b") == 100
    assert text.exact_match("a  B", "a b") == 0
    assert text.exact_match("", "") == 0


def test_empty_prediction_scores_zero_everywhere() -> None:
    assert set(text.scores("", "a reference").values()) == {0.0}
    assert set(text.scores("same words", "same words").values()) == {100.0}


def test_lcs_length() -> None:
    assert text.lcs_length("ABCBDAB", "BDCABA") == 4
    assert text.lcs_length("", "abc") == text.lcs_length("abc", "") == 0
    assert text.lcs_length("x" * 500, "x" * 300) == 300


def test_language_is_decided_by_the_references() -> None:
    assert mostly_chinese(["左侧基底节区高密度影，CT"])
    assert not mostly_chinese(["A CT scan", "of the brain 左"])
    assert "CJK" in text.signatures(True)["rouge_l"]
    assert "stemmer" in text.signatures(False)["rouge_l"]


def test_mismatched_captions_still_score_high_by_llamafactory() -> None:
    """Why a floor belongs beside every score: another image's caption, side swapped, keeps most of the figure."""
    caption = "The region of interest is located {} horizontally and in the middle vertically, a hyperdense area."
    assert text.scores(caption.format("left"), caption.format("right"))["llamafactory_bleu_4"] > 90
    other = "The image is a CT scan of the brain, showing cerebral structures without any medical devices present."
    assert 15 < text.scores(other, caption.format("left"))["llamafactory_bleu_4"] < 60
