"""Model and loss as one Module: what an engine for several processes has to wrap.

Calling the inner model of a wrapped one would give the right loss and unsynchronised gradients.
"""

# ruff: noqa: N803, N806
# Tensor names end in their axes: T tokens, N learned positions, H hidden width, V vocabulary.

from __future__ import annotations

from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.errors import UnsupportedError
from maas_client.local.training.loss import summed_loss


class ModelWithLoss(nn.Module):
    """A causal model that answers a pack with the summed loss of its learned positions."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        config = self._causal().config
        for name, plain in (("final_logit_softcapping", None), ("logits_scaling", 1.0)):
            if getattr(config, name, plain) not in (plain, 1.0):
                raise UnsupportedError(
                    f"{config.model_type} changes its logits ({name}), which is not done here",
                    hint="Use a Phi, Llama, Qwen or Mistral model.",
                )

    def _causal(self) -> Any:
        """Return the causal model inside PEFT's wrapper, adapters in place."""
        inner = getattr(self.model, "get_base_model", None)
        return inner() if inner is not None else self.model

    def forward(
        self,
        input_ids_T: torch.Tensor,
        position_ids_T: torch.Tensor,
        cu_seqlens: torch.Tensor,
        loss_positions_N: torch.Tensor,
        targets_N: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed loss and the number of likeliest targets.

        ``bounds`` (on the CPU) holds where documents begin, and the end; ``learned_N`` the
        positions whose next token is learned, ``targets_N`` those tokens.
        """
        causal = self._causal()
        out = causal.get_decoder()(
            input_ids=input_ids_T[None],
            position_ids=position_ids_T[None],
            cu_seq_lens_q=cu_seqlens,
            use_cache=False,
        )
        hidden_NH = out.last_hidden_state[0].index_select(0, loss_positions_N)
        return summed_loss(hidden_NH, causal.get_output_embeddings().weight, targets_N)
