"""The kubernetes executor for pods that share a volume, each in its rule's own image.

snakemake-executor-plugin-kubernetes 0.5.1 takes it that pods share nothing: every file of a rule goes through a storage
provider. radtune's rules name folders beside their outputs (checkpoints, media), so they want one tree, as on a cluster
with a shared file system. This plugin says so to Snakemake, and changes four things in what is sent to the cluster:

- the image is the rule's `container:`, where the original runs every rule in one image and ignores that line;
- /dev/shm is as large as the pod's memory: torch's data loaders need more than the 64 MiB that a pod has;
- a limit of memory for every pod, so that a rule that takes too much is stopped, and retried with more, by itself;
- a failed pod's log is read as what it is: the original asks for the log of the container before it, which the cluster
  answers with an error that ends the whole run instead of the job.
"""

import os
import shlex
from dataclasses import replace

import snakemake_executor_plugin_kubernetes as original
from kubernetes.client import V1EmptyDirVolumeSource, V1Volume, V1VolumeMount
from snakemake_executor_plugin_kubernetes import ExecutorSettings
from snakemake_interface_common.exceptions import WorkflowError

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

common_settings = replace(
    original.common_settings,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    auto_deploy_default_storage_provider=False,
)


class Executor(original.Executor):
    def __post_init__(self):
        super().__post_init__()
        create, read_log = self.batchapi.create_namespaced_job, self.kubeapi.read_namespaced_pod_log

        def create_with_memory(namespace, body):
            pod = body.spec.template.spec
            container = pod.containers[0]
            pod.volumes.append(V1Volume(name="shm", empty_dir=V1EmptyDirVolumeSource(medium="Memory")))
            container.volume_mounts.append(V1VolumeMount(name="shm", mount_path="/dev/shm"))
            memory = container.resources.requests.get("memory")
            if memory:
                container.resources.limits = {"memory": memory} | (container.resources.limits or {})
            return create(namespace, body)

        self.batchapi.create_namespaced_job = create_with_memory
        self.kubeapi.read_namespaced_pod_log = lambda previous, **arguments: read_log(**arguments)

    def get_job_exec_prefix(self, job):
        return f"cd {shlex.quote(os.getcwd())}"  # on a shared file system Snakemake takes it that jobs start there

    def run_job(self, job):
        image = job.container_img_url or "no image"
        _, separator, reference = image.partition("://")
        if not separator:
            raise WorkflowError(
                f"containers/images.yaml: rule {job.rule.name} has {image}, which a cluster cannot pull; "
                "put docker://REGISTRY/NAME@sha256:DIGEST there."
            )
        self.container_image = reference
        super().run_job(job)
