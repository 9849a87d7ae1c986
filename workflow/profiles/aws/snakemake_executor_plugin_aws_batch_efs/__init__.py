"""The aws-basic-batch executor for jobs that share an EFS file system and take what their rule asks for.

snakemake-executor-plugin-aws-basic-batch 0.3.3 takes it that jobs share nothing, runs every rule by one job definition
unless told otherwise, and reads processors, memory and GPUs from resources of its own. Here the file system is shared;
threads, mem_mb, gpu and runtime hold, as everywhere; and the job definition is the one of the rule's image, since a job
cannot name its image itself: radtune-train for a `container:` of docker://REGISTRY/radtune/train@sha256:DIGEST.
"""

import os
import re
import shlex
from dataclasses import replace

import snakemake_executor_plugin_aws_basic_batch as original
from snakemake_executor_plugin_aws_basic_batch import ExecutorSettings
from snakemake_interface_common.exceptions import WorkflowError

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

common_settings = replace(original.common_settings, implies_no_shared_fs=False)


class Executor(original.Executor):
    def get_job_exec_prefix(self, job):
        return f"cd {shlex.quote(os.getcwd())}"  # on a shared file system Snakemake takes it that jobs start there

    def _get_job_resources(self, job):
        image = job.container_img_url or "no image"
        name = re.fullmatch(r"docker://(?:.*/)?([\w.-]+)(?:[:@].*)?", image)
        if not name:
            raise WorkflowError(
                f"containers/images.yaml: rule {job.rule.name} has {image}, which AWS cannot pull; "
                "put docker://REGISTRY/NAME@sha256:DIGEST there."
            )
        asked = {"vcpu": job.threads, "mem_mb": job.resources.get("mem_mb"), "gpu": job.resources.get("gpu")}
        asked["task_timeout"] = 60 * job.resources.get("runtime", 0)
        asked["job_definition"] = f"{self.settings.job_definition}-{name[1]}"
        return super()._get_job_resources(job) | {key: value for key, value in asked.items() if value}
