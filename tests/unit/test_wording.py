"""What is wrong with a wording is found in English and Chinese; what is not, is left alone."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from radtune.clean import text as by_itself
from radtune.clean.text import Kind, chatter
from radtune.clean.wording import find_wording
from radtune.data.phantom_text import Facts, write_texts
from radtune.files import read_json, write_jsonl

FINE = [
    "A hyperdense area of 1.3% lies on the left side, next to the frontal lobe, suggesting an acute haemorrhage.",
    "No haemorrhage, no midline shift. The ventricles are not dilated.",
    "What kind of lesion this is, MRI may tell; a sort of cystic mass.",
    "Possible lacunar infarct in the right basal ganglia; MRI may help where doubt remains.",
    "左侧基底节区见高密度影，约占图像的1.3%，考虑急性出血，周围轻度水肿。",
    "双侧脑室未见扩大，中线居中，可能为陈旧性梗死。",
]


def find(
    folder: Path, texts: list[str], groups: list[str] | None = None, splits: list[str] | None = None, **row: Any
) -> dict[int, dict[str, Any]]:
    """{number of a text: {kind: its row}} of captions, each in a group of its own and in train."""
    rows = [
        {"shard": "s", "row": n, "sample": f"{n}", "tag": "CAPTION", "status": "kept"}
        | {
            "split": splits[n] if splits else "train",
            "group": groups[n] if groups else f"g{n}",
            "parts": json.dumps({"text": text}),
        }
        | row
        for n, text in enumerate(texts)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "samples.parquet")
    (folder / "disagreements.jsonl").touch()
    find_wording(folder / "samples.parquet", folder / "disagreements.jsonl", folder / "w.parquet", folder / "w.json")
    found: dict[int, dict[str, Any]] = {}
    for one in pq.read_table(folder / "w.parquet").to_pylist():
        found.setdefault(int(one["id"]), {})[one["kind"]] = one
    return found


def kinds(folder: Path, text: str) -> set[str]:
    """Of one text, beside one that shares all its words, so that none is rare."""
    return set(find(folder, [text, f"{text} {text}"]).get(0, {}))


@pytest.mark.parametrize("text", FINE)
def test_a_sober_text_is_left_alone(tmp_path: Path, text: str) -> None:
    assert kinds(tmp_path, text) == set()


@pytest.mark.parametrize(
    ("text", "kind", "evidence"),
    [
        ("As an AI language model, there is an infarct.", "chatty", "As an AI language model"),
        ("The image you provided shows an infarct.", "chatty", "The image you provided"),
        ("I'm sorry, the scan is dark.", "chatty", "I'm sorry"),
        ("Sure! An infarct.", "chatty", "Sure"),
        ("Based on the information provided there is an infarct.", "chatty", "Based on the information provided"),
        ("很抱歉，图像不清。", "chatty", "抱歉"),
        ("作为一个AI语言模型，见高密度影。", "chatty", "作为一个AI"),
        ("您提供的图像显示出血。", "chatty", "您提供的"),
        ("It seems that there is an infarct.", "vague", "It seems that"),
        ("This might be or might not be an infarct.", "vague", "might be or might not be"),
        ("It may possibly be blood.", "vague", "may possibly"),
        ("貌似有出血。", "vague", "貌似"),
        ("N/A", "empty", "N/A"),
        ("none.", "empty", "none."),
        ("...", "empty", "..."),
        ("No description available", "empty", "No description available"),
        ("暂无", "empty", "暂无"),
        ("An infarct of the cafÃ© kind.", "garbled", "Ã©"),
        ("The lesionâ€™s edge.", "garbled", "â€™"),
        ("A lesion \ufffd here.", "garbled", "\ufffd"),
        ("锟斤拷 left", "garbled", "锟斤拷"),
        ("The the lesion.", "garbled", "The the"),
        ("An areaaaaa.", "garbled", "aaaaa"),
        ("出血血血。", "garbled", "血血血"),
        ("A hae5morrhage.", "garbled", "hae5morrhage"),
        ("A lesion &amp; oedema.", "garbled", "&amp;"),
        ("A lesion.\\nNext.", "garbled", "\\n"),
    ],
)
def test_what_is_found_and_where(tmp_path: Path, text: str, kind: str, evidence: str) -> None:
    (row,) = (one for name, one in find(tmp_path, [text, text + " more"])[0].items() if name != "rare")
    assert (row["kind"], row["evidence"], text[row["start"] : row["end"]]) == (kind, evidence, evidence)


@pytest.mark.parametrize(
    "text", ["He had had a scan.", "T2w and L4L5, H2O.", "Größe, São, naïve Ärzte.", "III. 1.333333%"]
)
def test_what_only_looks_garbled(tmp_path: Path, text: str) -> None:
    assert kinds(tmp_path, text) == set()


def test_a_misspelt_term_is_one_letter_from_a_common_one(tmp_path: Path) -> None:
    said = [f"A haemorrhage of the ventricle, case {n}." for n in range(40)]
    wrong = ["A haemorhage.", "A heamorrhage.", "The ventrilce.", "The ventriclee."]
    fine = ["A haemorrhages.", "Haemorrhagic.", "A venture."]
    found = find(tmp_path, said + wrong + fine)
    notes = [found[40 + n].get("misspelt", {}).get("note") for n in range(7)]
    assert notes == ["haemorrhage", "haemorrhage", "ventricle", None, None, None, None]  # all its letters are there
    assert not any("misspelt" in of for n, of in found.items() if n < 40)


def test_a_rare_word_is_one_of_a_single_group(tmp_path: Path) -> None:
    texts = [
        "A scan with zebra.",
        "A scan with zebra again.",
        "A scan with quagga.",
        "A scan again.",
        "A scan with quagga.",
    ]
    found = find(tmp_path, texts, ["a", "a", "a", "b", "b"])
    assert {n: of["rare"]["evidence"] for n, of in found.items()} == {0: "zebra", 1: "zebra"}
    assert find(tmp_path, texts, ["a"] * 5) == {}  # nothing to compare with
    many = [f"A scan with zebra {n}." for n in range(30)]
    assert find(tmp_path, many, ["a"] * 29 + ["b"]) == {}  # the first texts that have it are of one group


@pytest.mark.parametrize(
    ("sentence", "odd", "evidence"),
    [
        ("The area is on the left side of the brain, case {}.", "The area is of the brain.", "is of"),
        ("左侧额叶出血，右侧正常，第{}例。", "左侧正常，右侧额叶叶出血。", "叶叶"),
    ],
)
def test_a_rare_phrase_is_of_words_that_are_common(tmp_path: Path, sentence: str, odd: str, evidence: str) -> None:
    said = [sentence.format(n) for n in range(400)]
    found = find(tmp_path, [*said, odd, "A zebra."])
    assert found[400]["phrase"]["evidence"] == evidence
    assert found[401].keys() == {"rare"}  # which no word of a phrase may be
    assert found.keys() == {400, 401}
    assert "phrase" not in find(tmp_path, [*said, odd, odd]).get(400, {})  # two groups have it
    assert find(tmp_path, [*said[:40], odd]) == {}  # too few to say


def test_train_alone_tells_what_is_usual(tmp_path: Path) -> None:
    slips = ["A zebra.", "The ventrilce of the brain.", "The the.", "Clinical correlation is needed."]
    said = [f"The ventricle of the brain is wide, case {n}." for n in range(200)]
    train = [*slips, *said, "The of brain is wide.", *(f"Case {n}. Clinical correlation is needed." for n in range(8))]
    test = [*train, *(f"Clinical correlation is needed, {n}." for n in range(99)), "A quagga, a ventrcle."]
    alone = find(tmp_path, train)
    found = find(tmp_path, train + test, splits=["train"] * len(train) + ["test"] * len(test))
    assert {n: of for n, of in found.items() if n < len(train)} == alone
    assert {kind for of in alone.values() for kind in of} == {"rare", "phrase", "garbled", "misspelt"}
    last = found[len(train) + len(test) - 1]
    assert (last["rare"]["evidence"], last["misspelt"]["note"]) == ("quagga", "ventricle")  # of train none has it


def test_a_text_of_two_groups_is_rare_in_neither_but_test_is_not_asked(tmp_path: Path) -> None:
    texts = ["A zebra.", "A scan.", "A zebra."]
    assert find(tmp_path, texts).keys() == {1}
    assert find(tmp_path, texts, splits=["train", "train", "test"])[0]["rare"]["evidence"] == "zebra"


def test_boilerplate_counts_groups_and_not_rows(tmp_path: Path) -> None:
    said = [f"Case {n}. Clinical correlation is needed." for n in range(12)]
    found = find(tmp_path, said)
    assert found[3]["boilerplate"]["evidence"] == "Clinical correlation is needed."
    assert found[3]["boilerplate"]["note"] == "12 groups"
    assert not any("boilerplate" in of for of in find(tmp_path, said, ["a"] * 6 + ["b"] * 6).values())
    assert not any("boilerplate" in of for of in find(tmp_path, said[:9]).values())


def test_a_contradiction_is_what_the_check_found(tmp_path: Path) -> None:
    find(tmp_path, FINE)
    row = {"shard": "s", "row": 1, "id": "1", "tag": "CAPTION", "kind": "horizontal"}
    write_jsonl(tmp_path / "disagreements.jsonl", [row | {"text_says": "left", "pixels_say": "right"}])
    paths = [tmp_path / name for name in ("samples.parquet", "disagreements.jsonl", "w.parquet", "w.json")]
    find_wording(*paths)
    rows = [row for row in pq.read_table(paths[2]).to_pylist() if row["kind"] == "contradiction"]
    assert [(row["id"], row["evidence"], row["note"], row["start"]) for row in rows] == [
        ("1", "left", "horizontal: right", None)
    ]


def test_every_free_text_of_a_record_and_no_box(tmp_path: Path) -> None:
    record = {
        "caption": "Fine.",
        "region of interest": "Sorry.",
        "observation": "None",
        "notes": "Sorry.",
        "bloc": "sorry",
    }
    find(tmp_path, [""], tag="JSON_RECORD", parts=json.dumps(record))
    rows = pq.read_table(tmp_path / "w.parquet").to_pylist()
    assert {(row["field"], row["kind"]) for row in rows} == {
        ("region of interest", "chatty"),
        ("observation", "empty"),
        ("notes", "chatty"),
    }
    told = read_json(tmp_path / "w.json")["kinds"]["chatty"]
    assert (told["rows"], told["splits"], told["different"]) == (1, {"train": 1}, 1)  # a row counts once
    assert told["examples"][0]["rows"] == 2


def test_quarantined_rows_are_not_looked_at(tmp_path: Path) -> None:
    assert find(tmp_path, ["Sorry.", "Sorry."], status="quarantined") == {}


def test_a_phantom_s_own_words_are_sober() -> None:
    """None of the demo's texts is chatty, vague, empty or garbled: a false alarm would be in every run."""
    import numpy as np

    rng = np.random.default_rng(0)
    for level in ("posterior fossa", "convexity"):
        for density in ("hyperdense", "isodense"):
            facts = Facts(level, "left", "upper", "left", 2.0, "moderate", density, True, (1, 2, 3, 4), (1, 2, 3, 4))
            for text in write_texts(facts, rng).values():
                low = by_itself.lower(text)
                assert [*by_itself.by_lexicon(low), *by_itself.garbled(low, text)] == []


def test_hostile_texts_take_no_time_and_spans_fit(tmp_path: Path) -> None:
    rng = random.Random(0)
    letters = "aA的İ \n.<>&\\'\u0301Ã©!ß-#1%"
    texts = ["".join(rng.choices(letters, k=rng.randrange(1, 3000))) for _ in range(40)]
    texts += ["a " * 10000, "!?" * 10000, "Ã" * 20000, "i am " * 4000, "no " * 6000, "a" * 20000, "\\" * 20000]
    for n, of in find(tmp_path, texts).items():
        for row in of.values():
            assert texts[n][row["start"] : row["end"]] == row["evidence"] != ""


def test_the_lexicon_s_ways_stand_for_themselves() -> None:
    """Each pattern compiles, begins with no group (`re` would try it everywhere), and has a kind."""
    lexicon = yaml.safe_load(Path(by_itself.__file__).with_name("wording.yaml").read_text(encoding="utf-8"))
    assert set(lexicon) == {Kind.CHATTY, Kind.VAGUE, Kind.EMPTY}
    for kind in lexicon:
        pattern, whys = by_itself._ways(Kind(kind))
        assert pattern.groups == len(whys)
        assert set(whys) == set(lexicon[kind])
        for ways in lexicon[kind].values():
            assert all(isinstance(way, str) and re.compile(way).groups == 0 for way in ways)


def test_chatter_finds_every_place() -> None:
    found = [(one.kind, one.note) for one in chatter("Sorry, it seems that you can see, sorry.")]
    assert found.count((Kind.CHATTY, "apologises")) == 2
    assert (Kind.VAGUE, "tells how it seems") in found
