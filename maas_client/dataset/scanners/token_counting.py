"""How many tokens a row has: exactly with the model's tokenizer, else estimated between two bounds.

The bounds hold for every tokenizer of the catalog's models, as for all whose tokens never reach
over white space into the next word: a text has at least as many tokens as words and, as a token
is at least a byte, at most as many as bytes and one (for the space that some put in front).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from maas_client._settings import Settings
from maas_client.catalog import find_model
from maas_client.chat import TEMPLATES, ChatTemplate, Segment, render
from maas_client.errors import ConfigError, DatasetError, MissingExtraError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RowSizes:
    """Tokens of some rows, row by row."""

    totals: list[int]
    learned: list[int]
    """Written by the assistant, with the token that ends its turn."""
    prompt: Callable[[int], int]
    """For a row's index: tokens before the first learned one."""


class TokenCounter(Protocol):
    """Counts the tokens of rows."""

    @property
    def name(self) -> str:
        """What counts: a tokenizer's file, or how it is estimated."""
        ...

    @property
    def is_exact(self) -> bool:
        """False: the sizes are estimates; ``bounds`` of a text are certain all the same."""
        ...

    def sizes(self, rows: Sequence[Row], texts: Sequence[list[str] | None]) -> RowSizes:
        """Return the sizes of rows; ``texts`` are theirs (``finding.texts_of``)."""
        ...


_LOOKED_AT = 3
"""Rows of a block that say how many bytes its characters have."""
_NEARLY_ASCII = 1.05
"""Bytes per character up to which characters are counted for bytes."""
MESSAGE_TOKENS = 4
"""Around a message in most templates: role, its marks, the end of the turn."""
_THREE = 3 * MESSAGE_TOKENS
_BYTES_PER_TOKEN = ((64_000, 3.1), (131_072, 3.55), (1 << 30, 3.7))
"""By size of the vocabulary. Measured on English prose, code, JSON and sums with the vocabularies of
Phi-3 (32k), Phi-4 (100k) and Phi-4-mini (200k): between 2.6 and 3.8; within 2.1 and 5.5 in German,
French, Russian, Chinese, Japanese, Arabic and Hindi, but up to 9 there for the 200k one."""


def token_bounds(text: str) -> tuple[int, int]:
    """Return the fewest and the most tokens that a text can have, whatever the tokenizer."""
    return len(text.split()), _bytes(text) + bool(text)


@dataclass(frozen=True, slots=True)
class EstimatedCounter:
    """Counts bytes. Within a quarter for most data in one of Europe's languages."""

    bytes_per_token: float = 3.3
    is_exact: bool = False

    @property
    def name(self) -> str:
        """Say how it is estimated."""
        return f"estimate: {self.bytes_per_token} bytes a token"

    def sizes(self, rows: Sequence[Row], texts: Sequence[list[str] | None]) -> RowSizes:
        """Return the estimated sizes of rows."""
        if None not in texts:
            plain = cast("Sequence[list[str]]", texts)
            joined = "".join(chain.from_iterable(plain[:: max(1, len(plain) // _LOOKED_AT)]))
            wide = len(joined.encode()) / max(1, len(joined))
            if wide < _NEARLY_ASCII:
                per_char = wide / self.bytes_per_token
                return self._of_texts(plain, len, per_char)
            return self._of_texts(plain, _bytes, 1 / self.bytes_per_token)
        each = [self._of_row(row) for row in rows]
        totals, learned, prompts = map(list, zip(*each, strict=True))
        return RowSizes(totals, learned, prompts.__getitem__)

    def _of_texts(
        self, texts: Sequence[list[str]], size: Callable[[str], int], per: float
    ) -> RowSizes:
        """``texts`` of a row: system (or empty), user, assistant, user, assistant, ..."""
        totals, learned = [], []
        for said in texts:
            if len(said) == 3:
                answered = size(said[2])
                totals.append(int((size(said[0]) + size(said[1]) + answered) * per) + _THREE)
                learned.append(int(answered * per) + 1)
            else:
                sizes = list(map(size, said))
                totals.append(int(sum(sizes) * per) + MESSAGE_TOKENS * len(said))
                learned.append(int(sum(sizes[2::2]) * per) + len(said) // 2)
        return RowSizes(
            totals,
            learned,
            lambda at: int(sum(map(size, texts[at][:2])) * per) + 2 * MESSAGE_TOKENS,
        )

    def _of_row(self, row: Row) -> tuple[int, int, int]:
        """Return all tokens, learned ones, and those before the first learned one."""
        prompt = total = learned = 0
        for message in row["messages"]:
            tokens = self.estimate_text(_said(message))
            is_learned = message.get("role") == "assistant" and message.get("weight", 1) != 0
            if is_learned and not learned:
                prompt = total + MESSAGE_TOKENS
            learned += is_learned * (tokens + 1)
            total += tokens + MESSAGE_TOKENS
        tools = round(_written(row["tools"]) / self.bytes_per_token) if row.get("tools") else 0
        return total + tools, learned, (prompt or total) + tools

    def estimate_text(self, text: str) -> int:
        """Return the estimate for one text."""
        return round(_bytes(text) / self.bytes_per_token)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _written(value: Any) -> int:
    """Return how many bytes a JSON value takes with a space after each comma and colon."""
    try:
        data = msgspec.json.encode(value)
    except (ValueError, OverflowError, TypeError):  # half characters, integers beyond 64 bits
        return _bytes(str(value))
    return len(data) + data.count(b'":') + data.count(b',"') + data.count(b",{")


def _said(message: Row) -> str:
    content = message.get("content")
    parts = [content] if isinstance(content, str) else [str(content)] if content else []
    return " ".join(parts + [str(call) for call in message.get("tool_calls") or ()])


@dataclass(frozen=True, slots=True)
class ExactCounter:
    """Counts with a ``tokenizer.json``, over the text that the model's template makes of a row.

    The same counts as in training: the whole text is tokenised once, and a token is learned if it
    begins inside an answer.
    """

    tokenizer: Tokenizer
    template: ChatTemplate
    name: str
    is_exact: bool = True

    def sizes(self, rows: Sequence[Row], texts: Sequence[list[str] | None]) -> RowSizes:
        """Return the sizes of rows; one that the template has no place for has none."""
        segments = [self._segments(row) for row in rows]
        whole = ["".join(segment.text for segment in each) for each in segments]
        encoded = self.tokenizer.encode_batch(whole, add_special_tokens=False)
        marks = [_learned(each, one.offsets) for each, one in zip(segments, encoded, strict=True)]
        return RowSizes(
            [len(one.ids) for one in encoded],
            [learned for learned, _ in marks],
            lambda at: marks[at][1],
        )

    def _segments(self, row: Row) -> list[Segment]:
        try:
            return render(row["messages"], row.get("tools"), self.template)
        except DatasetError:
            return []


def _learned(segments: Sequence[Segment], offsets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return how many tokens are learned, and how many stand before the first of them."""
    learned, first = 0, len(offsets)
    spans = list(_learned_spans(segments))
    at = 0
    for index, (start, _) in enumerate(offsets):
        while at < len(spans) and start >= spans[at][1]:
            at += 1
        if index and at < len(spans) and spans[at][0] <= start:
            learned += 1
            first = min(first, index)
    return learned, first


def _learned_spans(segments: Sequence[Segment]) -> Iterator[tuple[int, int]]:
    start = 0
    for segment in segments:
        end = start + len(segment.text)
        if segment.in_loss:
            yield start, end
        start = end


def load_token_counter(model: str | None, tokenizer_path: str | Path | None = None) -> TokenCounter:
    """Return what counts tokens for a model: its tokenizer if it is on this machine, else an estimate.

    Looked for in ``folder`` (a folder with ``tokenizer.json``, or the file), among pulled bases and
    in the hub's cache; nothing is downloaded. Raises ``ConfigError`` for a ``folder`` without a
    tokenizer, ``MissingExtraError`` if one is given and cannot be read for want of a package.
    """
    facts = find_model(model, override=Settings.load().catalog_file()) if model else None
    if tokenizer_path is not None:
        file = Path(tokenizer_path).expanduser()
        file = file / "tokenizer.json" if file.is_dir() else file
        template = TEMPLATES[facts.template] if facts else None
        return _exact(file, template or _template_beside(file))
    if facts and facts.huggingface_id:
        for file in _at_hand(facts.huggingface_id):
            try:
                return _exact(file, TEMPLATES[facts.template])
            except (MissingExtraError, ConfigError):
                break
    size = facts.architecture.vocab_size if facts and facts.architecture else None
    if size is None:
        return EstimatedCounter()
    return EstimatedCounter(next(per for most, per in _BYTES_PER_TOKEN if size <= most))


def _exact(file: Path, template: ChatTemplate) -> ExactCounter:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingExtraError(
            "counting tokens with a tokenizer needs the tokenizers package",
            extra="local",
            hint="Install it: pip install tokenizers",
        ) from None
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as problem:  # the package raises bare Exception for whatever it cannot read
        raise ConfigError(
            f"{file} is no tokenizer that can be read",
            hint="Give the model's folder, or its tokenizer.json.",
        ) from problem
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return ExactCounter(tokenizer, template, str(file))


def _template_beside(file: Path) -> ChatTemplate:
    """Return the template of a folder's model by the name of the folder."""
    facts = find_model(file.parent.name.replace("--", "/")) or find_model(
        file.parent.name.split("--")[-1]
    )
    if facts is None and "smollm2" in file.parent.name.lower():
        return TEMPLATES["smollm2"]
    if facts is None:
        raise ConfigError(
            f"which model's tokenizer {file} is cannot be told",
            hint="Name the model too: the tokens around the messages are its template's.",
        )
    return TEMPLATES[facts.template]


def _at_hand(hub_id: str) -> Iterator[Path]:
    """Yield where a hub model's tokenizer lies on this machine."""
    settings = Settings.load()
    yield from _file(settings.cache_path() / hub_id.replace("/", "--"))
    home = Path(settings.hf_home or Path.home() / ".cache" / "huggingface").expanduser()
    snapshots = home / "hub" / f"models--{hub_id.replace('/', '--')}" / "snapshots"
    for folder in sorted(snapshots.glob("*")):
        yield from _file(folder)


def _file(folder: Path) -> Iterator[Path]:
    if (folder / "tokenizer.json").is_file():
        yield folder / "tokenizer.json"
