"""Export a fine-tuning job as the files that run it on another platform.

    azureml     the YAML of ``az ml job create``: serverless (MaaS), or with compute on your own GPUs (MaaP)
    kaito       a Kubernetes Workspace with its ConfigMap
    cluster     accelerate, torchrun and vLLM commands, with TRL's configuration
    olive       Olive's run configuration
    aitoolkit   a VS Code AI Toolkit project

Each exporter is a pure function from an ``ExportSpec`` to file contents by name. What a platform does not
support is an ``UnsupportedError`` that names a platform that does; nothing is dropped silently.
"""

from __future__ import annotations

from maas_client.platforms.exporters import EXPORTERS, Files, export_job
from maas_client.platforms.spec import ExportSpec, Places

__all__ = ["EXPORTERS", "ExportSpec", "Files", "Places", "export_job"]
