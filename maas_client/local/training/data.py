"""Rows to token ids, each with whether the model learns to write it. Needs a tokenizer, no torch.

The whole text is tokenised once, exactly as it will be read, and the mask follows from where each
token stands in the text: never from a search for some token. Where a token would reach from the
prompt into an answer (an answer that begins with white space), prompt and answer are tokenised
apart, as they are when the model answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from maas_client.chat import ChatTemplate, Segment, find_mismatches, render
from maas_client.errors import DatasetError

_AT_ONCE = 256
Offsets = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation as the model sees it."""

    input_ids: list[int]
    loss_mask: list[bool]
    """Of each token: does the model learn to write it. The first never counts: nothing precedes."""
    line: int
    """In the data file, from 1."""

    @property
    def learned_tokens(self) -> int:
        """Return how many tokens are learned."""
        return sum(self.loss_mask[1:])


@dataclass(slots=True)
class RowCounts:
    """What happened to the rows of a file."""

    rows: int = 0
    tokens: int = 0
    learned_tokens: int = 0
    truncated: list[int] = field(default_factory=list)
    """Lines longer than the limit, cut at their end."""
    dropped: list[int] = field(default_factory=list)
    """Lines with nothing left to learn."""
    merged: list[int] = field(default_factory=list)
    """Lines whose system message went into the first user message."""


def tokenize_rows(
    rows: Iterable[tuple[int, Mapping[str, Any]]],
    tokenizer: Any,
    template: ChatTemplate,
    max_length: int,
) -> tuple[list[Example], RowCounts]:
    """Return the examples of ``(line, row)`` pairs, and what happened to the others.

    Raises ``DatasetError`` naming the line for a row that the template has no place for.
    """
    if not tokenizer.is_fast:
        raise DatasetError("this tokenizer cannot say where its tokens stand in the text")
    examples, tally = [], RowCounts()
    source = iter(rows)
    while part := list(islice(source, _AT_ONCE)):
        texts = [_segments(line, row, template, tally) for line, row in part]
        encoded = tokenizer(
            ["".join(segment.text for segment in segments) for segments in texts],
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
        )
        each = zip(part, texts, encoded["input_ids"], encoded["offset_mapping"], strict=True)
        for (line, _), segments, ids, offsets in each:
            learned = loss_mask(segments, offsets)
            if _straddles(segments, offsets):
                ids, learned = _apart(segments, ids, learned, tokenizer)
            if len(ids) > max_length:
                tally.truncated.append(line)
                ids, learned = ids[:max_length], learned[:max_length]
            example = Example(ids, learned, line)
            tally.rows += 1
            if not example.learned_tokens:
                tally.dropped.append(line)
                continue
            tally.tokens += len(ids)
            tally.learned_tokens += example.learned_tokens
            examples.append(example)
    return examples, tally


def loss_mask(segments: Sequence[Segment], offsets: Offsets) -> list[bool]:
    """Return for each token whether it begins inside a learned segment."""
    spans = _learned_spans(segments)
    span = next(spans, None)
    learned = []
    for start, _ in offsets:
        while span is not None and start >= span[1]:
            span = next(spans, None)
        learned.append(span is not None and span[0] <= start)
    return learned


def _straddles(segments: Sequence[Segment], offsets: Offsets) -> bool:
    """Tell whether some token begins before an answer and ends inside it."""
    starts = {start for start, _ in _learned_spans(segments)}
    begun = {start for start, _ in offsets}
    return not starts <= begun


def _apart(
    segments: Sequence[Segment], ids: list[int], learned: list[bool], tokenizer: Any
) -> tuple[list[int], list[bool]]:
    """Return ids and mask of segments tokenised one by one, if that reads the same.

    It does not with tokenisers that put a space before whatever they are given: then the token
    that straddles stays, and is not learned.
    """
    pieces = [tokenizer(one.text, add_special_tokens=False)["input_ids"] for one in segments]
    joined = [number for piece in pieces for number in piece]
    if tokenizer.decode(joined) != tokenizer.decode(ids):
        return ids, learned
    marks = [[one.in_loss] * len(piece) for one, piece in zip(segments, pieces, strict=True)]
    return joined, [mark for piece in marks for mark in piece]


def _learned_spans(segments: Sequence[Segment]) -> Iterator[tuple[int, int]]:
    at = 0
    for segment in segments:
        if segment.in_loss:
            yield at, at + len(segment.text)
        at += len(segment.text)


def _segments(
    line: int, row: Mapping[str, Any], template: ChatTemplate, tally: RowCounts
) -> list[Segment]:
    messages, tools = row["messages"], row.get("tools")
    try:
        segments = render(messages, tools, template)
    except DatasetError as error:
        raise DatasetError(f"line {line}: {error.message}", hint=error.hint) from None
    if template.system_handling == "merged" and find_mismatches(messages, tools, template):
        tally.merged.append(line)
    return segments
