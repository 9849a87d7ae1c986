"""The files of profiles/kubernetes against Kubernetes' own schema and against each other, and what Snakemake sends with
them: to a toy of the API that runs each pod's command as a process of this machine. A cluster is not had here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from executors import ROOT, environment
from toy_kubernetes import Cluster, rule_of

PROFILE = ROOT / "workflow" / "profiles" / "kubernetes"
REFERENCE = {name: f"registry.example/radtune/{name}@sha256:{'0' * 64}" for name in ("prepare", "train", "evaluate")}
GPUS = {"teach_tiny": "1"}
SMALL = {
    "results": "results/small",
    "dataset": {"source": "phantom", "phantom": {"images": 24, "shards": 1, "seed": 3}},
    "images": {"enhanced": {"size": 128}},
    "model": {"tiny": {"images": 32, "see_steps": 5}},
    "limits": {"quarantine_share": 0.2},
}


def manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((PROFILE / name).read_text()))


def refused(documents: list[dict[str, Any]]) -> str:
    """What Kubernetes' schema has against the manifests; empty if nothing."""
    python = environment("schemas") / "bin/python"
    lines = "".join(json.dumps(document) + "\n" for document in documents)
    command = [python, ROOT / "tests/cluster/validate_manifests.py"]
    return subprocess.run(command, input=lines, stdout=subprocess.PIPE, text=True, check=True).stdout


@pytest.mark.slow
def test_manifests_follow_the_schema() -> None:
    documents = manifests("pvc.yaml") + manifests("job.yaml")
    assert [document["kind"] for document in documents] == [
        *["PersistentVolumeClaim", "Pod", "ServiceAccount", "Role", "RoleBinding", "Job"]
    ]
    assert refused(documents) == ""
    documents[-1]["spec"]["template"]["spec"]["serviceAcountName"] = "radtune"
    assert "serviceAcountName" in refused(documents)


def test_files_agree_on_volume_account_and_folders() -> None:
    claim, files = manifests("pvc.yaml")
    account, role, binding, job = manifests("job.yaml")
    profile = yaml.safe_load((PROFILE / "config.yaml").read_text())
    [(name, path)] = [volume.split(":") for volume in profile["kubernetes-volume-persistent-volumes"]]
    assert name == claim["metadata"]["name"]
    snakemake = job["spec"]["template"]["spec"]
    for pod in (files["spec"], snakemake):
        [volume] = pod["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == name
        for container in pod["containers"] + pod.get("initContainers", []):
            assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": path}]
    assert snakemake["containers"][0]["workingDir"] == profile["directory"]
    assert {entry["name"] for entry in snakemake["containers"][0]["env"]} == set(profile["envvars"])
    assert f"{profile['directory']}/src:{profile['directory']}/workflow/profiles/kubernetes" in str(snakemake)
    assert snakemake["serviceAccountName"] == account["metadata"]["name"] == binding["subjects"][0]["name"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"][0]["namespace"] == profile["kubernetes-volume-namespace"]


def tree(folder: Path) -> Path:
    """A clone as it lies on the volume, with images that a registry holds."""
    for name in ("workflow", "rules", "config", "envs", "src"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "containers").mkdir()
    for name in REFERENCE:
        (folder / "containers" / name).symlink_to(ROOT / "containers" / name)
    images = {name: f"docker://{reference}" for name, reference in REFERENCE.items()}
    (folder / "containers/images.yaml").write_text(yaml.safe_dump(images))
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    return folder


def image_path(folder: Path) -> str:
    """The PATH inside an image: its command radtune, before a python with the packages, and what Debian has."""
    folder.mkdir()
    (folder / "radtune").symlink_to(ROOT / "containers/radtune")
    return f"{folder}:{Path(sys.executable).parent}:/usr/bin:/bin"


def snakemake(cluster: Cluster, volume: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Snakemake as in job.yaml, with `volume` in place of /radtune."""
    place = volume / "tree"
    settings = ["--directory", str(place), "--kubernetes-volume-persistent-volumes", f"radtune:{volume}"]
    configs = ["--configfile", "config/demo.yaml", "small.yaml", "--seconds-between-status-checks", "1"]
    return subprocess.run(
        [environment("kubernetes") / "bin/snakemake", "--workflow-profile", PROFILE, *configs, *settings, *arguments],
        cwd=place,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(volume / "home"),
            "PYTHONPATH": f"{place / 'src'}:{place / 'workflow/profiles/kubernetes'}",
            "KUBECONFIG": str(cluster.kubeconfig()),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=900,
    )


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    for name in ("tree", "home", "cluster"):
        (tmp_path / name).mkdir()
    tree(tmp_path / "tree")
    return tmp_path


@pytest.mark.slow
def test_the_first_start_installs_snakemake_and_the_next_does_not(volume: Path) -> None:
    place = volume / "tree"
    [setup] = manifests("job.yaml")[-1]["spec"]["template"]["spec"]["initContainers"]
    variables = {"PATH": image_path(volume / "bin"), "HOME": str(volume / "home")}
    made = []
    for _ in range(2):
        subprocess.run([*setup["command"], *setup["args"]], cwd=place, env=variables, check=True)
        made.append((place / ".venv-kubernetes/pyvenv.cfg").stat().st_mtime_ns)
    assert made[0] == made[1]
    found = subprocess.run([place / ".venv-kubernetes/bin/snakemake", "--version"], stdout=subprocess.PIPE, text=True)
    assert f"snakemake=={found.stdout.strip()} " in (ROOT / "envs/kubernetes.lock.txt").read_text()


@pytest.mark.slow
def test_rules_run_as_pods_in_their_own_images_on_the_volume(volume: Path) -> None:
    role = manifests("job.yaml")[1]
    cluster = Cluster(volume / "cluster", image_path(volume / "bin"), role, fail={"merge_index"})
    run = snakemake(cluster, volume, "--until", "check_texts", "write_sharegpt", "teach_tiny", "write_config")
    assert run.returncode == 0, run.stdout
    assert cluster.refused == []  # the Role allows every call
    results = volume / "tree/results/small"
    assert list(results.glob("sharegpt/*/train.json"))
    assert list(results.glob("tiny/*/seeing/model.safetensors"))

    assert refused(cluster.manifests) == ""
    pods: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for manifest in cluster.manifests:
        if manifest["kind"] == "Job":
            pods[rule_of(manifest)].append(manifest["spec"]["template"]["spec"])
    images = {rule: pod["containers"][0]["image"] for rule, [pod, *_] in pods.items()}
    others = {"build_tiny": "train", "teach_tiny": "train", "write_config": "evaluate"}
    for rule, image in images.items():
        assert image == REFERENCE[others.get(rule, "prepare")], rule
    for rule, [pod, *_] in pods.items():
        container = pod["containers"][0]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts == {"workdir": "/workdir", "radtune": str(volume), "shm": "/dev/shm"}
        assert {"name": "radtune", "persistentVolumeClaim": {"claimName": "radtune"}} in pod["volumes"]
        wants = container["resources"]
        assert wants["limits"]["memory"] == wants["requests"]["memory"]
        assert wants["limits"].get("nvidia.com/gpu") == wants["requests"].get("nvidia.com/gpu") == GPUS.get(rule), rule
        assert ("tolerations" in pod) == (rule in GPUS)

    # a pod that was killed is made again, by itself; its log is kept; nothing is left in the cluster
    assert [len(pods[rule]) for rule in ("merge_index", "split_samples")] == [2, 1]
    assert "Killed" in "".join(log.read_text() for log in (volume / "tree/.snakemake").rglob("kubernetes-logs/*.log"))
    assert set(cluster.jobs) | set(cluster.secrets) <= set(cluster.deleted)


@pytest.mark.slow
def test_a_rule_without_a_published_image_is_refused_in_a_sentence(volume: Path) -> None:
    (volume / "tree/containers/images.yaml").write_text(
        "prepare: containers/build/prepare.sif\ntrain: null\nevaluate: null\n"
    )
    cluster = Cluster(volume / "cluster", image_path(volume / "bin"), manifests("job.yaml")[1], fail=set())
    run = snakemake(cluster, volume, "--until", "draw_phantoms")
    assert run.returncode != 0
    assert "containers/images.yaml: rule draw_phantoms has " in run.stdout
    assert not cluster.jobs
