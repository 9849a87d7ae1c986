"""After a finished run: each row is an edit, and exactly the jobs that a careful engineer would run again for it.

One small run serves all rows; each plans on it, in a copy of the tree whose files can be edited, and undoes its edit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from running import ROOT, SMALL, offline, planned, snakemake

from radtune.data.phantom import write_dataset
from radtune.evaluate.records import parse
from radtune.files import read_json, read_jsonl

pytestmark = pytest.mark.slow
TREE = ("README.md", "workflow", "rules", "config", "containers", "docs", "envs", "src")
FILES = ("--configfile", "config/demo.yaml", "small.yaml")
Jobs = dict[str, int]

# Everything that follows from a stage, with the jobs of this run: three shards, and the experiments base and lora.
REPORT: Jobs = {"write_report": 1}
CONFIG: Jobs = {"write_config": 1} | REPORT
WORDING: Jobs = {"find_wording": 1} | REPORT
SCORES: Jobs = {"evaluate_split": 2, "compare_experiments": 1} | REPORT
SCORING: Jobs = {"find_neighbours": 1} | SCORES | WORDING  # all that runs in its image
ANSWERS: Jobs = {"predict_split": 4, "predict_blank": 1} | SCORES  # of each experiment, reworded ones as well
REWORDED: Jobs = {"reword_split": 1, "predict_split": 2} | SCORES
ADAPTER: Jobs = {"check_budget": 1, "train_adapter": 1} | ANSWERS
ONE: Jobs = {
    "predict_split": 2,
    "predict_blank": 1,
    "evaluate_split": 1,
    "compare_experiments": 1,
} | REPORT  # a single experiment's
DATASET: Jobs = {"write_sharegpt": 1, "reword_split": 1, "find_neighbours": 1} | ADAPTER
TAUGHT: Jobs = {"teach_tiny": 1, "train_tiny": 1} | ADAPTER  # the tiny model, and what starts from it
TAUGHT_AGAIN: Jobs = {"train_tiny": 1} | ADAPTER
TINY: Jobs = {"build_tiny": 1} | TAUGHT
RECIPE: Jobs = {"enhance_shard": 3} | DATASET
PICTURES: Jobs = {"enhance_practice": 1} | TAUGHT | RECIPE
ROWS: Jobs = {"merge_index": 1, "split_samples": 1, "check_texts": 1} | DATASET | WORDING


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run without containers, in a copy of the tree where every image is built here, by name."""
    folder = tmp_path_factory.mktemp("finished") / "tree"
    copy_tree(folder)
    write_dataset(folder / "rows", 24, 3, 1)
    write_dataset(folder / "more", 6, 4, 1)
    asked = {"generation": {"max_new_tokens": 16}}  # with black pictures and in other wordings too
    config = SMALL | asked | {"dataset": {"source": "local", "path": "rows"}}
    (folder / "small.yaml").write_text(yaml.safe_dump(config))
    done = snakemake(folder, *FILES, source=folder / "src")
    assert done.returncode == 0, done.stdout[-4000:]
    return folder


def copy_tree(folder: Path) -> None:
    for name in TREE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():  # without the images that were built in it
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("build"))
        else:
            shutil.copy(ROOT / name, folder / name)
    (folder / "containers" / "build").mkdir()
    images = {name: f"containers/build/{name}-000000000000.sif" for name in ("prepare", "train", "evaluate", "vllm")}
    for image in images.values():
        (folder / image).touch()
    (folder / "containers" / "build" / "images.yaml").write_text(yaml.safe_dump(images))


def plan(folder: Path, *arguments: str) -> Jobs:
    done = snakemake(folder, "--dry-run", "--quiet", "rules", *arguments, source=folder / "src")
    assert done.returncode == 0, done.stdout[-4000:]
    return planned(done.stdout)


@contextmanager
def edited(folder: Path, name: str, old: str, new: str) -> Iterator[None]:
    """`old`, which stands there, replaced by `new`; "" stands at the end."""
    file = folder / name
    before = file.read_text()
    assert old in before
    file.write_text(before.replace(old, new, 1) if old else before + new)
    yield
    file.write_text(before)


CLAHE = {"images": {"enhanced": {"clahe": {"clip_limit": 3.0}}}}
SECOND = {"experiments": {"second": {"training": {"learning_rate": 1.0e-3}}}}
CONFIGS = {
    "CLAHE clip": (CLAHE, RECIPE | CONFIG),
    "learning rate": ({"training": {"learning_rate": 1.0e-3}}, {"check_budget": 1, "train_adapter": 1} | ONE | CONFIG),
    "prompts' language": ({"prompts": {"language": "zh"}}, DATASET | CONFIG),
    "more wordings": ({"prompts": {"wordings": None}}, DATASET | CONFIG),
    "constraint": ({"prompts": {"constraint": True}}, DATASET | CONFIG),
    "valid records": ({"generation": {"valid_records": True}}, ANSWERS | CONFIG),
    "no other wordings": ({"generation": {"reworded": 0}}, SCORES | CONFIG),
    "added experiment": (SECOND, {"check_budget": 1, "train_adapter": 1} | ONE | CONFIG),
    "similar cases": (
        {"experiments": {"cases": {"retrieval": {"used_in": "training"}}}},
        {"embed_images": 3, "build_index": 1, "find_cases": 3, "add_cases": 1, "reword_split": 1}
        | {"check_budget": 1, "train_adapter": 1}
        | ONE
        | CONFIG,
    ),
    "generation length": ({"generation": {"max_new_tokens": 17}}, ANSWERS | CONFIG),
    "share that may be lost": (
        {"limits": {"quarantine_share": 0.3}},
        {"split_samples": 1, "check_texts": 1} | DATASET | WORDING | CONFIG,
    ),
    "memory of the card": ({"limits": {"gpu_memory_gib": 16}}, CONFIG),
    "price": ({"budget": {"tokens_per_second": 900, "price_per_hour": 2}}, CONFIG),
}


@pytest.mark.parametrize("row", CONFIGS)
def test_the_config(finished: Path, row: str) -> None:
    config, expected = CONFIGS[row]
    (finished / "mine.yaml").write_text(yaml.safe_dump(config))
    assert plan(finished, *FILES, "mine.yaml") == expected


def test_a_split_in_chunks_is_put_together_to_the_same(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "tree", symlinks=True))
    (folder / "mine.yaml").write_text(yaml.safe_dump({"experiments": {"lora": {"generation": {"chunks": 2}}}}))
    done = snakemake(folder, *FILES, "mine.yaml", "--", "predict", source=folder / "src")
    assert done.returncode == 0, done.stdout[-4000:]
    assert planned(done.stdout) == {"predict_split": 2, "join_chunks": 1}
    predicted = [
        [row | {"seconds": None} for row in read_jsonl(place / "results/small/predict/lora/test.jsonl")]
        for place in (folder, finished)
    ]
    assert predicted[0] == predicted[1] != []


def test_records_are_valid_where_that_is_asked(finished: Path, tmp_path: Path) -> None:
    """Of a model that has learned next to nothing, to the usual questions and to reworded ones."""
    folder = Path(shutil.copytree(finished, tmp_path / "tree", symlinks=True))
    config = {"generation": {"valid_records": True, "max_new_tokens": 90}}
    (folder / "mine.yaml").write_text(yaml.safe_dump(config))
    scored = "results/small/evaluate/lora/test.json"
    done = snakemake(folder, *FILES, "mine.yaml", "--", scored, source=folder / "src")
    assert done.returncode == 0, done.stdout[-4000:]
    for place, valid in ((folder, {True}), (finished, {False})):
        files = [place / "results/small/predict/lora" / name for name in ("test.jsonl", "test.reworded.jsonl")]
        rows = [row for file in files for row in read_jsonl(file) if row["tag"] == "JSON_RECORD"]
        assert {parse(row["prediction"])[1] and row["stopped"] for row in rows} == valid
        assert read_json(place / scored)["overall"]["metrics"]["record_valid"]["value"] == 100 * (place == folder)


PUBLISHED = f"evaluate: docker://registry.example/radtune/evaluate@sha256:{'1' * 64}"
EDITS = {
    # the tiny model's tokenizer is made from the prompts as well; a real model would stay as it is
    "one prompt": ("config/prompts/en.yaml", "image mainly", "picture mainly", TINY | DATASET),
    "a prompt that is not used": ("config/prompts/en.yaml", "Dictate", "Write", {}),
    "an unseen prompt": ("config/prompts/en.yaml", "scan for a", "image for a", REWORDED),
    "a comment in the prompts": ("config/prompts/en.yaml", "", "# why\n", {}),
    "the evaluate code": ("src/radtune/evaluate/score.py", "", "\nADDED = 1\n", SCORES),
    "a word list": ("src/radtune/language/lexicon.yaml", "", "# why\n", SCORES | WORDING),
    "the lexicon of wording": ("src/radtune/clean/wording.yaml", "", "# why\n", WORDING),
    "the prompt that rewrites": ("config/prompts/rewrite.yaml", "", "# why\n", {}),
    # not scan_shard, which makes the same pictures ahead
    "the enhance code": ("src/radtune/images/enhance.py", "", "\nADDED = 1\n", PICTURES),
    "the check's code": ("src/radtune/train/memory.py", "", "\nADDED = 1\n", {}),  # training would follow it
    "the train code": ("src/radtune/train/launch.py", "", "\nADDED = 1\n", TAUGHT_AGAIN),
    "a comment in train code": ("src/radtune/train/launch.py", "", "\n# why\n", {}),
    "docs": ("docs/running.md", "", "\nMore.\n", {}),
    "report template": ("src/radtune/report/templates/report.html.j2", "", "<p>More</p>", REPORT),
    "lock of evaluate": ("envs/evaluate.lock.txt", "sacrebleu==2.6.0", "sacrebleu==2.6.1", SCORING),
    "lock of train": ("envs/train.lock.txt", "peft==0.18.1", "peft==0.18.2", TINY),
    "lock of torch": ("envs/torch.lock.txt", "torch==2.7.1", "torch==2.7.2", TINY),
    "lock of torch in the image": ("envs/torch-cu118.lock.txt", "torch-2.7.1", "torch-2.7.2", TINY),
    "a comment in a lock": ("envs/train.lock.txt", "    # via", "    # by way of", {}),
    "another wheel's hash in a lock": (
        "envs/train.lock.txt",
        "    --hash=",
        f"    --hash=sha256:{'1' * 64} \\\n    --hash=",
        {},
    ),
    "a lock of no rule": ("envs/slurm.lock.txt", "==", "==1", {}),
    "Dockerfile": ("containers/evaluate/Dockerfile", "PYTHON=3.11.18", "PYTHON=3.11.19", SCORING),
    "a comment in a Dockerfile": ("containers/train/Dockerfile", "", "# why\n", {}),
    "image digest": ("containers/images.yaml", "evaluate: null", PUBLISHED, SCORING),
    "an image built here": ("containers/build/images.yaml", "train-0", "train-1", {}),
}


@pytest.mark.parametrize("row", EDITS)
def test_an_edit(finished: Path, row: str) -> None:
    name, old, new, expected = EDITS[row]
    with edited(finished, name, old, new):
        assert plan(finished, *FILES) == expected


def test_what_the_report_says_of_the_run_makes_nothing_stale(finished: Path) -> None:
    """Time and memory of jobs, and the code's commit: no inputs, and so no reason to write the page again."""
    aside = finished / "benchmarks"
    shutil.copytree(benchmarks := finished / "results/small/benchmarks", aside)
    try:
        for path in benchmarks.rglob("*.jsonl"):
            path.unlink() if path.parent.name == "lora" else path.write_text(path.read_text() * 2)
        subprocess.run(["git", "init"], cwd=finished, check=True, capture_output=True)
        assert plan(finished, *FILES) == {}
    finally:
        shutil.rmtree(finished / ".git", ignore_errors=True)
        shutil.rmtree(benchmarks)
        aside.rename(benchmarks)


def test_snakemake_s_own_report_has_every_caption_and_needs_no_network(finished: Path) -> None:
    done = snakemake(finished, *FILES, "--report", "out.html", before=offline(), source=finished / "src")
    assert done.returncode == 0, done.stdout[-4000:]
    page = (finished / "out.html").read_text()
    captions = list((ROOT / "workflow" / "report").glob("*.rst"))
    assert len(captions) == 8
    for caption in captions:
        words = caption.read_text().splitlines()[-1]  # without markup in each
        assert words in page, caption
    assert 'src="http' not in page


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--set-threads", "train_adapter=2", "scan_shard=2"),
        ("--set-resources", "train_adapter:mem_mb=20000"),
        ("--resources", "gpu=2", "--set-resources", "train_adapter:gpu=2"),
        ("--sdm", "apptainer"),
        ("--workflow-profile", "workflow/profiles/workstation"),
    ],
    ids=" ".join,
)
def test_another_place(finished: Path, arguments: tuple[str, ...]) -> None:
    if {"apptainer", "workflow/profiles/workstation"} & set(arguments) and not shutil.which("apptainer"):
        pytest.skip("even a plan of jobs in images needs Apptainer; tests/cluster/test_apptainer.py has this row too")
    assert plan(finished, *FILES, *arguments) == {}


@pytest.mark.parametrize(
    ("lost", "rule"),
    [
        ("data/index/*.parquet", "index_shard"),
        ("data/scan/*.parquet", "scan_shard"),
        ("images/enhanced/t*", "enhance_shard"),
        ("train/lora/adapter", "train_adapter"),
        ("predict/base/test.jsonl", "predict_split"),
    ],
)
def test_what_a_failed_job_leaves_is_not_taken_for_finished(finished: Path, lost: str, rule: str) -> None:
    """Snakemake has deleted its outputs; the report of what was there before still stands."""
    path = min((finished / "results" / "small").glob(lost))
    path.rename(aside := finished / "aside")
    try:
        assert plan(finished, *FILES)[rule] == 1
    finally:
        aside.rename(path)


def test_touched_files(finished: Path) -> None:
    files = [file for name in TREE for file in (finished / name).rglob("*") if file.is_file()]
    assert len(files) > 100
    for file in files:
        os.utime(file)
    assert plan(finished, *FILES) == {}


def listed(finished: Path, folder: Path, change: Callable[[Path], object]) -> Jobs:
    """What is planned in a copy of the run after `change` to its rows and a new listing, which all else hangs on."""
    shutil.copytree(finished, folder, symlinks=True)
    change(folder)
    assert plan(folder, *FILES)["list_shards"] == 1
    done = snakemake(folder, *FILES, "--until", "list_shards", source=folder / "src")
    assert done.returncode == 0, done.stdout[-4000:]
    return plan(folder, *FILES)


# A shard may hold an image that another one has too, so when one comes or goes all are scanned again; only the new one
# is fetched and indexed.
def test_a_new_shard(finished: Path, tmp_path: Path) -> None:
    def add(folder: Path) -> None:
        (folder / "more" / "train-00000-of-00001.parquet").rename(folder / "rows" / "train-more.parquet")

    expected = {"fetch_shard": 1, "index_shard": 1, "scan_shard": 4} | ROWS | {"enhance_shard": 4}
    assert listed(finished, tmp_path / "tree", add) == expected


def test_a_removed_shard(finished: Path, tmp_path: Path) -> None:
    def remove(folder: Path) -> None:
        (folder / "rows" / "validation-00000-of-00001.parquet").unlink()

    expected = {"scan_shard": 2} | ROWS | {"enhance_shard": 2}
    assert listed(finished, tmp_path / "tree", remove) == expected


EVERY_RULE = """
include: "workflow/Snakefile"
import inspect
for rule in workflow.rules:
    if rule.shellcmd and not callable(rule.params.get("code")):
        print("without", rule.name)
    elif rule.shellcmd:
        of = inspect.getclosurevars(rule.params.code).nonlocals
        print("rule", rule.name, code.image(of["module"]), rule.container_img)
"""


def test_the_software_is_that_of_the_rule_s_own_container(finished: Path) -> None:
    (finished / "Every").write_text(EVERY_RULE)
    done = snakemake(finished, *FILES, "--snakefile", "Every", "--list-rules", source=finished / "src")
    rows = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("rule ")]
    without = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("without ")}
    # the config is its result; the shell alone links local shards and models and puts chunks together
    assert without == {"write_config", "fetch_shard", "join_chunks", "export_model"}
    assert len(rows) >= 20
    assert [row for row in rows if row[2] != f"containers/build/{row[1]}-000000000000.sif"] == []


def test_code_that_only_lists_local_shards(finished: Path, tmp_path: Path) -> None:
    """The listing is made again; as it says the same, and links are made without that code, nothing follows."""

    def edit(folder: Path) -> None:
        with (folder / "src" / "radtune" / "data" / "source.py").open("a") as file:
            file.write("ADDED = 1\n")

    assert listed(finished, tmp_path / "tree", edit) == {}


def test_the_lock_of_prepare(finished: Path, tmp_path: Path) -> None:
    def bump(folder: Path) -> None:
        lock = folder / "envs" / "prepare.lock.txt"
        lock.write_text(lock.read_text().replace("pillow==11.3.0", "pillow==11.3.1"))

    expected = {"draw_practice": 1, "index_shard": 3, "scan_shard": 3} | ROWS | PICTURES | TINY
    assert listed(finished, tmp_path / "tree", bump) == expected


def test_cloning_again(finished: Path, tmp_path: Path) -> None:
    """Results, and data that the config names by a relative path, moved beside a fresh copy of the tree."""
    folder, gone = tmp_path / "tree", tmp_path / "gone"
    copy_tree(folder)
    shutil.copy(finished / "small.yaml", folder)
    for name in ("rows", "results", ".snakemake"):
        shutil.copytree(finished / name, folder / name, symlinks=True)
    finished.rename(gone)
    try:
        assert plan(folder, *FILES) == {}
        assert plan(folder, *FILES, "--", "preview") == {"draw_preview": 1}
    finally:
        gone.rename(finished)
