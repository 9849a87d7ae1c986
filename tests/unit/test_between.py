"""Two results folders against each other: figures worked out by hand, and what a reader must know of the samples."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from radtune import cli
from radtune.evaluate.between import between, table
from radtune.files import UserError, write_json, write_jsonl, write_text
from radtune.report.comparison import write_comparison

SEVEN = range(7)


def results(folder: Path, scores: dict[str, list[float]], ids: range = SEVEN, experiment: str = "lora") -> Path:
    """A finished run whose samples are groups of their own; all references are equal."""
    names = [f"id{n}" for n in ids]
    columns = {"id": names, "tag": ["CAPTION"] * len(names), "group": names} | scores
    (folder / "evaluate" / experiment).mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / "evaluate" / experiment / "test.samples.parquet")
    write_json(folder / "evaluate" / experiment / "test.json", {"signatures": dict.fromkeys(scores, "as ever")})
    rows = [{"id": name, "tag": "CAPTION", "reference": "an infarct"} for name in names]
    write_jsonl(folder / "predict" / experiment / "test.jsonl", rows)
    config = {"results": str(folder), "training": {"lora_rank": 8, "seed": 42}}
    write_text(folder / "config.yaml", yaml.safe_dump(config))
    return folder


def scores(plus: float) -> dict[str, list[float]]:
    """Means of 40 and 2; `plus` is added to each value of the one, a tenth of it to each of the other."""
    return {"rouge_l": [10.0 * n + 10 + plus for n in SEVEN], "findings_missed": [2.0 + plus / 10 for _ in SEVEN]}


def test_differences_are_those_of_the_shared_samples_and_corrected_together(tmp_path: Path) -> None:
    found = between(results(tmp_path / "a", scores(0)), results(tmp_path / "b", scores(10)))
    better, worse = found["differences"]
    # the same difference in all of 7 groups: of 128 choices of signs 2 are as far from 0; two p, so Holm doubles each
    expected = {"n": 7, "groups": 7, "p": pytest.approx(2 * 2 / 128), "experiment": "lora", "split": "test"}
    assert better == expected | {"metric": "rouge_l", "of": "B", "minus": "A", "better": "B", "value": 10} | {
        "scores": [50, 40],
        "interval": pytest.approx([10, 10]),
    }
    assert (worse["metric"], worse["value"], worse["scores"], worse["better"]) == ("findings_missed", 1, [3, 2], "A")
    assert found["notes"] == found["config"] == []
    lines = table(found).splitlines()
    row = "lora test rouge_l 40.00 50.00 +10.00 +10.00 to +10.00 7 7 0.031 B is better"
    assert " ".join(lines[4].split()) == row
    assert lines[3].index("B - A") + len("B - A") == lines[4].index("+10.00") + len("+10.00")
    assert lines[-1] == "Config: no key differs"


def test_none_is_said_to_be_none(tmp_path: Path) -> None:
    found = between(results(tmp_path / "a", scores(0)), results(tmp_path / "b", scores(0)))
    assert [(row["value"], row["p"], row["better"]) for row in found["differences"]] == [(0, 1, None)] * 2
    assert table(found).count("no difference shown") == 2


def test_what_is_not_in_both_does_not_count_and_is_said(tmp_path: Path) -> None:
    a, b = results(tmp_path / "a", scores(0)), results(tmp_path / "b", scores(0), range(2, 9))
    results(tmp_path / "c", scores(0), experiment="other")
    (tmp_path / "c/evaluate/other").rename(b / "evaluate/other")
    write_text(b / "config.yaml", yaml.safe_dump({"training": {"lora_rank": 16, "seed": 42}, "split": {}}))
    path = b / "predict/lora/test.jsonl"
    write_text(path, path.read_text().replace("an infarct", "a mass", 3))  # of id2, id3, id4
    write_json(b / "evaluate/lora/test.json", {"signatures": {"rouge_l": "another way", "findings_missed": "as ever"}})
    found = between(a, b)
    (rouge, *_) = found["differences"]
    # id2 to id6: 30, 40, 50, 60, 70 in A; 10, 20, 30, 40, 50 in B
    assert (rouge["n"], rouge["scores"], rouge["value"]) == (5, [30, 50], -20)
    assert found["notes"] == [
        f"Only {b} has other/test.",
        "lora/test: 5 samples are in both; 2 in A alone and 2 in B alone do not count.",
        "lora/test: the references of 3 of 5 shared samples differ: these are two tasks.",
        "lora/test: not computed in the same way, or it is not known how: rouge_l.",
    ]
    assert found["config"] == [("training.lora_rank", "8", "16"), ("split", "–", "{}")]
    assert "training.lora_rank: 8 in A, 16 in B" in table(found)
    path.unlink()
    (b / "config.yaml").unlink()
    found = between(a, b)
    assert "lora/test: the references of 5 samples are no longer there, so they may not be the same." in found["notes"]
    assert "Whether the configs differ is not known" in table(found)


def test_folders_that_cannot_be_compared_are_one_sentence(tmp_path: Path) -> None:
    a, b = results(tmp_path / "a", scores(0)), results(tmp_path / "b", scores(0), experiment="other")
    with pytest.raises(UserError, match=r"empty holds no evaluate/EXPERIMENT/SPLIT\.samples\.parquet; name a finished"):
        between(a, tmp_path / "empty")
    with pytest.raises(UserError, match=r"No experiment was .*a has lora/test; .*b has other/test\); name runs"):
        between(a, b)
    c = results(tmp_path / "c", scores(0), range(7, 14))
    with pytest.raises(UserError, match="answered no sample of test in common"):
        between(a, c)


def test_the_command_prints_the_table_and_writes_a_page_that_stands_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = results(tmp_path / "a", scores(0)), results(tmp_path / "b", scores(10))
    cli.app(["compare", str(a), str(b), "--out", str(tmp_path / "page.html")], result_action="return_value")
    assert "B is better" in capsys.readouterr().out
    page = (tmp_path / "page.html").read_text()
    assert "Of 2 differences 2 are shown." in page
    assert "lora on test, rouge l: B is better, 40.00 in A, 50.00 in B." in page
    assert "default-src 'none'" in page
    assert "<script" not in page


def test_nothing_of_a_folder_becomes_markup(tmp_path: Path) -> None:
    found: dict[str, Any] = between(results(tmp_path / "a", scores(0)), results(tmp_path / "b", scores(0)))
    found |= {"notes": ["<i>note</i>"], "config": [("<u>key</u>", '"\u202e"', "1")], "b": "<em>b</em>"}
    write_comparison(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert [part for part in ("<i>", "<u>", "<em>", "\u202e") if part in page] == []
    assert "&lt;u&gt;key&lt;/u&gt;" in page
    assert "No difference shown." in page
