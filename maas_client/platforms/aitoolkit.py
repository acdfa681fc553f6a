"""A project for the VS Code AI Toolkit: the folder its template makes, filled in.

Layout: microsoft/windows-ai-studio-templates configs/Phi-3-mini-4k-instruct @ 6ac0e13f. Checked as
text, and the Olive configuration in it with Olive's own loader.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath

from maas_client.platforms import olive
from maas_client.platforms.spec import ExportSpec, Places

_INVOKE = '''\
"""Run the tuning: python finetuning/invoke_olive.py, from the project's folder."""

from olive.workflows import run

run("finetuning/olive-config.json")
'''


def build_files(spec: ExportSpec, places: Places) -> dict[str, str]:
    """Return the project's files by path. The data goes to ``dataset/``, by hand."""
    cache = f"model-cache/{spec.hub_id}"
    configuration = olive.build_config(spec, cache)
    for one in configuration["data_configs"]:
        load = one["load_dataset_config"]
        load["data_files"] = f"dataset/{PurePosixPath(load['data_files']).name}"
    return {
        "finetuning/olive-config.json": _json(configuration),
        "finetuning/invoke_olive.py": _INVOKE,
        "infra/finetuning.config.json": _json(_remote(spec, cache)),
        "setup/requirements.txt": "olive-ai[gpu]>=0.13\npeft\naccelerate\nbitsandbytes\nonnxruntime-genai\n",
        ".vscode/project.code-workspace": _json({"folders": [{"path": ".."}], "settings": {}}),
        "README.md": _readme(spec, cache),
    }


def _remote(spec: ExportSpec, cache: str) -> dict[str, object]:
    """Return what the extension runs on Azure Container Apps; it fills the names in itself."""
    return {
        "SUBSCRIPTION_ID": None,
        "RESOURCE_GROUP_NAME": None,
        "STORAGE_ACCOUNT_NAME": None,
        "FILE_SHARE_NAME": None,
        "ACA_JOB_NAME": None,
        "COMMANDS": [
            "cd /mount",
            "pip install -r ./setup/requirements.txt",
            f"hf download {spec.hub_id} --local-dir ./{cache}",
            "python3 ./finetuning/invoke_olive.py",
        ],
    }


def _readme(spec: ExportSpec, cache: str) -> str:
    data = " and ".join(
        f"`{PurePosixPath(path).name}`"
        for path in (spec.training_data, spec.validation_data)
        if path
    )
    return f"""# {spec.name}

1. Put {data} into `dataset/`.
2. `pip install -r setup/requirements.txt`
3. `hf download {spec.hub_id} --local-dir {cache}`
4. `python finetuning/invoke_olive.py`, or "Run fine-tuning" in the AI Toolkit.

The adapter is in `models/{spec.slug}`. Bring it in again with
`maas-client models import FOLDER --base {spec.model}`.
"""


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
