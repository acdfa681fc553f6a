"""The fingerprints of files and jobs on foundry, where the service chooses their ids.

A fingerprint of 8 hex digits is put at the end of an uploaded file's name and of a job's ``suffix`` (18
characters in all, the portal's limit). It is looked for before every POST.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from maas_client.flows._io import IO
from maas_client.flows._requests import JobRequest, UploadRequest
from maas_client.types import Dataset
from maas_client.wire.foundry_models import ListPage
from maas_client.wire.operation import Operation, Plane
from maas_client.wire.parsing import skip_non_objects

MAX_SUFFIX_LENGTH = 18
_FILE_FINGERPRINT = re.compile(r"-([0-9a-f]{8})\.jsonl$")
_SUFFIX_FINGERPRINT = re.compile(r"(?:^|-)([0-9a-f]{8})$")


def fingerprinted_filename(request: UploadRequest) -> str:
    """Return the name under which the file is stored: it ends with the start of its hash."""
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", request.name)[:80].strip("-") or "data"
    return f"{stem}-{request.sha256[:8]}.jsonl"


def filename_fingerprint(name: object) -> str | None:
    """Return the fingerprint in a file's name, if it has one."""
    match = _FILE_FINGERPRINT.search(name) if isinstance(name, str) else None
    return match.group(1) if match else None


def suffix_fingerprint(suffix: object) -> str | None:
    """Return the fingerprint at the end of a job's suffix, if it has one."""
    match = _SUFFIX_FINGERPRINT.search(suffix) if isinstance(suffix, str) else None
    return match.group(1) if match else None


def job_fingerprint(request: JobRequest) -> str:
    """Return a hash of what decides the job's result, and of its name."""
    inputs: dict[str, Any] = {
        "model": request.model,
        "training": _data_fingerprint(request.training),
        "validation": request.validation and _data_fingerprint(request.validation),
        "hyperparameters": request.hyperparameters.model_dump(mode="json", exclude_none=True),
        "name": request.name,
    }
    for name in ("training_type", "method"):
        if (value := getattr(request, name)) is not None:
            inputs[name] = value
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:8]


def _data_fingerprint(dataset: Dataset) -> str:
    """Identify data by its content, whether this process or an earlier one uploaded it."""
    if dataset.sha256:
        return dataset.sha256[:8]
    return filename_fingerprint(dataset.filename or "") or dataset.id


def job_suffix(request: JobRequest, fingerprint: str) -> str:
    """Return the job's suffix: the start of its name, and the fingerprint."""
    name = request.name or request.display_name or request.model_name
    length = MAX_SUFFIX_LENGTH - len(fingerprint) - 1
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:length].strip("-_")
    return f"{stem}-{fingerprint}" if stem else fingerprint


def dated_base_url(io: IO) -> str:
    """Return the base address for dated api-versions.

    It is the resource's own: a project's responds 404 to uploads (docs/azure-http.md section 4.2).
    """
    base = re.sub(r"/api/projects/[^/]+(?=/openai$)", "", io.scope.base_urls[Plane.FOUNDRY.value])
    return base.replace(".services.ai.azure.com/", ".openai.azure.com/")


async def list_items(
    io: IO,
    op: Operation[ListPage],
    *,
    query: Mapping[str, str] | None = None,
    job: str | None = None,
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the items of an OpenAI-shaped list, page after page."""
    path: Any = {} if job is None else {"job": job}
    after: str | None = None
    while True:
        page_query = {**(query or {}), **({"after": after} if after else {})}
        page: ListPage = (await io.send(op, query=page_query, **path)).value
        items = skip_non_objects(op, page.data)
        for item in items:
            yield item
        last = page.last_id or (items[-1].get("id") if items else None)
        if not page.has_more or not last or last == after:
            return
        after = str(last)
