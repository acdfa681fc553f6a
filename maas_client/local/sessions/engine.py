"""One session's model, adapter and optimiser, in the session's process."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - this module is imported by the session's process only

from maas_client.chat import TEMPLATES
from maas_client.local.machine import matmul_choice
from maas_client.local.resources.training_config import TrainingConfig
from maas_client.local.sessions.loss_settings import NORMALISED_LOSSES
from maas_client.local.sessions.losses import (
    InvalidRequestError,
    TokenInputs,
    check_logprobs,
    loss_sum,
)
from maas_client.local.sessions.sampling import sample, swapped_weights
from maas_client.local.training import adapters, checkpoints, load_base, save, strategies
from maas_client.local.training.data import Example
from maas_client.local.training.model_loss import ModelWithLoss, token_losses
from maas_client.local.training.pack_threads import add_gradients
from maas_client.local.training.packing import PackLimits, divide_items, group_examples, lay_out
from maas_client.local.training.train import create_optimizer

_SNAPSHOTS_KEPT = 8
"""Sampler weights in memory; older ones are dropped."""


class SessionEngine:
    """A base with an adapter that is trained request by request.

    ``spec`` has ``base`` (``BaseWeights.as_dict``), ``lora_config`` with ``rank``, ``alpha`` and ``seed``,
    ``device``, ``fingerprint``, ``folder`` (of the session) and ``resume`` (a checkpoint's folder, or None).
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        lora, device = spec["lora_config"], load_base.resolve_device(spec["device"])
        self._spec, self._folder = spec, Path(spec["folder"])
        config = TrainingConfig(
            lora_r=lora["rank"],
            lora_alpha=lora["alpha"],
            seed=lora["seed"] % 2**63,
            weight_decay=0.0,
            gradient_checkpointing=False,
        )
        base = spec["base"]
        self._tokenizer = load_base.load_tokenizer(base["folder"])
        template, _ = load_base.detect_template(self._tokenizer, TEMPLATES[base["template"]])
        model = load_base.load_model(base["folder"], config, device)
        self._limits = PackLimits(
            threads=load_base.pack_threads(model, device),
            longrope_threshold=load_base.longrope_threshold(model),
        )
        self._model, _ = adapters.make_trainable(model, config)
        self._module = _TokenModel(self._model)
        self._end_ids = self._stop_tokens(template.stop_strings)
        self._snapshots: dict[str, dict[str, torch.Tensor]] = {}
        self._is_mean: bool | None = None
        """Whether the losses whose gradients wait are normalised by the service; None: no gradients wait."""
        self.step = 0
        """Completed optimiser steps."""
        state = None
        if spec["resume"]:
            checkpoint = checkpoints.load_newest(Path(spec["resume"]), spec["fingerprint"])
            if checkpoint is None:
                raise InvalidRequestError("The checkpoint is damaged, or belongs to another base.")
            state, self.step = checkpoint.state, checkpoint.step
            if choice := checkpoint.extra.get("matmul"):
                matmul_choice.MatmulChoice.from_dict(choice).apply()
            self._module.load_state_dict(dict(state.weights), strict=False)
        self._strategy = strategies.prepare_strategy(
            self._module, create_optimizer(self._module, config), device, config
        )
        if state is not None and state.optimizer:
            self._strategy.restore_state(state)

    @property
    def _causal(self) -> Any:
        model: Any = self._model
        return model.get_base_model()

    def _stop_tokens(self, stop_strings: Sequence[str]) -> list[int]:
        tokenizer = self._tokenizer
        ids = [tokenizer.convert_tokens_to_ids(text) for text in stop_strings]
        known = {token for token in ids if token not in (None, tokenizer.unk_token_id)}
        return sorted(known | ({tokenizer.eos_token_id} - {None}))

    # -- training -----------------------------------------------------------------------------------

    def forward_backward(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Add the gradients of a loss to those of earlier requests. A failure leaves them as they were."""
        is_mean = request["loss_fn"] in NORMALISED_LOSSES
        if self._is_mean not in (None, is_mean):
            raise InvalidRequestError(
                f"{request['loss_fn']} cannot add to the gradients that wait: the service sums "
                "cross_entropy and importance_sampling, and normalises ppo, cispo and sapo. "
                "Send optim_step first."
            )
        weights = self._strategy.weights.values()
        before = [None if w.grad is None else w.grad.clone() for w in weights]
        try:
            result = self._forward(request, with_gradients=True)
            self._is_mean = is_mean
            return result
        except BaseException:
            for weight, gradient in zip(weights, before, strict=True):
                weight.grad = gradient
            raise

    @torch.no_grad()
    def forward(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the log probabilities of the targets, without gradients and without a total loss."""
        return self._forward(request, with_gradients=False)

    def _forward(self, request: Mapping[str, Any], *, with_gradients: bool) -> dict[str, Any]:
        started_at, total = time.monotonic(), 0.0
        data: list[dict[str, Any]] = request["data"]
        logprobs: list[list[float]] = [[] for _ in data]

        def run(part: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
            loss, values = self._module.run(
                [data[example.line] for example in part], request, self._strategy.device
            )
            check_logprobs(values)
            if not math.isfinite(float(loss.detach())):
                raise InvalidRequestError(
                    "The loss is not a finite number. Check logprobs, advantages and weights."
                )
            return loss, values

        examples = [Example(datum["tokens"], [], number) for number, datum in enumerate(data)]
        for group in group_examples(examples, self._limits):
            parts = divide_items(group, self._limits) if with_gradients else [group]
            results = add_gradients(run, parts, self._strategy)
            for part, (loss, values) in zip(parts, results, strict=True):
                total += float(loss)
                remaining = iter(values.tolist())
                for example in part:
                    logprobs[example.line] = list(islice(remaining, example.tokens))
        seconds, tokens = time.monotonic() - started_at, sum(len(d["tokens"]) for d in data)
        metrics = {
            "training_tokens": tokens,
            "training_duration_s": seconds,
            "training_tokens_per_sec": tokens / max(seconds, 1e-9),
        }
        if with_gradients:
            metrics["total_loss:sum"] = total
        return {
            "logprobs": logprobs,
            "total_loss": total if with_gradients else None,
            "loss_tokens": _count_loss_tokens(request),
            "metrics": metrics,
        }

    def optim_step(self, adam: Mapping[str, float]) -> dict[str, Any]:
        """Apply the accumulated gradients with AdamW."""
        if all(weight.grad is None for weight in self._strategy.weights.values()):
            raise InvalidRequestError(
                "There are no gradients. Send forward_backward before optim_step."
            )
        for group in self._strategy.optimizer.param_groups:
            group["lr"], group["eps"] = adam["learning_rate"], adam["eps"]
            group["betas"] = (adam["beta1"], adam["beta2"])
            group["weight_decay"] = adam["weight_decay"]
        self._is_mean = None
        norm = self._strategy.clip_grad_norm_(0.0)
        if not math.isfinite(norm):
            self._strategy.optimizer.zero_grad()
            raise InvalidRequestError(
                "The gradients are not finite numbers. They were discarded; the weights did not change."
            )
        self._strategy.optimizer.step()
        self._strategy.optimizer.zero_grad()
        self.step += 1
        return {
            "grad_norm": norm,
            "step_count": self.step,
            "metrics": {"grad_norm": norm, "learning_rate": adam["learning_rate"]},
        }

    # -- checkpoints --------------------------------------------------------------------------------

    def save_checkpoint(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Write weights and optimiser state. Gradients that no step has applied are not part of it."""
        checkpoints.save_checkpoint(
            self._folder / "training" / request["checkpoint_id"],
            self.step,
            self._strategy.gather_state(),
            self._spec["fingerprint"],
            keep=1,
            extra={**request["extra"], "matmul": matmul_choice.current().as_dict()},
        )
        return {}

    def save_sampler(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Keep the adapter's weights for sampling: in memory, or in a folder that PEFT loads."""
        name = request["checkpoint_id"]
        weights = {n: w.clone() for n, w in self._strategy.gather_weights().items()}
        if request["persist"]:
            save.save_adapter(
                self._model,
                weights,
                self._folder / "sampler" / name,
                self._spec["base"],
                {"lora_config": self._spec["lora_config"], "step": self.step},
            )
        self._snapshots.pop(name, None)
        self._snapshots[name] = weights
        for old in list(self._snapshots)[:-_SNAPSHOTS_KEPT]:
            del self._snapshots[old]
        return {}

    def sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Sample with the weights of a sampler checkpoint of this session."""
        weights = self._sampler_weights(request["checkpoint_id"])
        self._model.eval()
        with swapped_weights(self._strategy.weights, weights):
            return sample(self._causal, self._tokenizer, request, self._end_ids)

    def _sampler_weights(self, name: str) -> Mapping[str, torch.Tensor]:
        if name in self._snapshots:
            return self._snapshots[name]
        folder = self._folder / "sampler" / name
        if not (folder / save.WEIGHTS).exists():
            raise InvalidRequestError(
                f"The sampler checkpoint {name} is no longer in memory. Save the sampler weights again."
            )
        current = self._strategy.weights
        with swapped_weights(current, current):
            save.load_adapter(self._model, folder)
            weights = {own: weight.detach().clone() for own, weight in current.items()}
        self._snapshots[name] = weights
        return weights


def _count_loss_tokens(request: Mapping[str, Any]) -> int:
    """Return the number of tokens that have a part in the loss: sampled ones need an advantage."""
    needs_advantage = request["loss_fn"] != "cross_entropy"
    return sum(
        weight != 0 and (advantage != 0 or not needs_advantage)
        for datum in request["data"]
        for weight, advantage in zip(datum["weights"], datum["advantages"], strict=True)
    )


class _TokenModel(ModelWithLoss):
    """Runs packs of session data and returns the loss and the log probability of each target."""

    def run(
        self, group: Sequence[Mapping[str, Any]], request: Mapping[str, Any], device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of the targets with a weight, and the log probabilities of all, without gradient."""
        layout = lay_out([datum["tokens"] for datum in group])
        positions = [position for document in layout.positions for position in document]
        targets, weights, advantages, sampled = (
            torch.tensor(
                [value for datum in group for value in datum[name]], dtype=dtype, device=device
            )
            for name, dtype in (
                ("targets", torch.long),
                ("weights", torch.float32),
                ("advantages", torch.float32),
                ("logprobs", torch.float32),
            )
        )
        chosen, others = (mask.nonzero()[:, 0] for mask in (weights != 0, weights == 0))
        in_pack = torch.tensor(positions, device=device)
        hidden, output_weight = self._run(
            torch.tensor(layout.input_ids, device=device),
            torch.tensor(layout.position_ids, device=device),
            torch.tensor(layout.segments, dtype=torch.int32),
            in_pack[chosen],
            in_pack[others],
        )
        hidden_chosen, hidden_others = torch.split(hidden, [len(chosen), len(others)])
        logprobs = -token_losses(hidden_chosen, output_weight, targets[chosen])
        inputs = TokenInputs(weights[chosen], advantages[chosen], sampled[chosen])
        loss = loss_sum(request["loss_fn"], logprobs, inputs, request["loss_fn_config"])
        every = torch.empty(len(positions), dtype=torch.float32, device=device)
        with torch.no_grad():
            every[chosen] = logprobs.detach()
            every[others] = -token_losses(hidden_others.detach(), output_weight, targets[others])
        return loss, every
