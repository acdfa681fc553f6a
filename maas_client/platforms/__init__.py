"""One job, every platform: the files that start the same fine-tuning elsewhere.

    azureml     the YAML of ``az ml job create``: serverless (MaaS), or with compute on own GPUs (MaaP)
    kaito       a Kubernetes Workspace with its ConfigMap
    cluster     accelerate, torchrun and vLLM commands over TRL's configuration
    olive       Olive's run configuration
    aitoolkit   a VS Code AI Toolkit project

Each is a pure function from a ``ExportSpec`` to texts by file name. What a platform cannot take is an
``UnsupportedError`` naming one that can; nothing is dropped silently.
"""

from __future__ import annotations

from maas_client.platforms.exporters import EXPORTERS, Files, export_job
from maas_client.platforms.spec import ExportSpec, Places

__all__ = ["EXPORTERS", "ExportSpec", "Files", "Places", "export_job"]
