"""A run that was killed goes on from its newest whole checkpoint, to the same last byte.

A checkpoint is a folder of safetensors and JSON: the trained weights, the optimiser's state, the
random generator, and the number of the step. No pickle is written or read. It counts only when its
manifest holds, and only for the same run: base, data, recipe and threads.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from safetensors.torch import load_file, save_file  # noqa: TID253 - see above
from torch import nn  # noqa: TID253 - see above

from maas_client.local.peft.train import Run
from maas_client.local.state import durable

_STATE, _FACTS = "state.safetensors", "facts.json"


def fingerprint(parts: Any) -> str:
    """Return what makes two runs the same run, as a hash of JSON-ready ``parts``."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def save(
    folder: Path,
    learner: nn.Module,
    run: Run,
    optimizer: Any,
    mark: str,
    keep: int,
    notes: Any,
) -> Path:
    """Write the checkpoint of the step just done, and drop all but the newest ``keep``.

    ``notes`` is kept as it is (JSON-ready) and given back by ``resume``.
    """

    def fill(draft: Path) -> None:
        tensors, numbers = _optimizer_state(optimizer)
        tensors |= {f"weight.{name}": value for name, value in _trained(learner)}
        tensors["random"] = torch.get_rng_state()
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
            draft / _STATE,
        )
        facts = {"mark": mark, "step": run.step, "numbers": numbers, "notes": notes}
        (draft / _FACTS).write_text(json.dumps(facts, sort_keys=True))

    path = durable.write_folder(folder / f"step-{run.step:08d}", fill)
    for old in sorted(folder.glob("step-*"))[: -max(1, keep)]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def resume(folder: Path, learner: nn.Module, run: Run, mark: str, optimizer: Any) -> Any | None:
    """Put a run where its newest whole checkpoint was and return its notes; None without one.

    Checkpoints of another run, and ones cut short, are removed.
    """
    for path in sorted(folder.glob("step-*"), reverse=True):
        facts = json.loads((path / _FACTS).read_bytes()) if durable.is_complete(path) else {}
        if facts.get("mark") != mark:
            shutil.rmtree(path, ignore_errors=True)
            continue
        state = load_file(path / _STATE)
        with torch.no_grad():
            for name, weight in _trained(learner):
                weight.copy_(state[f"weight.{name}"])
        _restore_optimizer(optimizer, state, facts["numbers"])
        torch.set_rng_state(state["random"])
        run.step = facts["step"]
        return facts["notes"]
    return None


def _trained(learner: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, weight) for name, weight in learner.named_parameters() if weight.requires_grad)


def _optimizer_state(
    optimizer: torch.optim.Optimizer,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    tensors, numbers = {}, {}
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            name = f"optimizer.{index}.{key}"
            if isinstance(value, torch.Tensor):
                tensors[name] = value
            else:
                numbers[name] = value
    return tensors, numbers


def _restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], numbers: dict[str, Any]
) -> None:
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**tensors, **numbers}.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
