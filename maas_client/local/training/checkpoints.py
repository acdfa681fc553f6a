"""Checkpoints: a run that was killed resumes from its newest complete one, with byte-identical results.

A checkpoint is a folder of safetensors and JSON with the trained weights, the optimiser's state, the states
of the random generators, and the step; unsharded, however many processes trained. Nothing is pickled. A
checkpoint is used only if its manifest matches, and only for the same run: base, data and configuration.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from safetensors.torch import load_file, save_file  # noqa: TID253 - see above

from maas_client.local.state import atomic_folder
from maas_client.local.training.strategies import TrainingState

_STATE_FILE, _INFO_FILE = "state.safetensors", "facts.json"


def compute_fingerprint(parts: Any) -> str:
    """Return a hash of JSON-ready ``parts`` that identifies a run."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint of this run."""

    path: Path
    step: int
    """Completed steps."""
    state: TrainingState
    extra: Mapping[str, Any]
    """Data that the caller of ``save_checkpoint`` stored."""


def save_checkpoint(
    folder: Path, step: int, state: TrainingState, fingerprint: str, keep: int, extra: Any
) -> Path:
    """Write the checkpoint after ``step`` and delete all but the newest ``keep``.

    ``extra`` is JSON-ready data; ``load_newest`` returns it unchanged.
    """
    tensors, scalars = _flatten_state(state)
    info = {"mark": fingerprint, "step": step, "numbers": scalars, "notes": extra}

    def fill(draft: Path) -> None:
        save_file(tensors, draft / _STATE_FILE)
        (draft / _INFO_FILE).write_text(json.dumps(info, sort_keys=True))

    path = atomic_folder.write_folder(folder / f"step-{step:08d}", fill)
    for old_folder in sorted(folder.glob("step-*"))[: -max(1, keep)]:
        shutil.rmtree(old_folder, ignore_errors=True)
    return path


def load_newest(folder: Path, fingerprint: str) -> Checkpoint | None:
    """Return the newest complete checkpoint of the run with this fingerprint. Deletes nothing."""
    for path, info in _complete_checkpoints(folder, fingerprint):
        state = _restore_state(load_file(path / _STATE_FILE), info["numbers"])
        return Checkpoint(path, info["step"], state, info["notes"])
    return None


def load_newest_extra(folder: Path, fingerprint: str) -> Mapping[str, Any]:
    """Return the ``extra`` of the checkpoint that ``load_newest`` returns; nothing without one."""
    _, info = next(_complete_checkpoints(folder, fingerprint), (folder, {"notes": {}}))
    extra: Mapping[str, Any] = info["notes"]
    return extra


def _complete_checkpoints(folder: Path, fingerprint: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the complete checkpoints of a run, newest first."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        if atomic_folder.is_complete(path):
            info = json.loads((path / _INFO_FILE).read_bytes())
            if info.get("mark") == fingerprint:
                yield path, info


def find_damaged(folder: Path, current: Checkpoint | None) -> int | None:
    """Return the step of the newest checkpoint if it is damaged, so that ``current`` is used instead of it."""
    newest = max((path.name for path in folder.glob("step-*")), default="")
    if not newest or (current is not None and newest <= current.path.name):
        return None
    return None if atomic_folder.is_complete(folder / newest) else int(newest.removeprefix("step-"))


def remove_stale(folder: Path, current: Checkpoint | None) -> None:
    """Delete checkpoints newer than ``current``: those of another run, and incomplete ones."""
    for path in folder.glob("step-*"):
        if current is None or path.name > current.path.name:
            shutil.rmtree(path, ignore_errors=True)


def _flatten_state(state: TrainingState) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Return a state's tensors and scalars, named ``<kind>/<weight>/<key>``."""
    entries: dict[str, torch.Tensor | float] = {"random": state.rng_states}
    entries |= {f"weight/{name}": value for name, value in state.weights.items()}
    for name, moments in state.optimizer.items():
        entries |= {f"optimizer/{name}/{key}": value for key, value in moments.items()}
    tensors = {n: v.cpu().contiguous() for n, v in entries.items() if isinstance(v, torch.Tensor)}
    return tensors, {n: v for n, v in entries.items() if not isinstance(v, torch.Tensor)}


def _restore_state(tensors: dict[str, torch.Tensor], scalars: dict[str, float]) -> TrainingState:
    weights: dict[str, torch.Tensor] = {}
    optimizer: dict[str, dict[str, torch.Tensor | float]] = {}
    entries: dict[str, Any] = {**tensors, **scalars}
    for full_name, value in entries.items():
        kind, _, name_and_key = full_name.partition("/")
        if kind == "weight":
            weights[name_and_key] = tensors[full_name]
        elif kind == "optimizer":
            name, key = name_and_key.rsplit("/", 1)
            optimizer.setdefault(name, {})[key] = value
    return TrainingState(weights, optimizer, tensors["random"])
