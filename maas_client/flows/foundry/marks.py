"""The mark by which this library knows its own files and jobs again.

foundry lets no client choose an id. So 8 hex digits stand at the end of a job's ``suffix`` (18 characters
in all, the portal's limit) and of an uploaded file's name, and are looked for before every POST.
"""

from __future__ import annotations

import hashlib
import json
import re

from maas_client.flows._backend import JobRequest, UploadRequest
from maas_client.types import Dataset

MAX_SUFFIX_LENGTH = 18
_FILE = re.compile(r"-([0-9a-f]{8})\.jsonl$")
_SUFFIX = re.compile(r"(?:^|-)([0-9a-f]{8})$")


def fingerprinted_filename(order: UploadRequest) -> str:
    """Return the name under which the file is kept: it ends in the start of its hash."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", order.name)[:80].strip("-") or "data"
    return f"{stem}-{order.sha256[:8]}.jsonl"


def filename_fingerprint(name: str) -> str | None:
    """Return the mark in a file's name, if it has one."""
    found = _FILE.search(name)
    return found.group(1) if found else None


def suffix_fingerprint(suffix: str | None) -> str | None:
    """Return the mark at the end of a job's suffix, if it has one."""
    found = _SUFFIX.search(suffix or "")
    return found.group(1) if found else None


def job_fingerprint(order: JobRequest) -> str:
    """Return the mark of a job: what decides its result, hashed, and the name it was given."""
    said = {
        "model": order.model,
        "training": _data(order.training),
        "validation": order.validation and _data(order.validation),
        "hyperparameters": order.hyperparameters.model_dump(mode="json", exclude_none=True),
        "name": order.name,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]


def _data(held: Dataset) -> str:
    """Name the data by its content, whether this program uploaded it or another run of it did."""
    if held.sha256:
        return held.sha256[:8]
    return filename_fingerprint(held.filename or "") or held.id


def job_suffix(order: JobRequest, fingerprint: str) -> str:
    """Return the job's suffix: the start of its name, and the mark."""
    said = order.name or order.display_name or order.model_name
    room = MAX_SUFFIX_LENGTH - len(fingerprint) - 1
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", said)[:room].strip("-_")
    return f"{stem}-{fingerprint}" if stem else fingerprint
