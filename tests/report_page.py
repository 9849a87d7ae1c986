"""What two experiments leave, one answer of which is hostile, as is a reason; and the page that the report makes."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from radtune.clean.accept import REFUSALS
from radtune.clean.text import Kind
from radtune.evaluate.compare import compare
from radtune.evaluate.score import evaluate
from radtune.files import write_json, write_jsonl
from radtune.report.page import write_report

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)> \u202egnp.\u2066exe\x00\ud800 end"


def write_inputs(folder: Path) -> None:
    media = folder / "media"
    media.mkdir()
    Image.new("L", (64, 64), 90).save(media / "a.png")
    box = '[{{"bbox_2d": [100, 100, {}, 400], "label": "lesion"}}]'
    for name in ("base", "lora"):
        rows = []
        for i in range(30):
            reference = f"A hyperdense area located {['left', 'central', 'right'][i % 3]} horizontally, {i}."
            common = {
                "id": f"i{i}",
                "group": f"g{i // 2}",
                "image": "a.png",
                "prompt": "<image>Where?",
                "stopped": True,
            }
            answer = reference.replace("central", "left") if name == "lora" else "An image."
            rows += [
                common | {"tag": "CAPTION", "prediction": answer, "reference": reference},
                common | {"tag": "DETECT_REGION_LOC", "prediction": box.format(300 + i), "reference": box.format(400)},
            ]
        if name == "lora":
            rows[0] |= {"prediction": HOSTILE + " and more" * 120, "prompt": HOSTILE, "stopped": False}
        predictions = folder / "predict" / name / "test.jsonl"
        predictions.parent.mkdir(parents=True)
        predictions.write_text("".join(json.dumps(row) + "\n" for row in rows))
        scored, other = folder / "evaluate" / name, predictions.with_name("test.reworded.jsonl")
        asked = rows[:40] if name == "base" else rows[:40:2]  # captions alone
        again = [row | {"prediction": row["reference"]} for row in asked]
        other.write_text("".join(json.dumps(row) + "\n" for row in again))
        evaluate(predictions, scored / "test.json", scored / "test.samples.parquet", unseen=other)
    compare(
        [folder / "evaluate" / n / "test.samples.parquet" for n in ("base", "lora")],
        folder / "evaluate" / "differences.json",
    )
    write_jsonl(folder / "train" / "lora" / "trainer_log.jsonl", [{"step": s, "loss": 1 / s} for s in (1, 2, 3)])
    shared = {
        "images": "as_is",
        "init_adapter": None,
        "model_name": "tiny-1",
        "model": {"source": "tiny", "path": None},
    }
    experiments = {name: shared | {"training": of} for name, of in (("base", None), ("lora", {"a": "<i>b"}))}
    experiments["lora"]["cleaned"] = "rewrite-0"
    config = {"results": "<b>here</b>", "images": {"as_is": {}}, "experiments": experiments}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    before = {"train": 4000, "validation": 900, "test": 1300, "validation_in_train": 810, "test_in_train": 1234}
    after = before | {"validation_in_train": 0, "test_in_train": 0}
    write_json(
        folder / "leakage.json",
        {name: {"images": n, "groups": n, "like images": n} for name, n in (("as_delivered", before), ("after", after))}
        | {"by": "group"},
    )
    shard = {"name": "<b>train-0</b>", "split": "train", "rows": 5000, "sha256": "ab" * 32}
    write_json(folder / "run.json", {"git": {"commit": "ab" * 20, "changed": 0}, "snakemake": "9.23.1"})
    write_json(folder / "manifest.json", {"source": "s3", "repo": "s3://b/p", "revision": "77", "shards": [shard]})
    write_json(
        folder / "checks.json",
        {
            "images": {"unique": 5000, "with_box": 4900, "without_box": 100, "low_confidence": 30},
            "forms": {"DETECT_REGION_LOC": {"florence": 17}, "JSON_RECORD.bloc": {"<i>words": 2}},
            "disagreements": {
                "coordinates": {"checked": 340, "disagree": 12},
                "vertical": {"checked": 9, "disagree": 1},
            },
            "split": {
                "by": "group",
                "asked": {"train": 0.8},
                "tolerance": 0.01,
                "got": {"train": 0.79},
                "groups": 40,
                "largest_group": 36,
            },
        },
    )
    common = {"shard": "train-0", "row": 5, "id": "<a>", "tag": "CAPTION"}
    says = [("coordinates", [1, 2, 3, 4], [9, 9, 99, 99])] * 12 + [("vertical", HOSTILE, "bottom")]
    lines = [
        json.dumps(common | {"kind": kind, "text_says": text, "pixels_say": pixels}) for kind, text, pixels in says
    ]
    (folder / "disagreements.jsonl").write_text("\n".join(lines))
    write_jsonl(folder / "quarantine.jsonl", [{"reason": r} for r in ("<u>bad</u>", "no_image", "no_image")])
    example = {
        "rows": 3,
        "around": ["so ", HOSTILE],
        "id": "<a>",
        "tag": "CAPTION",
        "evidence": HOSTILE,
        "note": HOSTILE,
    }
    found = {"rows": 3, "groups": 2, "splits": {"train": 3}, "different": 1, "examples": [example]}
    kinds = {kind: found | {"sentence": kind.sentence} for kind in Kind}
    (folder / "wording.json").write_text(json.dumps({"rows": 7, "texts": 6, "groups": 5, "kinds": kinds}))
    similarity = {"mean": 81.25, "least": 60, "rewritten": [75.0, 87.5], "refused": [12.0]}
    rewriting = {"model": "<m>", "texts": {"asked": 4, "rewritten": 2, "refused": {"side": 1, "timeout": 1}}}
    rewriting |= {"similarity": similarity, "tokens": [1234, 56], "cost": 1.5, "action": "rewrite", "kinds": ["chatty"]}
    rewriting |= {"examples": [{"before": HOSTILE, "rewrite": HOSTILE, "similarity": 75.0}], "reasons": REFUSALS}
    splits = {"train": {"rows": 900, "rewrite": 33, "keep": 11}, "validation": {"rows": 100}}
    (folder / "rewrite-0.json").write_text(json.dumps(rewriting | {"splits": splits}))
    status = ["kept"] * 7 + ["quarantined"] * 3
    table = {
        "status": status,
        "split": ["train"] * 7 + [None] * 3,
        "group": ["g"] * 10,
        "image_sha256": list("aabbccdeee"),
    }
    pq.write_table(pa.table(table), folder / "samples.parquet")


def write_page(folder: Path) -> Path:
    """The page of such a folder; its title is hostile too."""
    write_report(
        folder / "index.html",
        config=folder / "config.yaml",
        evaluations=[folder / "evaluate" / n / "test.json" for n in ("base", "lora")],
        sample_scores=[folder / "evaluate" / n / "test.samples.parquet" for n in ("base", "lora")],
        differences=folder / "evaluate" / "differences.json",
        predictions=[folder / "predict" / n / "test.jsonl" for n in ("base", "lora")],
        trainings=[folder / "train" / "lora"],
        leakage=folder / "leakage.json",
        quarantine=folder / "quarantine.jsonl",
        checks=folder / "checks.json",
        disagreements=folder / "disagreements.jsonl",
        samples_table=folder / "samples.parquet",
        media_dir=folder / "media",
        title="Demo <em>title</em>",
        manifest=folder / "manifest.json",
        run=folder / "run.json",
        wording=folder / "wording.json",
        cleaned=[folder / "rewrite-0.json"],
    )
    return folder / "index.html"


def plain(page: str) -> str:
    """The page's English, without the Chinese that stands beside it."""
    return re.sub(r'<span data-zh="[^"]*">([^<]*)</span>', r"\1", page)
