"""Download base weights from the Hugging Face hub: safetensors and text files, never code.

Size and licence are known before the download. An interrupted download is resumed, and a folder is used only
when it is complete (``state/atomic_folder.py``).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maas_client._messages import describe_exception
from maas_client.errors import (
    ConfigError,
    MaasError,
    MissingExtraError,
    TransportError,
    UnsupportedError,
)
from maas_client.local.state import atomic_folder

DOWNLOAD_PATTERNS = (
    "*.safetensors",
    "*.json",
    "*.model",
    "*.txt",
    "*.jinja",
    "LICENSE*",
    "NOTICE*",
    "*.md",
)
"""The files to download. No Python and no pickle, so nothing that could run code."""
_SPACE_FACTOR = 1.05
"""Free disk space that a download needs, as a multiple of its size."""


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model on the hub, as ``pull`` would download it."""

    hub_id: str
    revision: str
    """The commit, so that exactly the inspected files are downloaded."""
    licence: str
    files: tuple[str, ...]
    size_bytes: int


def inspect_model(hub_id: str, endpoint: str | None = None) -> HubModel:
    """Return a hub model's files, size and licence.

    Raises ``UnsupportedError`` for a model without safetensors, ``ConfigError`` for one that does not exist or
    is gated, and ``TransportError`` if the hub cannot be reached.
    """
    with _translate_errors(hub_id):
        info: Any = _api(endpoint).model_info(hub_id, files_metadata=True)
    files = [
        s for s in info.siblings or () if any(Path(s.rfilename).match(p) for p in DOWNLOAD_PATTERNS)
    ]
    files = [s for s in files if "/" not in s.rfilename]
    if not any(s.rfilename.endswith(".safetensors") for s in files):
        raise UnsupportedError(
            f"{hub_id} has no safetensors, and other formats are not loaded",
            hint="Convert it with save_pretrained() and pass the folder: maas-client serve --base FOLDER",
        )
    card = info.card_data or {}
    licence = card.get("license") or next(
        (t.partition(":")[2] for t in info.tags or () if t.startswith("license:")), "not stated"
    )
    return HubModel(
        hub_id,
        str(info.sha),
        str(licence),
        tuple(s.rfilename for s in files),
        sum(int(s.size or 0) for s in files),
    )


def pull(
    model: HubModel, folder: Path, progress: Callable[[str], None], endpoint: str | None = None
) -> Path:
    """Download a model into its own folder below ``folder``, unless it is there; return that folder.

    Raises ``ConfigError`` if the disk is too small. The next call resumes an interrupted download.
    """
    target = folder / model.hub_id.replace("/", "--")
    if atomic_folder.is_complete(target, hashes=False):
        return target
    draft = folder / f".{target.name}.{model.revision[:12]}.part"
    draft.mkdir(mode=0o700, parents=True, exist_ok=True)
    downloaded = sum(p.stat().st_size for p in draft.rglob("*") if p.is_file())
    free = shutil.disk_usage(folder).free
    if free < (model.size_bytes - downloaded) * _SPACE_FACTOR:
        raise ConfigError(
            f"{model.hub_id} needs {format_size(model.size_bytes - downloaded)} more disk space, and "
            f"{format_size(free)} are free in {folder}",
            hint="Free some space, or set MAAS_CACHE_DIR to a folder on another disk.",
        )
    for name in model.files:
        progress(f"downloading {name}")
        with _translate_errors(model.hub_id):
            _api(endpoint).hf_hub_download(
                model.hub_id, name, revision=model.revision, local_dir=draft
            )
    shutil.rmtree(draft / ".cache", ignore_errors=True)
    atomic_folder.write_manifest(draft)
    if target.exists():
        shutil.rmtree(target)  # an incomplete older one
    draft.rename(target)
    return target


def format_size(size: float) -> str:
    """Return a number of bytes as text, such as ``1.5 GiB``."""
    return f"{size / 2**30:.1f} GiB" if size > 2**29 else f"{size / 2**20:.1f} MiB"


def _api(endpoint: str | None) -> Any:
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise MissingExtraError(
            "downloading from the hub needs the package huggingface_hub",
            extra="local",
            hint="Install it with: pip install 'maas-client[local]'",
        ) from None
    return HfApi(endpoint=endpoint)


@contextmanager
def _translate_errors(hub_id: str) -> Iterator[None]:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError as error:
        raise ConfigError(
            f"{hub_id} can be downloaded only after accepting its licence",
            hint=f"Accept it on https://huggingface.co/{hub_id}, then run: hf auth login",
        ) from error
    except RepositoryNotFoundError as error:
        raise ConfigError(
            f"there is no model {hub_id} on the hub", hint="Check the name."
        ) from error
    except Exception as error:  # huggingface_hub's own errors and those of its HTTP library
        if isinstance(error, MaasError):
            raise
        raise TransportError(
            f"cannot download {hub_id}: {describe_exception(error)}",
            hint="Run it again: the download is resumed. Without a network, copy a folder with the weights "
            "here: maas-client serve --base FOLDER",
        ) from error
