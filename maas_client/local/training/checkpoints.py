"""A run that was killed goes on from its newest whole checkpoint, to the same last byte.

A checkpoint is a folder of safetensors and JSON: the trained weights, the optimiser's state, the
random generators, and the number of the step; whole, however many processes hold them in parts. No
pickle is written or read. It counts only when its manifest holds, and only for the same run: base, data
and recipe.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from safetensors.torch import load_file, save_file  # noqa: TID253 - see above

from maas_client.local.state import atomic_folder
from maas_client.local.training.engines import TrainingState

_STATE, _FACTS = "state.safetensors", "facts.json"


def compute_fingerprint(parts: Any) -> str:
    """Return what makes two runs the same run, as a hash of JSON-ready ``parts``."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint of this run."""

    path: Path
    step: int
    """Steps that were done."""
    state: TrainingState
    extra: Mapping[str, Any]
    """What the caller of ``save`` gave."""


def save_checkpoint(
    folder: Path, step: int, state: TrainingState, fingerprint: str, keep: int, extra: Any
) -> Path:
    """Write the checkpoint of ``step``, just done, and drop all but the newest ``keep``.

    ``notes`` is kept as it is (JSON-ready) and given back by ``newest``.
    """
    tensors, numbers = _flat(state)
    facts = {"mark": fingerprint, "step": step, "numbers": numbers, "notes": extra}

    def fill(draft: Path) -> None:
        save_file(tensors, draft / _STATE)
        (draft / _FACTS).write_text(json.dumps(facts, sort_keys=True))

    path = atomic_folder.write_folder(folder / f"step-{step:08d}", fill)
    for old in sorted(folder.glob("step-*"))[: -max(1, keep)]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def load_newest(folder: Path, fingerprint: str) -> Checkpoint | None:
    """Return the newest whole checkpoint of the run ``mark``; nothing is changed."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        facts = json.loads((path / _FACTS).read_bytes()) if atomic_folder.is_complete(path) else {}
        if facts.get("mark") == fingerprint:
            state = _state(load_file(path / _STATE), facts["numbers"])
            return Checkpoint(path, facts["step"], state, facts["notes"])
    return None


def remove_stale(folder: Path, current: Checkpoint | None) -> None:
    """Remove what ``newest`` passed over: checkpoints of another run, and ones cut short."""
    for path in folder.glob("step-*"):
        if current is None or path.name > current.path.name:
            shutil.rmtree(path, ignore_errors=True)


def _flat(state: TrainingState) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Return a state's tensors and its numbers, under ``<kind>/<weight>/<key>``."""
    named: dict[str, torch.Tensor | float] = {"random": state.rng_states}
    named |= {f"weight/{name}": value for name, value in state.weights.items()}
    for name, moments in state.optimizer.items():
        named |= {f"optimizer/{name}/{key}": value for key, value in moments.items()}
    tensors = {n: v.cpu().contiguous() for n, v in named.items() if isinstance(v, torch.Tensor)}
    return tensors, {n: v for n, v in named.items() if not isinstance(v, torch.Tensor)}


def _state(tensors: dict[str, torch.Tensor], numbers: dict[str, float]) -> TrainingState:
    weights: dict[str, torch.Tensor] = {}
    optimizer: dict[str, dict[str, torch.Tensor | float]] = {}
    both: dict[str, Any] = {**tensors, **numbers}
    for full, value in both.items():
        kind, _, rest = full.partition("/")
        if kind == "weight":
            weights[rest] = tensors[full]
        elif kind == "optimizer":
            name, key = rest.rsplit("/", 1)
            optimizer.setdefault(name, {})[key] = value
    return TrainingState(weights, optimizer, tensors["random"])
