"""Seconds and peak memory of everything after prediction: 5,000 answers each of four experiments to a report.

python bench/report.py [FOLDER]

Phantoms go through the workflow to ShareGPT, in FOLDER if one is named, where a later call finds them; answers are made
here, sentence by sentence right, another sample's or reworded, as often as the experiment is good. What is measured are
the rules' own commands, two at a time as two cores run them: evaluations, comparison, report.
"""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from radtune.files import read_json, write_jsonl

ROOT = Path(__file__).parents[1]
IMAGES, SAMPLES, BLANK = 1850, 5000, 200
RIGHT = {"base": 0.0, "lora": 0.7, "no_box": 0.65, "no_clahe": 0.7}  # share of sentences, boxes and fields
CONFIG = {
    "results": "results",
    "dataset": {"source": "phantom", "phantom": {"images": IMAGES}},
    "split": {"fractions": {"train": 0.45, "validation": 0.05, "test": 0.5}},
    "prompts": {"language": "en"},
    "model": {"source": "tiny"},
    "experiments": {},
    "limits": {"quarantine_share": 0.5},
}
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
_SENTENCE = re.compile(r"(?<=[.\n])\s*")


def prepared(folder: Path) -> Path:
    """Results of the workflow's `prepare` in `folder`, and the config and neighbours of its test split."""
    for link in ("workflow", "rules", "config", "containers", "envs"):
        if not (folder / link).exists():
            (folder / link).symlink_to(ROOT / link)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all", "--configfile", "config.yaml"]
    subprocess.run([*command, "--", "prepare", "results/config.yaml"], cwd=folder, env=ENVIRONMENT, check=True)
    return folder / "results"


def answered(own: str, other: str, right: float, draw: random.Random) -> str:
    """`own` with each part kept at a chance of `right`, else taken from `other`, an answer to the same task."""
    try:
        ours, theirs = json.loads(own), json.loads(other)
    except ValueError:
        pairs = zip(*(_SENTENCE.split(text) for text in (own, other)), strict=False)
        return " ".join(a if draw.random() < right else b for a, b in pairs).strip()
    if isinstance(ours, list):  # a box, moved by less where the experiment is better
        box = [max(0, min(1000, round(v + draw.gauss(0, 60 * (1 - right))))) for v in ours[0]["bbox_2d"]]
        return json.dumps([ours[0] | {"bbox_2d": box}] if right else theirs)
    text = json.dumps({key: (ours if draw.random() < right else theirs)[key] for key in ours}, ensure_ascii=False)
    return text if right else f"```json\n{text}\n```"


def write_predictions(results: Path) -> None:
    (sharegpt,) = results.glob("sharegpt/*/test.json")
    records = read_json(sharegpt)[:SAMPLES]
    by_tag: dict[str, list[str]] = {}
    for record in records:
        by_tag.setdefault(record["tag"], []).append(record["messages"][-1]["content"])
    for experiment, right in RIGHT.items():
        draw, rows = random.Random(experiment), []
        for record in records:
            prompt, answer = (message["content"] for message in record["messages"])
            said = answered(answer, draw.choice(by_tag[record["tag"]]), right, draw)
            rows.append({key: record[key] for key in ("id", "tag", "group")} | {"prompt": prompt, "reference": answer})
            rows[-1] |= {"prediction": said, "image": record["images"][0]}
            rows[-1] |= {"seconds": 0.1, "tokens": len(said) // 4, "stopped": True}
        write_jsonl(results / "predict" / experiment / "test.jsonl", rows)
        blind = [row | {"prediction": draw.choice(by_tag[row["tag"]])} for row in draw.sample(rows, BLANK)]
        write_jsonl(results / "predict" / experiment / "test.blank.jsonl", blind)


Figures = tuple[float, float, int]  # seconds, seconds of CPU, MiB at most


def run(*arguments: str | Path) -> Figures:
    began = time.perf_counter()
    program = Path(sys.executable).parent / "radtune"
    process = subprocess.Popen([program, *arguments], env=ENVIRONMENT)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, arguments
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024


def evaluation(results: Path, experiment: str) -> Figures:
    (train,) = results.glob("sharegpt/*/train.json")
    blank = ["--blank", results / f"predict/{experiment}/test.blank.jsonl"] if RIGHT[experiment] else []
    return run(
        *("evaluate", "--predictions", results / f"predict/{experiment}/test.jsonl", "--train", train, *blank),
        *("--neighbours", results / "neighbours.parquet", "--out", results / f"evaluate/{experiment}/test.json"),
        *("--samples", results / f"evaluate/{experiment}/test.samples.parquet"),
    )


def report(results: Path) -> Figures:
    files = {
        "evaluations": [results / f"evaluate/{name}/test.json" for name in RIGHT],
        "sample-scores": [results / f"evaluate/{name}/test.samples.parquet" for name in RIGHT],
        "predictions": [results / f"predict/{name}/test.jsonl" for name in RIGHT],
        "differences": [results / "evaluate/differences.json"],
        "samples-table": [results / "data/samples.parquet"],
        "quarantine": [results / "data/quarantine.jsonl"],
        "leakage": [results / "data/leakage.json"],
        "checks": [results / "data/checks.json"],
        "disagreements": [results / "data/disagreements.jsonl"],
        "media-dir": [results / "images"],
        "config": [results / "config.yaml"],
    }
    flags = [part for name, paths in files.items() for part in (f"--{name}", *paths)]
    return run("report", *flags, "--title", "bench", "--out", results / "report/index.html")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(sys.argv[1] if sys.argv[1:] else name)
        folder.mkdir(parents=True, exist_ok=True)
        results = prepared(folder)
        write_predictions(results)
        train, asked = (next(results.glob(f"sharegpt/*/{split}.json")) for split in ("train", "test"))
        neighbours = results / "neighbours.parquet"
        flags = ["--train", train, "--asked", asked, "--media-dir", results / "images", "--out", neighbours]
        lines = {"find-neighbours (not in the sum)": run("find-neighbours", *flags)}
        began = time.perf_counter()
        with ThreadPoolExecutor(2) as two:
            found = list(two.map(lambda experiment: evaluation(results, experiment), RIGHT))
        lines |= {f"evaluate {name}": figures for name, figures in zip(RIGHT, found, strict=True)}
        samples = [results / f"evaluate/{name}/test.samples.parquet" for name in RIGHT]
        lines["compare-experiments"] = run(
            "compare-experiments", "--samples", *samples, "--out", results / "evaluate/differences.json"
        )
        lines["report"] = report(results)
        wall = time.perf_counter() - began
    print(f"{'':34} seconds    CPU    MiB")
    for name, (seconds, cpu, peak) in lines.items():
        print(f"{name:34} {seconds:7.1f} {cpu:6.1f} {peak:6,}")
    work = [*found, lines["compare-experiments"], lines["report"]]
    together = max(sum(sorted(peak for *_, peak in found)[-2:]), *(peak for *_, peak in work))
    print(f"{'all, two at a time':34} {wall:7.1f} {sum(cpu for _, cpu, _ in work):6.1f} {together:6,}")


if __name__ == "__main__":
    main()
