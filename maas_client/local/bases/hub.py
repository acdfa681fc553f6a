"""Real weights from the Hugging Face hub, once: safetensors and texts, never code.

Size and licence are known before the first byte; what is half here goes on where it stopped, and a
folder counts only when it is whole (``durable``).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
"""What is fetched. No Python, no pickle: nothing that could run."""
_SPARE = 1.05
"""Of the download's size must be free on the disk."""


@dataclass(frozen=True, slots=True)
class HubModel:
    """What a pull would fetch."""

    hub_id: str
    revision: str
    """The commit: what was shown is what is fetched."""
    licence: str
    files: tuple[str, ...]
    size_bytes: int


def inspect_model(hub_id: str, endpoint: str | None = None) -> HubModel:
    """Ask the hub what there is. Raises ``UnsupportedError`` for a model without safetensors, and
    ``ConfigError`` or ``TransportError`` when it cannot be asked."""
    with _translated(hub_id):
        info: Any = _api(endpoint).model_info(hub_id, files_metadata=True)
    kept = [
        s for s in info.siblings or () if any(Path(s.rfilename).match(p) for p in DOWNLOAD_PATTERNS)
    ]
    kept = [s for s in kept if "/" not in s.rfilename]
    if not any(s.rfilename.endswith(".safetensors") for s in kept):
        raise UnsupportedError(
            f"{hub_id} has no safetensors, and nothing else is loaded here",
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
        tuple(s.rfilename for s in kept),
        sum(int(s.size or 0) for s in kept),
    )


def pull(
    model: HubModel, folder: Path, progress: Callable[[str], None], endpoint: str | None = None
) -> Path:
    """Fetch what was offered into ``folder`` unless it is there, and return its own folder.

    Raises ``ConfigError`` when the disk is too small; an interrupted pull goes on next time.
    """
    target = folder / model.hub_id.replace("/", "--")
    if atomic_folder.is_complete(target, hashes=False):
        return target
    draft = folder / f".{target.name}.{model.revision[:12]}.part"
    draft.mkdir(mode=0o700, parents=True, exist_ok=True)
    here = sum(p.stat().st_size for p in draft.rglob("*") if p.is_file())
    free = shutil.disk_usage(folder).free
    if free < (model.size_bytes - here) * _SPARE:
        raise ConfigError(
            f"{model.hub_id} needs {format_size(model.size_bytes - here)} more, and {format_size(free)} "
            f"are free in {folder}",
            hint="Make room, or set MAAS_CACHE_DIR to another disk.",
        )
    for name in model.files:
        progress(f"fetching {name}")
        with _translated(model.hub_id):
            _api(endpoint).hf_hub_download(
                model.hub_id, name, revision=model.revision, local_dir=draft
            )
    shutil.rmtree(draft / ".cache", ignore_errors=True)
    atomic_folder.write_manifest(draft)
    if target.exists():
        shutil.rmtree(target)  # half of an older one
    draft.rename(target)
    return target


def format_size(size: float) -> str:
    """Return bytes for people."""
    return f"{size / 2**30:.1f} GiB" if size > 2**29 else f"{size / 2**20:.1f} MiB"


def _api(endpoint: str | None) -> Any:
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise MissingExtraError(
            "fetching from the hub needs huggingface_hub",
            extra="local",
            hint="Install it: pip install 'maas-client[local]'",
        ) from None
    return HfApi(endpoint=endpoint)


@contextmanager
def _translated(hub_id: str) -> Iterator[None]:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError as bad:
        raise ConfigError(
            f"{hub_id} is given only to those who accepted its licence",
            hint=f"Accept it on https://huggingface.co/{hub_id}, then: hf auth login",
        ) from bad
    except RepositoryNotFoundError as bad:
        raise ConfigError(f"there is no {hub_id} on the hub", hint="Check the name.") from bad
    except Exception as bad:  # its own errors, and those of whichever HTTP library it uses
        if isinstance(bad, MaasError):
            raise
        first = str(bad).strip().splitlines()[0] if str(bad).strip() else type(bad).__name__
        raise TransportError(
            f"{hub_id} could not be fetched: {first[:200]}",
            hint="Run it again: what is here already is kept.",
        ) from bad
