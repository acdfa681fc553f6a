"""Export a job as a project for the VS Code AI Toolkit.

Layout: microsoft/windows-ai-studio-templates configs/Phi-3-mini-4k-instruct @ 6ac0e13f. The files are
compared as text; the Olive configuration is tested with Olive's own loader.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath

from maas_client.platforms import olive
from maas_client.platforms.spec import ExportSpec, Places

_INVOKE = '''\
"""Run the fine-tuning from the project's folder: python finetuning/invoke_olive.py"""

from olive.workflows import run

run("finetuning/olive-config.json")
'''


def build_files(spec: ExportSpec, places: Places) -> dict[str, str]:
    """Return the project's files by path. The user copies the data to ``dataset/``."""
    cache = f"model-cache/{spec.hub_id}"
    config = olive.build_config(spec, cache)
    for data_config in config["data_configs"]:
        loading = data_config["load_dataset_config"]
        loading["data_files"] = f"dataset/{PurePosixPath(loading['data_files']).name}"
    return {
        "finetuning/olive-config.json": _to_json(config),
        "finetuning/invoke_olive.py": _INVOKE,
        "infra/finetuning.config.json": _to_json(_remote_config(spec, cache)),
        "setup/requirements.txt": "olive-ai[gpu]>=0.13\npeft\naccelerate\nbitsandbytes\nonnxruntime-genai\n",
        ".vscode/project.code-workspace": _to_json({"folders": [{"path": ".."}], "settings": {}}),
        "README.md": _readme(spec, cache),
    }


def _remote_config(spec: ExportSpec, cache: str) -> dict[str, object]:
    """Return what the extension runs on Azure Container Apps. The extension fills in the names."""
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

The adapter is in `models/{spec.slug}`. Import it with
`maas-client models import FOLDER --base {spec.model}`.
"""


def _to_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
