"""The aws-basic-batch executor for jobs that share an EFS file system and take what their rule asks for.

snakemake-executor-plugin-aws-basic-batch 0.3.3 takes it that jobs share nothing, and reads processors, memory and GPUs
from resources of its own. Here the file system is shared, and threads, mem_mb, gpu and runtime hold, as everywhere.
"""

from dataclasses import replace

import snakemake_executor_plugin_aws_basic_batch as original
from snakemake_executor_plugin_aws_basic_batch import ExecutorSettings

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

common_settings = replace(original.common_settings, implies_no_shared_fs=False)


class Executor(original.Executor):
    def _get_job_resources(self, job):
        asked = {"vcpu": job.threads, "mem_mb": job.resources.get("mem_mb"), "gpu": job.resources.get("gpu")}
        asked["task_timeout"] = 60 * job.resources.get("runtime", 0)
        return super()._get_job_resources(job) | {key: value for key, value in asked.items() if value}
