"""The same run on parquet made from real head-CT slices, read from a local folder."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from running import SMALL, place, snakemake

from radtune.files import read_json, read_jsonl

pytestmark = pytest.mark.slow


def test_real_slices_end_in_a_report(real_data: Path, tmp_path: Path) -> None:
    folder = place(tmp_path)
    writer = [
        sys.executable,
        str(real_data / "make_parquet.py"),
        str(folder / "parquet"),
        "--images",
        "24",
        "--defects",
    ]
    subprocess.run(writer, check=True)
    untuned = SMALL["experiments"] | {"lora": False}  # pictures are as good as phantoms once they are written
    config = SMALL | {"dataset": {"source": "local", "path": "parquet"}, "experiments": untuned}
    (folder / "small.yaml").write_text(yaml.safe_dump(config))
    done = snakemake(folder, "--configfile", "config/demo.yaml", "small.yaml")
    assert done.returncode == 0, done.stdout[-6000:]
    results = folder / "results" / "small"
    assert (results / "report" / "index.html").stat().st_size > 50_000
    manifest = read_json(results / "data" / "manifest.json")
    truth = read_jsonl(folder / "parquet" / "truth.jsonl")
    defects = sum(row["defect"] is not None for row in truth)
    assert sum(shard["rows"] for shard in manifest["shards"]) == 24 * 6 + defects
    assert not list(folder.rglob("pwned"))
    assert not list(folder.parent.rglob("escape*"))
