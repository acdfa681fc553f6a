"""What the model answers to held-out prompts, so that one can see it learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.chat import ChatTemplate, parse_completion, render_prompt
from maas_client.local.training import attention

COUNT, TOKENS = 2, 32


class Sample(NamedTuple):
    """A question of the validation data."""

    question: str
    """Its last user message, for people."""
    expected: str
    text: str
    """The whole prompt."""


def choose_samples(rows: Iterator[Mapping[str, Any]], template: ChatTemplate) -> list[Sample]:
    """Return the first few rows whose last message is an answer in words."""
    found: list[Sample] = []
    for row in rows:
        *before, last = row["messages"]
        asked = [m for m in before if m["role"] == "user" and isinstance(m.get("content"), str)]
        if asked and last["role"] == "assistant" and isinstance(last.get("content"), str):
            text = render_prompt(before, row.get("tools"), template)
            found.append(Sample(asked[-1]["content"], last["content"], text))
        if len(found) == COUNT:
            break
    return found


@torch.no_grad()
def generate_answers(
    model: nn.Module, tokenizer: Any, template: ChatTemplate, samples: list[Sample]
) -> Iterator[tuple[Sample, str]]:
    """Yield each sample with the beginning of the model's likeliest answer."""
    model.eval()
    stops = [tokenizer.convert_tokens_to_ids(text) for text in template.stop_strings]
    stops = [number for number in stops if number is not None and number != tokenizer.unk_token_id]
    anything: Any = model
    causal = anything.get_base_model() if hasattr(model, "get_base_model") else model
    for sample in samples:
        ids = tokenizer(sample.text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        ids = ids.to(next(model.parameters()).device)
        with attention.standard_attention(causal):
            out = anything.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=TOKENS,
                do_sample=False,
                synced_gpus=False,  # one process asks; with ZeRO-3 transformers would wait for all
                eos_token_id=stops or None,
                pad_token_id=tokenizer.pad_token_id,
            )
        text, _ = parse_completion(tokenizer.decode(out[0, ids.shape[1] :]), template)
        yield sample, text
    model.train()
