"""Register models trained elsewhere from files in the workspace's storage, after loading them once.

A version is registered only after a separate process has loaded the files. The names of the files on disk
are those that the loaders expect; each is checked against a pattern before it is used.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maas_client.local.machine.child_processes import worker_environment
from maas_client.local.resources.assets import (
    EDITABLE_PROPERTIES,
    Workspace,
    check_name,
    utc_now,
    version_key,
)
from maas_client.local.resources.errors import ApiError, user_error
from maas_client.local.state.files import new_id, run_reference
from maas_client.local.state.store import Record

if TYPE_CHECKING:
    from maas_client.local.services import Services

_FILE_NAME = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}(?:/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}){0,3}"
)
_MAX_FILES = 200
_LOAD_TIMEOUT_S = 900.0


def import_model(
    services: Services, ws: Workspace, name: str, version: str, properties: dict[str, Any]
) -> Record:
    """Register a new model version from the files below ``modelUri``.

    ``properties.baseModelId`` names the model that the files belong to. Raises ``ApiError`` for files that
    may contain code, are incomplete or do not load.
    """
    check_name(name, "model")
    check_name(version, "version")
    uri = properties.get("modelUri")
    if not isinstance(uri, str):
        raise user_error("properties.modelUri: Field required", target="modelUri")
    if services.simulated:
        raise ApiError(
            501,
            "NotImplemented",
            "The instant engine does not import weights. Start the server with --engine peft.",
        )
    base_model = _base_model(properties)
    run_id = new_id()
    run_folder = services.files.run_folder(run_id)
    try:
        base = services.base_for(base_model)
        kind = _check_and_store(
            run_folder, base, _collect(services, ws, uri, run_folder / "source")
        )
        body = {"job": None, "base_model": base_model, "uri": uri, "kind": kind,
                "editable": {k: properties[k] for k in EDITABLE_PROPERTIES if k in properties},
                "properties": {"imported": "true", "kind": kind}}  # fmt: skip
        if kind == "model":
            body["base"] = base | {
                "folder": str(run_folder / "out" / "adapter"),
                "is_stand_in": False,
            }
        return _register(services, ws, name, version, run_id, body)
    except BaseException:
        shutil.rmtree(run_folder, ignore_errors=True)
        raise


def _base_model(properties: dict[str, Any]) -> str:
    model_properties = properties.get("properties")
    base_model = model_properties.get("baseModelId") if isinstance(model_properties, dict) else None
    if not isinstance(base_model, str) or not base_model:
        raise user_error(
            "properties.properties.baseModelId is required: the model that the weights belong to.",
            target="baseModelId",
        )
    return base_model.split("/models/")[-1].split("/")[0]


def _collect(services: Services, ws: Workspace, uri: str, folder: Path) -> Path:
    """Copy the blobs below ``uri`` into ``folder`` under their own names."""
    container, path = services.assets.resolve_uri(uri, ws)
    prefix = path.rstrip("/") + "/"
    blobs = list(services.blobs.list_blobs(container, prefix))
    if not blobs or len(blobs) > _MAX_FILES:
        raise user_error(
            f"There are {len(blobs)} files below modelUri; it must contain 1 to {_MAX_FILES}."
        )
    for blob in blobs:
        name = blob.key.removeprefix(prefix)
        if not _FILE_NAME.fullmatch(name):
            raise user_error(
                f"{name[:80]!r} is not a valid file name of a model.", target="modelUri"
            )
        target = folder / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(services.files.content_path(blob.body["content"]), target)
    return folder


def _check_and_store(run_folder: Path, base: dict[str, Any], source: Path) -> str:
    """Check and store the files in a child process; return ``adapter`` or ``model``."""
    (run_folder / "out").mkdir(mode=0o700)
    request = {"source": str(source), "target": str(run_folder / "out" / "adapter"), "base": base}
    try:
        process = subprocess.run(
            [sys.executable, "-P", "-m", "maas_client.local.export.import_model"],
            input=json.dumps(request), capture_output=True, text=True, timeout=_LOAD_TIMEOUT_S, check=False,
            env=worker_environment(1),
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(process.stdout or "{}")
    except (subprocess.TimeoutExpired, ValueError):
        answer = {}
    finally:
        shutil.rmtree(source, ignore_errors=True)
    if "kind" not in answer:
        message = answer.get("error") or "The process that loads the files ended without a result."
        raise user_error(str(message), target="modelUri")
    return str(answer["kind"])


def _register(
    services: Services, ws: Workspace, name: str, version: str, run_id: str, body: dict[str, Any]
) -> Record:
    key = version_key(name, version)
    with services.store.write() as writer:
        if writer.get("model", ws.guid, key):
            raise user_error(
                f"Model {name} version {version} exists with other files. Use another version.",
                status=409,
                target="version",
            )
        full_body = {
            **body,
            "name": name,
            "version": version,
            "folder": run_id,
            "created": utc_now(),
        }
        writer.put("model", ws.guid, key, full_body)
        writer.add_reference(run_reference(run_id), f"model:{ws.guid}/{key}")
        record = writer.get("model", ws.guid, key)
    assert record is not None
    return record
