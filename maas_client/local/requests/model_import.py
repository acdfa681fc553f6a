"""Models trained elsewhere: files of the workspace's own storage, checked, then registered. No HTTP.

A version is registered when a process of its own has loaded the files, or not at all. The names under
which they lie on disk are those the loaders ask for, each judged by a pattern before it is used.
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
from maas_client.local.resources.assets import Workspace, check_name, utc_now, version_key
from maas_client.local.resources.errors import user_error
from maas_client.local.state.files import new_id, run_reference
from maas_client.local.state.store import Record

if TYPE_CHECKING:
    from maas_client.local.services import Services

_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}(?:/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}){0,3}")
_MOST_FILES = 200
_LOAD_S = 900.0


def import_model(
    services: Services, ws: Workspace, name: str, version: str, properties: dict[str, Any]
) -> tuple[Record, bool]:
    """Register a version made of the files below ``modelUri``; True when it is new.

    ``properties.baseModelId`` names the model they belong to. Refuses what may hold code, what is not
    whole, what does not load, and a version that exists with other files.
    """
    check_name(name, "model")
    check_name(version, "version")
    uri = properties.get("modelUri")
    if not isinstance(uri, str):
        raise user_error("properties.modelUri: Field required", target="modelUri")
    old = services.store.read.get("model", ws.guid, version_key(name, version))
    if old is not None:
        if old.body.get("uri") == uri:
            return old, False
        raise user_error(f"Model {name} version {version} exists.", status=409, target="version")
    if services.simulated:
        raise user_error("The instant engine has no weights: start the server with --engine peft.")
    base_model = _base_model(properties)
    own = new_id()
    run = services.files.run_folder(own)
    try:
        base = services.base_for(base_model)
        kind = _take(run, base, _collect(services, ws, uri, run / "source"))
        body = {"job": None, "base_model": base_model, "uri": uri, "kind": kind,
                "properties": {"imported": "true", "kind": kind}}  # fmt: skip
        if kind == "model":
            body["base"] = base | {"folder": str(run / "out" / "adapter"), "is_stand_in": False}
        return _register(services, ws, name, version, own, body), True
    except BaseException:
        shutil.rmtree(run, ignore_errors=True)
        raise


def _base_model(properties: dict[str, Any]) -> str:
    held = properties.get("properties")
    said = held.get("baseModelId") if isinstance(held, dict) else None
    if not isinstance(said, str) or not said:
        raise user_error(
            "properties.properties.baseModelId must name the model that the weights belong to.",
            target="baseModelId",
        )
    return said.split("/models/")[-1].split("/")[0]


def _collect(services: Services, ws: Workspace, uri: str, folder: Path) -> Path:
    """Copy the blobs below ``uri`` into ``folder`` under their own names."""
    container, path = services.assets.resolve_uri(uri, ws)
    prefix = path.rstrip("/") + "/"
    held = services.blobs.list_blobs(container, prefix)
    if not held or len(held) > _MOST_FILES:
        raise user_error(
            f"There are {len(held)} files below modelUri; it takes 1 to {_MOST_FILES}."
        )
    for blob in held:
        name = blob.key.removeprefix(prefix)
        if not _FILE.fullmatch(name):
            raise user_error(
                f"{name[:80]!r} cannot be the name of a model's file.", target="modelUri"
            )
        place = folder / name
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(services.files.content_path(blob.body["content"]), place)
    return folder


def _take(run: Path, base: dict[str, Any], source: Path) -> str:
    """Have a child check the files and keep them; return ``adapter`` or ``model``."""
    (run / "out").mkdir(mode=0o700)
    order = {"source": str(source), "target": str(run / "out" / "adapter"), "base": base}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "maas_client.local.export.import_process"],
            input=json.dumps(order), capture_output=True, text=True, timeout=_LOAD_S, check=False,
            env=worker_environment(1),
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(done.stdout or "{}")
    except (subprocess.TimeoutExpired, ValueError):
        answer = {}
    finally:
        shutil.rmtree(source, ignore_errors=True)
    if "kind" not in answer:
        said = answer.get("error") or "The process that loads the files ended without an answer."
        raise user_error(str(said), target="modelUri")
    return str(answer["kind"])


def _register(
    services: Services, ws: Workspace, name: str, version: str, own: str, body: dict[str, Any]
) -> Record:
    key = version_key(name, version)
    with services.store.write() as facts:
        if facts.get("model", ws.guid, key):
            raise user_error(
                f"Model {name} version {version} exists.", status=409, target="version"
            )
        full = {**body, "name": name, "version": version, "folder": own, "created": utc_now()}
        facts.put("model", ws.guid, key, full)
        facts.add_reference(run_reference(own), f"model:{ws.guid}/{key}")
        made = facts.get("model", ws.guid, key)
    assert made is not None
    return made
