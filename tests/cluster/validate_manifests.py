"""Run by the python of .venv-schemas: check manifests from standard input, one JSON a line, against Kubernetes' schema.

Out: one line for each manifest that the schema refuses, unknown keys included; nothing else.
"""

import json
import sys

import kubernetes_validate

for line in sys.stdin:
    manifest = json.loads(line)
    try:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        print(manifest.get("kind"), manifest.get("metadata", {}).get("name"), str(error).splitlines()[0])
