"""evaluate(): its two files, worked out by hand on a handful of samples."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from radtune.evaluate.score import evaluate
from radtune.files import UserError, read_json, write_json, write_jsonl

SIDES = ["left", "left-center", "central", "right-center", "right"]


def finding(side: str) -> str:
    return f"A hyperdense area located {side} horizontally."


def sample(i: int, prediction: str, reference: str, tag: str = "CAPTION", group: str | None = None) -> dict[str, Any]:
    return {
        "id": f"id{i}",
        "tag": tag,
        "group": group or f"g{i}",
        "image": "a.png",
        "prompt": "?",
        "prediction": prediction,
        "reference": reference,
        "seconds": 1.0,
        "tokens": 9,
        "stopped": True,
    }


def run(tmp_path: Path, rows: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    predictions = tmp_path / "predict" / "lora" / "test.jsonl"
    write_jsonl(predictions, rows)
    out, samples = tmp_path / "out.json", tmp_path / "out.parquet"
    evaluate(predictions, out, samples)
    return read_json(out), pq.read_table(samples).to_pylist()


def test_perfect_model_beats_its_floor_by_hand(tmp_path: Path) -> None:
    result, rows = run(tmp_path, [sample(i, finding(s), finding(s)) for i, s in enumerate(SIDES)])
    assert (result["experiment"], result["split"], result["n"], result["groups"]) == ("lora", "test", 5, 5)
    metrics = result["overall"]["metrics"]
    exact = metrics["exact_match"]
    assert (exact["value"], exact["floor"], exact["lift"]) == (100, 0, 100)
    assert exact["interval"] == [100, 100]
    # The floor always names the wrong side and the right density: one of two words.
    assert (metrics["slots"]["value"], metrics["slots"]["floor"]) == (100, 50)
    assert metrics["slot_horizontal"]["floor"] == 0
    assert metrics["rouge_l"]["floor"] > 70
    assert metrics["bleu"]["value"] == pytest.approx(100)
    assert "semantic" not in metrics  # there is no train to learn words from
    assert result["tags"]["CAPTION"] == result["overall"]
    assert set(metrics) - set(result["signatures"]) == set()
    assert [r["id"] for r in rows] == [f"id{i}" for i in range(5)]
    assert all(r["exact_match"] == 100 and r["shuffled_exact_match"] == 0 for r in rows)


def test_swapped_side_moves_slots_more_than_rouge(tmp_path: Path) -> None:
    right, _ = run(tmp_path, [sample(i, finding("left"), finding("left")) for i in range(4)])
    wrong, _ = run(tmp_path, [sample(i, finding("right"), finding("left")) for i in range(4)])
    right, wrong = right["overall"]["metrics"], wrong["overall"]["metrics"]
    assert right["slot_horizontal"]["value"] - wrong["slot_horizontal"]["value"] == 100
    assert 0 < right["rouge_l"]["value"] - wrong["rouge_l"]["value"] < 20


def test_references_given_to_the_wrong_sample_score_as_the_floor_does(tmp_path: Path) -> None:
    texts = [finding(s) for s in SIDES]
    result, _ = run(tmp_path, [sample(i, texts[i - 1], texts[i]) for i in range(5)])
    slots = result["overall"]["metrics"]["slots"]
    assert slots["value"] == slots["floor"] == 50
    assert slots["lift_interval"] == [0, 0]


def test_intervals_resample_groups_not_samples(tmp_path: Path) -> None:
    """Ten samples of two groups, one group all right and one all wrong: the mean is 0, 50 or 100 in any resample."""
    rows = [sample(i, "a b" if i < 5 else "c d", "a b", group=f"g{i // 5}") for i in range(10)]
    result, _ = run(tmp_path, rows)
    exact = result["overall"]["metrics"]["exact_match"]
    assert (exact["value"], exact["n"], exact["groups"], exact["interval"]) == (50, 10, 2, [0, 100])
    one_group, _ = run(tmp_path, [r | {"group": "g"} for r in rows])
    exact = one_group["overall"]["metrics"]["exact_match"]
    assert (exact["value"], exact["interval"], exact["floor"], exact["lift"]) == (50, None, None, None)


def test_boxes_and_tags_are_kept_apart(tmp_path: Path) -> None:
    box = '[{{"bbox_2d": [0, 0, {}, 100], "label": "lesion"}}]'
    rows = [
        sample(0, box.format(100), box.format(100), "DETECT_REGION_LOC"),
        sample(1, box.format(50), box.format(200), "DETECT_REGION_LOC"),
        sample(2, "nowhere", box.format(300), "DETECT_REGION_LOC"),
        sample(3, finding("left"), finding("right")),
    ]
    result, per_sample = run(tmp_path, rows)
    boxes = result["tags"]["DETECT_REGION_LOC"]["metrics"]
    assert boxes["iou"]["value"] == pytest.approx((100 + 25 + 0) / 3)
    assert boxes["acc_50"]["value"] == boxes["box_unparsed"]["value"] == pytest.approx(100 / 3)
    assert "iou" not in result["tags"]["CAPTION"]["metrics"]
    assert "slots" not in boxes
    assert result["overall"]["metrics"]["iou"]["n"] == 3
    assert per_sample[1]["box_prediction"] == [0, 0, 50, 100]
    assert per_sample[2]["box_prediction"] is None
    assert per_sample[3]["box_reference"] is None


def test_boxes_are_compared_in_the_original_image(tmp_path: Path) -> None:
    """512 x 256 px lie at 250..750 down the square; the answer adds the padding above, which is not of the image."""
    answer, truth = (f'[{{"bbox_2d": [0, {top}, 500, 500]}}]' for top in (0, 250))
    rows = [sample(0, answer, truth) | {"image": "enhanced/shard/a.jpg"}, sample(1, "?", truth) | {"image": "s/b.jpg"}]
    write_jsonl(tmp_path / "predict/lora/test.jsonl", rows[:1])
    place = {"width": 512, "height": 256, "size": 448, "new_width": 448, "new_height": 224, "left": 0, "top": 112}
    pq.write_table(pa.Table.from_pylist([{"image_sha256": "0", "file": "a.jpg"} | place]), tmp_path / "shard.parquet")
    out, samples = tmp_path / "out.json", tmp_path / "out.parquet"
    for geometry, iou in (([tmp_path / "shard.parquet"], 100), ([], 50)):
        evaluate(tmp_path / "predict/lora/test.jsonl", out, samples, geometry=geometry)
        assert read_json(out)["overall"]["metrics"]["iou"]["value"] == pytest.approx(iou)
        assert ("original" in read_json(out)["signatures"]["iou"]) == bool(geometry)
    write_jsonl(tmp_path / "predict/lora/test.jsonl", rows)
    with pytest.raises(UserError, match=r"No image s/b.jpg in .*shard.parquet; make them from the same samples"):
        evaluate(tmp_path / "predict/lora/test.jsonl", out, samples, geometry=[tmp_path / "shard.parquet"])


def test_empty_predictions_score_zero(tmp_path: Path) -> None:
    result, _ = run(tmp_path, [sample(i, "", finding(s)) | {"stopped": False} for i, s in enumerate(SIDES)])
    assert (result["empty"], result["unfinished"]) == (5, 5)
    metrics = result["overall"]["metrics"]
    assert metrics.pop("area_missing", None) is None
    assert {name: m["value"] for name, m in metrics.items()} == dict.fromkeys(metrics, 0)


def test_chinese_references_change_the_signatures(tmp_path: Path) -> None:
    result, _ = run(tmp_path, [sample(i, "左侧高密度影。", "右侧高密度影。") for i in range(3)])
    assert "tok:zh" in result["signatures"]["bleu"]
    assert "CJK" in result["signatures"]["rouge_l"]
    assert result["overall"]["metrics"]["rouge_l"]["value"] == pytest.approx(100 * 5 / 6)


def test_same_input_same_output(tmp_path: Path) -> None:
    rows = [sample(i, finding(SIDES[i % 3]), finding(SIDES[i % 5])) for i in range(15)]
    assert run(tmp_path, rows) == run(tmp_path, rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no prediction"),
        ('{"id": "a"}\n', "line 1: needs text under tag, group, prediction, reference"),
        ("[]\n", "line 1: needs text"),
        (json.dumps(sample(0, "a", "b")) + "\n{half", "line 2: not JSON"),
    ],
)
def test_unusable_input_is_named(tmp_path: Path, content: str, message: str) -> None:
    predictions = tmp_path / "test.jsonl"
    predictions.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        evaluate(predictions, tmp_path / "out.json", tmp_path / "out.parquet")
    assert str(predictions) in str(error.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["test.jsonl"]


def test_floors_from_train_and_from_a_black_picture(tmp_path: Path) -> None:
    rows = [sample(i, finding(s), finding(s)) | {"image": f"{i}.png"} for i, s in enumerate(SIDES)]
    turns = [{"role": "user", "content": "?"}]
    records = [
        {"tag": "CAPTION", "images": [f"t{i}.png"], "messages": [*turns, {"role": "assistant", "content": finding(s)}]}
        for i, s in enumerate(["left", "left", "central"])
    ]
    write_json(tmp_path / "train.json", records)
    near = {"image": [f"{i}.png" for i in range(5)], "neighbours": [["t0.png"], [], ["t2.png"], ["t2.png"], ["t1.png"]]}
    pq.write_table(pa.table(near), tmp_path / "near.parquet")
    write_jsonl(tmp_path / "predict/lora/test.blank.jsonl", [rows[0], rows[2] | {"prediction": finding("right")}])
    write_jsonl(tmp_path / "predict/lora/test.jsonl", rows)
    evaluate(
        tmp_path / "predict/lora/test.jsonl",
        tmp_path / "out.json",
        tmp_path / "out.parquet",
        train=tmp_path / "train.json",
        neighbours=tmp_path / "near.parquet",
        blank=tmp_path / "predict/lora/test.blank.jsonl",
    )
    exact = read_json(tmp_path / "out.json")["overall"]["metrics"]["exact_match"]
    found = {name: (floor["value"], floor["n"]) for name, floor in exact["floors"].items()}
    assert found == {"shuffled": (0, 5), "common": (20, 5), "nearest": (50, 4), "blank": (50, 2)}
    assert (exact["floor_name"], exact["floor"], exact["lift"]) == ("nearest", 50, 50)
    lifts = {
        name: (floor["lift"], floor["better"]) for name, floor in exact["floors"].items()
    }  # of the samples of both
    assert lifts == {"shuffled": (100, True), "common": (80, True), "nearest": (50, None), "blank": (50, None)}
    assert exact["floors"]["nearest"]["lift_interval"] == exact["lift_interval"] == [0, 100]
    missed = read_json(tmp_path / "out.json")["overall"]["metrics"]["slots"]["floors"]["shuffled"]
    assert missed["lift_interval"][0] > 0
    semantic = read_json(tmp_path / "out.json")["overall"]["metrics"]["semantic"]
    assert semantic["value"] == pytest.approx(100)
    assert 0 < semantic["floors"]["common"]["value"] < 100
    assert "fitted on 2 distinct answers of train" in read_json(tmp_path / "out.json")["signatures"]["semantic"]


def test_scores_of_other_words_are_compared_on_the_same_samples(tmp_path: Path) -> None:
    """Of five samples three are asked otherwise: one answer stays, one turns its side, one is better."""
    rows = [sample(i, finding(s), finding(s)) for i, s in enumerate(SIDES)]
    rows[4]["prediction"] = finding("left")
    said = [rows[0], rows[1] | {"prediction": finding("right")}, rows[4] | {"prediction": finding("right")}]
    write_jsonl(tmp_path / "predict/lora/test.jsonl", rows)
    write_jsonl(tmp_path / "predict/lora/test.reworded.jsonl", said)
    out, samples = tmp_path / "out.json", tmp_path / "out.parquet"
    evaluate(tmp_path / "predict/lora/test.jsonl", out, samples)
    without, columns = read_json(out), pq.read_schema(samples).names
    evaluate(tmp_path / "predict/lora/test.jsonl", out, samples, unseen=tmp_path / "predict/lora/test.reworded.jsonl")
    result = read_json(out)
    found = result.pop("reworded")
    assert "value: " in result["signatures"].pop("reworded")
    for name in ("rouge_l", "slots"):
        assert f"{name} of a sample" in result["signatures"].pop(f"reworded_change_{name}")
    assert result == without  # nothing else changes
    more = [name for name in pq.read_schema(samples).names if name not in columns]
    assert more == [f"reworded_{name}" for name in ("rouge_l", "slots", "laterality", "iou")]
    assert pq.read_table(samples)["reworded_slots"].to_pylist() == [100, 50, None, None, 100]
    assert (found["n"], found["groups"]) == (3, 3)
    assert found["unchanged"]["value"] == pytest.approx(100 / 3)
    slots = found["metrics"]["slots"]  # side and density, two words: 100, 100 and 50 become 100, 50 and 100
    assert (slots["n"], slots["groups"], slots["difference"]) == (3, 3, 0)
    assert slots["seen"] == slots["value"] == pytest.approx(250 / 3)
    assert slots["interval"] == [-50, 50]
    assert "iou" not in found["metrics"]  # no box is there
