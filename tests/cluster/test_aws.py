"""What Snakemake sends to AWS Batch with profiles/aws, to a toy of its API that runs each job's command as a process of
this machine; and the job definition against AWS' own description. AWS itself is not had here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from executors import ROOT, environment

NAMES = ("prepare", "train", "evaluate")
PROFILE = ROOT / "workflow" / "profiles" / "aws"
VALIDATE = """
import json, sys
from botocore.session import Session
from botocore.validate import ParamValidator
shape = Session().get_service_model("batch").operation_model("RegisterJobDefinition").input_shape
print(ParamValidator().validate(json.load(sys.stdin), shape).generate_report(), end="")
"""


def refused(definition: dict[str, Any]) -> str:
    """What AWS' description of its API has against a job definition; empty if nothing."""
    command = [environment("aws") / "bin/python", "-c", VALIDATE]
    return subprocess.run(command, input=json.dumps(definition), stdout=subprocess.PIPE, text=True, check=True).stdout


@pytest.mark.slow
def test_job_definition_follows_the_api() -> None:
    definition = json.loads((PROFILE / "job-definition.json").read_text())
    assert refused(definition) == ""
    container = definition["containerProperties"]
    assert [mount["containerPath"] for mount in container["mountPoints"]] == ["/radtune"]
    profile = yaml.safe_load((PROFILE / "config.yaml").read_text())
    assert profile["directory"].startswith("/radtune/")
    assert definition["jobDefinitionName"] == f"{profile['aws-batch-efs-job-definition']}-NAME"
    container["mountPoints"][0]["path"] = "/radtune"
    assert "path" in refused(definition)


class Handler(BaseHTTPRequestHandler):
    """SubmitJob, DescribeJobs, TerminateJob; a job runs in an empty folder, with the PATH that stands for its image."""

    submitted: list[dict[str, Any]]
    jobs: dict[str, subprocess.Popen[bytes]]
    path_inside: str

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer: dict[str, Any] = {}
        match self.path:
            case "/v1/submitjob":
                self.submitted.append(body)
                given = body["containerOverrides"]
                variables = {entry["name"]: entry["value"] for entry in given["environment"]}
                process = subprocess.Popen(
                    given["command"], cwd=tempfile.mkdtemp(), env={"PATH": self.path_inside, **variables}
                )
                self.jobs[str(process.pid)] = process
                answer = {"jobId": str(process.pid), "jobName": body["jobName"]}
            case "/v1/describejobs":
                name = body["jobs"][0]
                code = self.jobs[name].poll()
                status = "RUNNING" if code is None else "SUCCEEDED" if code == 0 else "FAILED"
                answer = {"jobs": [{"jobId": name, "status": status, "container": {"exitCode": code}}]}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.slow
def test_a_rule_becomes_a_job_with_what_it_asks_for(tmp_path: Path) -> None:
    place, tools = tmp_path / "tree", tmp_path / "bin"
    for folder in (place / "containers", tools, tmp_path / "home"):
        folder.mkdir(parents=True)
    for name in ("workflow", "rules", "config", "envs", "src", *(f"containers/{name}" for name in NAMES)):
        (place / name).symlink_to(ROOT / name)
    images = {name: f"docker://registry.example/a/{name}@sha256:{'0' * 64}" for name in NAMES}
    (place / "containers/images.yaml").write_text(yaml.safe_dump(images))
    (place / "small.yaml").write_text("dataset: {phantom: {images: 24}}\nresults: results/small\n")
    (tools / "radtune").symlink_to(ROOT / "containers/radtune")

    inside = f"{tools}:{Path(sys.executable).parent}:/usr/bin:/bin"
    handler = type("Toy", (Handler,), {"submitted": [], "jobs": {}, "path_inside": inside})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    asked = [f"draw_phantoms:{one}" for one in ("mem_mb=3000", "gpu=1", "runtime=5")]
    settings = ["--directory", place, "--set-resources", *asked, "--set-threads", "draw_phantoms=2"]
    configs = ["--configfile", "config/demo.yaml", "small.yaml", "--until", "draw_phantoms", "write_config"]
    run = subprocess.run(
        [environment("aws") / "bin/snakemake", "--workflow-profile", PROFILE, *settings, *configs],
        cwd=place,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path / "home"),
            "PYTHONPATH": f"{place / 'src'}:{PROFILE}",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_address[1]}",
            **{"AWS_ACCESS_KEY_ID": "toy", "AWS_SECRET_ACCESS_KEY": "toy"},
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=900,
    )
    assert run.returncode == 0, run.stdout
    assert list((place / "results/small/data/phantoms").glob("*.parquet"))
    jobs = {job["jobName"].split("-")[1]: job for job in handler.submitted}
    assert {rule: job["jobDefinition"] for rule, job in jobs.items()} == {
        "draw_phantoms": "radtune-prepare",
        "write_config": "radtune-evaluate",
    }
    wants = jobs["draw_phantoms"]["containerOverrides"]["resourceRequirements"]
    assert {want["type"]: want["value"] for want in wants} == {"VCPU": "2", "MEMORY": "3000", "GPU": "1"}
    assert jobs["draw_phantoms"]["timeout"] == {"attemptDurationSeconds": 300}
