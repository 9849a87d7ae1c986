"""Just enough of the Kubernetes API, over HTTP on this machine, for Snakemake's executor; pods are processes.

A pod's command runs in an empty folder with the variables of its manifest and the PATH that stands for its image.
There is no cluster: nothing schedules, pulls, mounts or limits. What the Role in job.yaml does not allow is refused.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PATHS = re.compile(
    r"/apis?/(?:(?P<group>batch)/)?v1/namespaces/default/(?P<kind>\w+)(?:/(?P<name>[\w-]+)(?:/(?P<sub>\w+))?)?$"
)
VERBS = {"POST": "create", "GET": "get", "DELETE": "delete"}


class Cluster:
    """What was sent, and the pods that run; `fail` names rules whose first pod is killed, as for want of memory."""

    def __init__(self, folder: Path, path: str, role: dict[str, Any], fail: set[str]) -> None:
        self.folder, self.path, self.role, self.fail = folder, path, role, fail
        self.jobs: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, dict[str, Any]] = {}
        self.manifests: list[dict[str, Any]] = []
        self.pods: dict[str, subprocess.Popen[bytes] | int] = {}
        self.deleted: list[str] = []
        self.refused: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"cluster": self}))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kubeconfig(self) -> Path:
        url = f"http://127.0.0.1:{self.server.server_address[1]}"
        file = self.folder / "kubeconfig"
        named = {
            "clusters": [{"name": "toy", "cluster": {"server": url}}],
            "users": [{"name": "toy", "user": {"token": "toy"}}],
            "contexts": [{"name": "toy", "context": {"cluster": "toy", "user": "toy"}}],
        }
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "toy", **named}))
        return file

    def allows(self, verb: str, group: str, resource: str) -> bool:
        return any(
            group in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"]
            for rule in self.role["rules"]
        )

    def start(self, manifest: dict[str, Any]) -> None:
        """Run the pod of a Job; a rule in `fail` is killed, once."""
        name = manifest["metadata"]["name"]
        self.jobs[name] = manifest
        rule = rule_of(manifest)
        if rule in self.fail:
            self.fail.remove(rule)
            self.pods[name] = 137
            return
        container = manifest["spec"]["template"]["spec"]["containers"][0]
        variables = {"PATH": self.path}
        for entry in container["env"]:
            reference = entry["valueFrom"]["secretKeyRef"]
            value = self.secrets[reference["name"]]["data"][reference["key"]]
            variables[entry["name"]] = base64.b64decode(value).decode()
        empty = tempfile.mkdtemp(dir=self.folder)  # what /workdir, an emptyDir, is to a pod
        log = (self.folder / f"{name}.log").open("wb")
        command = [*container["command"], *container["args"]]
        self.pods[name] = subprocess.Popen(command, cwd=empty, env=variables, stdout=log, stderr=subprocess.STDOUT)

    def exit_code(self, name: str) -> int | None:
        pod = self.pods[name]
        return pod if isinstance(pod, int) else pod.poll()

    def job(self, name: str) -> dict[str, Any]:
        code = self.exit_code(name)
        status = {} if code is None else {"succeeded": 1} if code == 0 else {"failed": 1}
        return self.jobs[name] | {"status": status}

    def pod(self, name: str) -> dict[str, Any]:
        code = self.exit_code(name)
        state = {"running": {}} if code is None else {"terminated": {"exitCode": code}}
        container = {"name": "snakemake", "image": "", "imageID": "", "ready": True, "restartCount": 0, "state": state}
        return {"metadata": {"name": f"{name}-pod"}, "status": {"containerStatuses": [container]}}

    def log(self, name: str, previous: bool) -> tuple[int, Any]:
        if previous:  # what a cluster answers for a container that was never restarted
            return 400, {"message": f'previous terminated container "snakemake" in pod "{name}" not found'}
        file = self.folder / f"{name.removesuffix('-pod')}.log"
        return 200, file.read_text() if file.is_file() else "Killed"

    def answer(self, method: str, url: str, body: dict[str, Any]) -> tuple[int, Any]:
        parts = urlsplit(url)
        found = PATHS.match(parts.path)
        if not found:
            return 404, {"message": url}
        group, kind, name, sub = found["group"] or "", found["kind"], found["name"], found["sub"]
        verb = VERBS[method] if name or method == "POST" else "list"
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if not self.allows(verb, group, f"{kind}/{sub}" if sub else kind):
            self.refused.append(f"{verb} {group} {kind} {sub}")
            return 403, {"message": f"the Role does not allow {verb} {kind}/{sub}"}
        match verb, kind, sub:
            case "create", _, _:
                # the client leaves out what the address says already
                kinds = {"apiVersion": f"{group}/v1".lstrip("/"), "kind": {"secrets": "Secret", "jobs": "Job"}[kind]}
                self.manifests.append(kinds | body)
                if kind == "secrets":
                    self.secrets[body["metadata"]["name"]] = body
                else:
                    self.start(body)
                return 201, body
            case "get", "jobs", "status":
                return 200, self.job(name)
            case "list", "pods", _:
                job = query["labelSelector"].removeprefix("job-name=")
                return 200, {"items": [self.pod(job)] if job in self.pods and job not in self.deleted else []}
            case "get", "pods", "log":
                return self.log(name, query.get("previous", "").lower() == "true")
            case "delete", _, _:
                self.deleted.append(name)
                return 200, {"status": "Success"}
        return 404, {"message": url}


class Handler(BaseHTTPRequestHandler):
    cluster: Cluster

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        code, content = self.cluster.answer(self.command, self.path, body)
        data = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        pass


def rule_of(manifest: dict[str, Any]) -> str:
    """The rule that a pod is for, from Snakemake's own arguments in it."""
    found = re.search(r"--allowed-rules (\w+)", manifest["spec"]["template"]["spec"]["containers"][0]["args"][1])
    assert found
    return found[1]
