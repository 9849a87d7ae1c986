"""The rules in their images, built here from the real Dockerfiles: results as without, and none of our code inside.

Small phantoms take the demo's whole way, real slices that of the data. See build_images.sh for how these images differ
from published ones.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from executors import ROOT, copy_tree
from packaging.utils import canonicalize_name

sys.path.insert(0, str(ROOT / "tests" / "workflow"))
from running import SMALL

CONTAINED = ("--sdm", "apptainer")
# what a run says of its own time and place
LOCAL = ("logs", "benchmarks", "tiny", "report", "config.yaml")


def run_snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Root without all capabilities, as in a container, needs Apptainer's user namespace."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "config/demo.yaml", "my.yaml"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder / "src"), "APPTAINER_USERNS": "1"}
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def snakemake(folder: Path, *arguments: str) -> str:
    """The output of a run that succeeds."""
    done = run_snakemake(folder, *arguments)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout + done.stderr


def place(folder: Path, images: dict[str, Path], config: dict[str, Any] | None = None) -> Path:
    copy_tree(folder, images)
    (folder / "my.yaml").write_text(yaml.safe_dump(SMALL | (config or {})))
    return folder


def outputs(folder: Path) -> dict[str, bytes]:
    """The bytes of every result that should not depend on where it was made."""
    results = folder / "results" / "small"
    files = (file for file in results.rglob("*") if file.is_file())
    return {str(name): file.read_bytes() for file in files if (name := file.relative_to(results)).parts[0] not in LOCAL}


@pytest.fixture(scope="module")
def folders(images: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A whole run without containers, and one in them."""
    outside, inside = (place(tmp_path_factory.mktemp(name), images) for name in ("outside", "inside"))
    snakemake(outside)
    log = snakemake(inside, *CONTAINED)
    for name, image in images.items():
        assert log.count(f"Activating singularity image containers/build/{image.name}") >= 3, name
    assert log.count("Activating singularity image") == log.count("    log: results/small/logs")  # every job with a log
    return outside, inside


def test_prepared_data_are_bit_equal(folders: tuple[Path, Path]) -> None:
    outside, inside = (
        {name: data for name, data in outputs(folder).items() if name.startswith(("data/", "images/", "sharegpt/"))}
        for folder in folders
    )
    assert outside.keys() == inside.keys()
    assert len(outside) > 30
    assert [name for name in outside if outside[name] != inside[name]] == []


def test_scores_are_equal(folders: tuple[Path, Path]) -> None:
    scores = [
        {path.parent.name: json.loads(path.read_text()) for path in folder.glob("results/small/evaluate/*/test.json")}
        for folder in folders
    ]
    assert scores[0].keys() == {"base", "lora"}
    assert scores[0] == scores[1]
    for folder in folders:
        page = (folder / "results/small/report/index.html").read_text()
        assert "ROUGE-L" in page


def test_going_into_images_or_out_of_them_makes_nothing_stale(folders: tuple[Path, Path]) -> None:
    for folder in folders:
        for arguments in ((), CONTAINED, ("--workflow-profile", "workflow/profiles/workstation")):
            assert "Nothing to be done" in snakemake(folder, *arguments, "--dry-run"), (folder, arguments)


def test_only_what_ran_in_another_image_is_stale(folders: tuple[Path, Path]) -> None:
    """What is published under another digest: not the same software, packed again on this machine."""
    inside = folders[1]
    build, published = inside / "containers" / "build", inside / "containers" / "images.yaml"
    before = published.read_text()
    entries = yaml.safe_load((build / "images.yaml").read_text())
    (build / "evaluate-another.sif").symlink_to(inside / entries["evaluate"])
    (build / "images.yaml").write_text(yaml.safe_dump(entries | {"evaluate": "containers/build/evaluate-another.sif"}))
    assert "Nothing to be done" in snakemake(inside, *CONTAINED, "--dry-run")
    another = {"evaluate": f"docker://registry.example/radtune/evaluate@sha256:{'1' * 64}"}
    published.write_text(yaml.safe_dump(yaml.safe_load(before) | another))
    plan = snakemake(inside, *CONTAINED, "--dry-run", "--quiet", "rules")
    published.write_text(before)
    scoring = ("find_wording", "find_neighbours", "evaluate_split", "compare_experiments")
    stale = {line.split()[0] for line in plan.splitlines() if len(line.split()) == 2 and line.split()[1].isdigit()}
    assert stale == {*scoring, "write_report", "all", "total"}


def test_an_image_that_is_not_built_is_one_sentence(tmp_path: Path) -> None:
    folder = place(tmp_path, {})
    done = run_snakemake(folder, *CONTAINED, "--", "prepare")
    assert done.returncode == 1
    assert "radtune: no image prepare is published; build it: containers/build.sh prepare." in done.stderr


def test_real_slices_outside_the_working_directory(real_data: Path, images: dict[str, Path], tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # not /tmp, which a container sees anyway
        subprocess.run(
            [sys.executable, real_data / "make_parquet.py", name, "--images", "30", "--shards", "2"],
            check=True,
            capture_output=True,
        )
        config = {"dataset": {"source": "local", "path": name}, "images": {"enhanced": {"size": 448}}}
        outside, inside = (place(tmp_path / kind, images, config) for kind in ("outside", "inside"))
        snakemake(outside, "--", "prepare")
        snakemake(inside, *CONTAINED, "--", "prepare")
        results = outputs(outside)
        assert len([name for name in results if name.endswith(".jpg")]) == 30
        assert results == outputs(inside)


def test_images_hold_tools_and_none_of_our_code(images: dict[str, Path], tmp_path: Path) -> None:
    def run(name: str, *command: str) -> subprocess.CompletedProcess[str]:
        apptainer = ["apptainer", "--quiet", "exec", "--userns", "--containall", "--pwd", "/tmp", str(images[name])]
        return subprocess.run([*apptainer, *command], capture_output=True, text=True, check=False)

    for name in images:
        versions = run(name, "python", "-c", "import sys; print(*sys.version_info[:2])").stdout.split()
        assert versions == ["3", "11"]
        lock = (ROOT / "envs" / f"{name}.lock.txt").read_text()
        pinned = dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", lock, re.MULTILINE))
        code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
        there = {
            canonicalize_name(key): version
            for key, version in json.loads(run(name, "python", "-c", code).stdout).items()
        }
        assert pinned.items() <= there.items()
        assert len(pinned) > 20
        found = run(name, "find", "/opt", "/usr/local", "-iname", "*radtune*")
        assert found.stdout.split() == ["/opt/radtune", "/usr/local/bin/radtune"]
        refused = run(name, "radtune", "--help")
        assert refused.returncode == 1
        assert "holds no src/radtune" in refused.stderr
    assert run("train", "python", "-c", "import torch; print(torch.__version__)").stdout.startswith("2.7.1")


def test_release_enters_digests_that_rules_can_pull(images: dict[str, Path], tmp_path: Path) -> None:
    """A registry of Debian's on this machine, a clone of the last commit, and the real push, pull and run."""
    clone, address = tmp_path / "clone", "127.0.0.1:5005"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    settings = {"version": 0.1, "http": {"addr": address}, "storage": {"filesystem": {"rootdirectory": str(tmp_path)}}}
    (tmp_path / "registry.yaml").write_text(yaml.safe_dump(settings))
    with subprocess.Popen(
        ["docker-registry", "serve", tmp_path / "registry.yaml"], stderr=subprocess.DEVNULL
    ) as registry:
        try:
            environment = {
                "COMMAND": "containers/release.sh",
                "PUSHFLAGS": "--tls-verify=false",
                "STORE": str(ROOT / ".images"),
            }
            command = [clone / "tests" / "cluster" / "build_images.sh", f"{address}/radtune", "evaluate"]
            subprocess.run(command, env=os.environ | environment, check=True)
            entry = yaml.safe_load((clone / "containers" / "images.yaml").read_text())["evaluate"]
            assert re.fullmatch(rf"docker://{address}/radtune/evaluate@sha256:[0-9a-f]{{64}}", entry)
            environment = {"APPTAINER_NOHTTPS": "1", "APPTAINER_USERNS": "1", "APPTAINER_DISABLE_CACHE": "1"}
            command = [
                "apptainer",
                "--quiet",
                "exec",
                entry,
                "python",
                "-c",
                "import sacrebleu; print(sacrebleu.__name__)",
            ]
            done = subprocess.run(command, env=os.environ | environment, check=True, capture_output=True, text=True)
            assert done.stdout.strip() == "sacrebleu"
        finally:
            registry.terminate()
