"""Training data: rows of the checked files as token ids with a loss mask, and sample questions.

The whole text of a row is tokenised once, as the model reads it, and the loss mask follows from the
position of each token in the text, never from a search for special tokens. If a token would span the
prompt and an answer (an answer that begins with white space), prompt and answer are tokenised apart,
as they are at inference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.chat import (
    ChatTemplate,
    Segment,
    find_mismatches,
    parse_completion,
    render,
    render_prompt,
)
from maas_client.dataset.formats.preferences import preference_chats
from maas_client.errors import DatasetError
from maas_client.local.resources.training_config import Task
from maas_client.local.resources.validation_cache import check_file, read_valid_rows
from maas_client.local.training import attention

_ROWS_PER_CALL = 256
"""Rows tokenised in one call of the tokenizer."""
_SAMPLE_COUNT, _SAMPLE_TOKENS = 2, 32
Offsets = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation as token ids."""

    input_ids: list[int]
    loss_mask: list[bool]
    """For each token: does it carry loss. The first never counts, as no token precedes it."""
    line: int
    """Line of the data file, from 1."""

    @property
    def tokens(self) -> int:
        """Return the number of tokens."""
        return len(self.input_ids)

    @property
    def longest(self) -> int:
        """Return the number of tokens of the longest document."""
        return len(self.input_ids)

    @property
    def learned_tokens(self) -> int:
        """Return the number of tokens that carry loss."""
        return sum(self.loss_mask[1:])


@dataclass(slots=True)
class PreferencePair:
    """The two conversations of a preference. They differ in the answer, which alone carries loss."""

    preferred: Example
    other: Example
    reference: tuple[float, float] = (0.0, 0.0)
    """The base model's log probabilities of both answers (``preference_loss.add_reference``)."""

    @property
    def line(self) -> int:
        """Return the line of the data file, from 1."""
        return self.preferred.line

    @property
    def tokens(self) -> int:
        """Return the number of tokens of both."""
        return self.preferred.tokens + self.other.tokens

    @property
    def longest(self) -> int:
        """Return the number of tokens of the longer one."""
        return max(self.preferred.tokens, self.other.tokens)

    @property
    def learned_tokens(self) -> int:
        """Return the number of tokens of both answers."""
        return self.preferred.learned_tokens + self.other.learned_tokens


Item = Example | PreferencePair
"""A row of the data as the trainer uses it."""


@dataclass(slots=True)
class RowCounts:
    """Rows and tokens of a file, and the lines that were changed or dropped."""

    rows: int = 0
    tokens: int = 0
    learned_tokens: int = 0
    truncated: list[int] = field(default_factory=list)
    """Lines longer than the limit, truncated at their end."""
    dropped: list[int] = field(default_factory=list)
    """Lines without any token that carries loss."""
    merged: list[int] = field(default_factory=list)
    """Lines whose system message was merged into the first user message."""


class Sample(NamedTuple):
    """A question of the validation data, answered before and after training."""

    question: str
    """The last user message."""
    expected: str
    text: str
    """The whole prompt."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The examples of a job, with counts and sample questions."""

    examples: Sequence[Item]
    validation_examples: Sequence[Item]
    row_counts: RowCounts
    validation_row_counts: RowCounts
    samples: list[Sample]
    hashes: dict[str, str]
    """sha256 of each file: ``train_sha256``, ``validation_sha256``."""

    @classmethod
    def load(
        cls,
        spec: Mapping[str, Any],
        tokenizer: Any,
        template: ChatTemplate,
        max_length: int,
        task: Task = "SFT",
    ) -> TrainingData:
        """Read a job's files; rows are truncated at ``max_length`` tokens.

        With task ``DPO`` the rows are preferences.

        Raises ``DatasetError`` for a row that the template cannot render, and if no token carries loss.
        """
        train, validation = spec["train"], spec.get("validation")
        checked_for = spec.get("model"), spec.get("checks"), task
        tokenize: Any = tokenize_preferences if task == "DPO" else tokenize_rows
        train_rows = read_valid_rows(train, *checked_for)
        examples, counts = tokenize(train_rows, tokenizer, template, max_length)
        if not examples:
            raise DatasetError(
                "No assistant tokens found after preprocessing: the training file has nothing to "
                "learn from."
            )
        validation_rows = list(read_valid_rows(validation, *checked_for)) if validation else []
        validation_examples, validation_counts = tokenize(
            validation_rows, tokenizer, template, max_length
        )
        chats = (preference_chats(row)[0] if task == "DPO" else row for _, row in validation_rows)
        return cls(
            examples=examples,
            validation_examples=validation_examples,
            row_counts=counts,
            validation_row_counts=validation_counts,
            samples=choose_samples(chats, template),
            hashes={
                f"{name}_sha256": check_file(path, *checked_for).report.sha256
                for name, path in (("train", train), ("validation", validation))
                if path
            },
        )

    @property
    def longest_example(self) -> int:
        """Return the number of tokens of the longest training example."""
        return max(example.longest for example in self.examples)


def tokenize_rows(
    rows: Iterable[tuple[int, Mapping[str, Any]]],
    tokenizer: Any,
    template: ChatTemplate,
    max_length: int,
) -> tuple[list[Example], RowCounts]:
    """Return the examples of ``(line, row)`` pairs, and the counts of the file.

    Raises ``DatasetError`` with the line of a row that the template cannot render.
    """
    if not tokenizer.is_fast:
        raise DatasetError("This tokenizer does not report the character offsets of its tokens.")
    examples, counts = [], RowCounts()
    source = iter(rows)
    while part := list(islice(source, _ROWS_PER_CALL)):
        rendered = [_render_row(line, row, template, counts) for line, row in part]
        encoded = tokenizer(
            ["".join(segment.text for segment in segments) for segments in rendered],
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
        )
        encodings = zip(
            part, rendered, encoded["input_ids"], encoded["offset_mapping"], strict=True
        )
        for (line, _), segments, ids, offsets in encodings:
            mask = loss_mask(segments, offsets)
            if _has_spanning_token(segments, offsets):
                ids, mask = _tokenize_segments(segments, ids, mask, tokenizer)
            if len(ids) > max_length:
                counts.truncated.append(line)
                ids, mask = ids[:max_length], mask[:max_length]
            example = Example(ids, mask, line)
            counts.rows += 1
            if not example.learned_tokens:
                counts.dropped.append(line)
                continue
            counts.tokens += len(ids)
            counts.learned_tokens += example.learned_tokens
            examples.append(example)
    return examples, counts


def tokenize_preferences(
    rows: Iterable[tuple[int, Mapping[str, Any]]],
    tokenizer: Any,
    template: ChatTemplate,
    max_length: int,
) -> tuple[list[PreferencePair], RowCounts]:
    """Return the pairs of ``(line, preference row)``, and the counts of the file, both answers together.

    A pair is dropped if truncation leaves nothing of one answer. Raises ``DatasetError`` as
    ``tokenize_rows`` does.
    """
    chats = [(line, preference_chats(dict(row))) for line, row in rows]
    sides = []
    for side in (0, 1):
        side_rows = ((line, pair[side]) for line, pair in chats)
        examples, counts = tokenize_rows(side_rows, tokenizer, template, max_length)
        sides.append(({example.line: example for example in examples}, counts))
    (preferred, first), (other, second) = sides
    pairs = [
        PreferencePair(preferred[line], other[line])
        for line, _ in chats
        if line in preferred and line in other
    ]
    return pairs, RowCounts(
        rows=len(chats),
        tokens=sum(pair.tokens for pair in pairs),
        learned_tokens=sum(pair.learned_tokens for pair in pairs),
        truncated=sorted({*first.truncated, *second.truncated}),
        dropped=sorted({*first.dropped, *second.dropped}),
        merged=sorted({*first.merged, *second.merged}),
    )


def loss_mask(segments: Sequence[Segment], offsets: Offsets) -> list[bool]:
    """Return for each token whether it begins inside a segment that carries loss."""
    spans = _loss_spans(segments)
    span = next(spans, None)
    mask = []
    for start, _ in offsets:
        while span is not None and start >= span[1]:
            span = next(spans, None)
        mask.append(span is not None and span[0] <= start)
    return mask


def _has_spanning_token(segments: Sequence[Segment], offsets: Offsets) -> bool:
    """Return whether some token begins before an answer and ends inside it."""
    answer_starts = {start for start, _ in _loss_spans(segments)}
    token_starts = {start for start, _ in offsets}
    return not answer_starts <= token_starts


def _tokenize_segments(
    segments: Sequence[Segment], ids: list[int], mask: list[bool], tokenizer: Any
) -> tuple[list[int], list[bool]]:
    """Return ids and mask of segments tokenised one by one, if they decode to the same text.

    They do not with tokenizers that put a space before every input: then the spanning token stays and
    carries no loss.
    """
    pieces = [
        tokenizer(segment.text, add_special_tokens=False)["input_ids"] for segment in segments
    ]
    joined = [token for piece in pieces for token in piece]
    if tokenizer.decode(joined) != tokenizer.decode(ids):
        return ids, mask
    masks = [
        [segment.in_loss] * len(piece) for segment, piece in zip(segments, pieces, strict=True)
    ]
    return joined, [carries_loss for piece in masks for carries_loss in piece]


def _loss_spans(segments: Sequence[Segment]) -> Iterator[tuple[int, int]]:
    start = 0
    for segment in segments:
        if segment.in_loss:
            yield start, start + len(segment.text)
        start += len(segment.text)


def _render_row(
    line: int, row: Mapping[str, Any], template: ChatTemplate, counts: RowCounts
) -> list[Segment]:
    messages, tools = row["messages"], row.get("tools")
    try:
        segments = render(messages, tools, template)
    except DatasetError as error:
        raise DatasetError(f"line {line}: {error.message}", hint=error.hint) from None
    if template.system_handling == "merged" and find_mismatches(messages, tools, template):
        counts.merged.append(line)
    return segments


def choose_samples(rows: Iterable[Mapping[str, Any]], template: ChatTemplate) -> list[Sample]:
    """Return the first few rows whose last message is an answer in text."""
    samples: list[Sample] = []
    for row in rows:
        *before, last = row["messages"]
        questions = [
            message["content"]
            for message in before
            if message["role"] == "user" and isinstance(message.get("content"), str)
        ]
        if questions and last["role"] == "assistant" and isinstance(last.get("content"), str):
            text = render_prompt(before, row.get("tools"), template)
            samples.append(Sample(questions[-1], last["content"], text))
        if len(samples) == _SAMPLE_COUNT:
            break
    return samples


@torch.no_grad()
def generate_answers(
    model: nn.Module, tokenizer: Any, template: ChatTemplate, samples: list[Sample]
) -> Iterator[tuple[Sample, str]]:
    """Yield each sample with the beginning of the model's greedy answer."""
    model.eval()
    end_ids = [tokenizer.convert_tokens_to_ids(text) for text in template.stop_strings]
    end_ids = [token for token in end_ids if token not in (None, tokenizer.unk_token_id)]
    peft_model: Any = model
    causal = peft_model.get_base_model() if hasattr(model, "get_base_model") else model
    for sample in samples:
        ids = tokenizer(sample.text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        ids = ids.to(next(model.parameters()).device)
        with attention.standard_attention(causal):
            output = peft_model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=_SAMPLE_TOKENS,
                do_sample=False,
                synced_gpus=False,  # one process generates; with ZeRO-3 transformers would wait for all
                eos_token_id=end_ids or None,
                pad_token_id=tokenizer.pad_token_id,
            )
        text, _ = parse_completion(tokenizer.decode(output[0, ids.shape[1] :]), template)
        yield sample, text
    model.train()
