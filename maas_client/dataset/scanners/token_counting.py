"""Count the tokens of rows: exactly with the model's tokenizer, else an estimate between two bounds.

The bounds hold for every tokenizer of the catalog's models, and for all whose tokens do not extend over
white space into the next word: a text has at least as many tokens as words and, because a token is at least
one byte, at most as many as bytes plus one (for the space that some tokenizers add in front).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from maas_client._messages import Argument, Text
from maas_client._settings import Settings
from maas_client.catalog import find_model
from maas_client.chat import TEMPLATES, ChatTemplate, Segment, render
from maas_client.errors import ConfigError, DatasetError, MissingExtraError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from maas_client.catalog import ModelInfo

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RowSizes:
    """The tokens of some rows, row by row."""

    totals: list[int]
    learned: list[int]
    """Tokens that are trained on: the assistant's, with the token that ends its turn."""
    prompt: Callable[[int], int]
    """For a row's index: the tokens before the first learned one."""


class TokenCounter(Protocol):
    """Counts the tokens of rows."""

    @property
    def name(self) -> str:
        """The tokenizer's file, or a description of the estimate."""
        ...

    @property
    def is_exact(self) -> bool:
        """False: the sizes are estimates; ``token_bounds`` of a text are certain in any case."""
        ...

    def sizes(self, rows: Sequence[Row], texts: Sequence[list[str] | None]) -> RowSizes:
        """Return the sizes of rows; ``texts`` are the result of ``message_texts`` for them."""
        ...


_SAMPLE_ROWS = 3
"""Rows of a block that are used to measure how many bytes its characters have."""
_NEARLY_ASCII = 1.05
"""Bytes per character up to which characters are counted instead of bytes."""
MESSAGE_TOKENS = 4
"""Around a message in most templates: the role, its markers, the end of the turn."""
_BYTES_PER_TOKEN = ((64_000, 3.1), (131_072, 3.55), (1 << 30, 3.7))
"""By size of the vocabulary. Measured on English prose, code, JSON and arithmetic with the vocabularies of
Phi-3 (32k), Phi-4 (100k) and Phi-4-mini (200k): between 2.6 and 3.8; between 2.1 and 5.5 in German,
French, Russian, Chinese, Japanese, Arabic and Hindi, but up to 9 in these with the 200k one."""


def token_bounds(text: str) -> tuple[int, int]:
    """Return the fewest and the most tokens that a text can have with any tokenizer."""
    return len(text.split()), _byte_count(text) + bool(text)


@dataclass(frozen=True, slots=True)
class EstimatedCounter:
    """Estimates from bytes. Within 25 % for most data in European languages."""

    bytes_per_token: float = 3.3
    is_exact: bool = False

    @property
    def name(self) -> str:
        """Describe the estimate."""
        return f"estimate: {self.bytes_per_token} bytes per token"

    def sizes(self, rows: Sequence[Row], texts: Sequence[list[str] | None]) -> RowSizes:
        """Return the estimated sizes of rows."""
        if None not in texts:
            row_texts = cast("Sequence[list[str]]", texts)
            step = max(1, len(row_texts) // _SAMPLE_ROWS)
            sample = "".join(chain.from_iterable(row_texts[::step]))
            bytes_per_char = len(sample.encode()) / max(1, len(sample))
            if bytes_per_char < _NEARLY_ASCII:
                return self._estimate_texts(row_texts, len, bytes_per_char / self.bytes_per_token)
            return self._estimate_texts(row_texts, _byte_count, 1 / self.bytes_per_token)
        sizes = [self._estimate_row(row) for row in rows]
        totals, learned, prompts = map(list, zip(*sizes, strict=True))
        return RowSizes(totals, learned, prompts.__getitem__)

    def _estimate_texts(
        self, texts: Sequence[list[str]], size: Callable[[str], int], tokens_per_unit: float
    ) -> RowSizes:
        """Estimate from the texts of rows: system (or empty), user, assistant, user, assistant, ..."""
        totals, learned = [], []
        for row in texts:
            count = len(row)
            if count == 3:  # most rows of most files
                answers = size(row[2])
                total = size(row[0]) + size(row[1]) + answers
            else:
                sizes = [*map(size, row)]
                answers, total = sum(sizes[2::2]), sum(sizes)
            totals.append(int(total * tokens_per_unit) + MESSAGE_TOKENS * count)
            learned.append(int(answers * tokens_per_unit) + count // 2)

        def prompt(index: int) -> int:
            first_texts = texts[index][:2]
            return int(sum(map(size, first_texts)) * tokens_per_unit) + 2 * MESSAGE_TOKENS

        return RowSizes(totals, learned, prompt)

    def _estimate_row(self, row: Row) -> tuple[int, int, int]:
        """Return all tokens, the learned ones, and those before the first learned one."""
        prompt = total = learned = 0
        for message in row["messages"]:
            tokens = self.estimate_text(_message_text(message))
            is_learned = message.get("role") == "assistant" and message.get("weight", 1) != 0
            if is_learned and not learned:
                prompt = total + MESSAGE_TOKENS
            learned += is_learned * (tokens + 1)
            total += tokens + MESSAGE_TOKENS
        tools = round(_json_size(row["tools"]) / self.bytes_per_token) if row.get("tools") else 0
        return total + tools, learned, (prompt or total) + tools

    def estimate_text(self, text: str) -> int:
        """Return the estimate for one text."""
        return round(_byte_count(text) / self.bytes_per_token)


def _byte_count(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _json_size(value: Any) -> int:
    """Return how many bytes a JSON value takes with a space after each comma and colon."""
    try:
        data = msgspec.json.encode(value)
    except (ValueError, OverflowError, TypeError):  # lone surrogates, integers beyond 64 bits
        return _byte_count(str(value))
    return len(data) + data.count(b'":') + data.count(b',"') + data.count(b",{")


def _message_text(message: Row) -> str:
    content = message.get("content")
    parts = [content] if isinstance(content, str) else [str(content)] if content else []
    return " ".join(parts + [str(call) for call in message.get("tool_calls") or ()])


@dataclass(frozen=True, slots=True)
class ExactCounter:
    """Counts with a ``tokenizer.json`` the text that the model's template renders from a row.

    The counts are those of training: the whole text is tokenized once, and a token is learned if it
    begins inside an answer.
    """

    tokenizer: Tokenizer
    template: ChatTemplate
    name: str
    is_exact: bool = True

    def sizes(self, rows: Sequence[Row], texts: Sequence[list[str] | None]) -> RowSizes:
        """Return the sizes of rows; 0 for a row that the template cannot render."""
        segments = [self._segments(row) for row in rows]
        texts_to_encode = ["".join(part.text for part in parts) for parts in segments]
        encodings = self.tokenizer.encode_batch(texts_to_encode, add_special_tokens=False)
        counts = [
            _count_learned(parts, encoding.offsets)
            for parts, encoding in zip(segments, encodings, strict=True)
        ]
        return RowSizes(
            [len(encoding.ids) for encoding in encodings],
            [learned for learned, _ in counts],
            lambda index: counts[index][1],
        )

    def _segments(self, row: Row) -> list[Segment]:
        try:
            return render(row["messages"], row.get("tools"), self.template)
        except DatasetError:
            return []


def _count_learned(
    segments: Sequence[Segment], offsets: Sequence[tuple[int, int]]
) -> tuple[int, int]:
    """Return how many tokens are learned, and how many come before the first of them."""
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
    """Return a counter for a model: with its tokenizer if it is on this machine, else an estimate.

    Args:
        model: A model name or an asset URI; None: an estimate that fits no model in particular.
        tokenizer_path: A ``tokenizer.json``, or a folder with one. If left out, pulled bases and the
            Hugging Face cache are searched; nothing is downloaded.

    Raises:
        ConfigError: ``tokenizer_path`` has no tokenizer that can be read.
        MissingExtraError: ``tokenizer_path`` is given and the tokenizers package is not installed.
    """
    info = find_model(model, override=Settings.load().catalog_file()) if model else None
    if tokenizer_path is not None:
        file = Path(tokenizer_path).expanduser()
        file = file / "tokenizer.json" if file.is_dir() else file
        template = TEMPLATES[info.template] if info else None
        return _load_exact(file, template or _template_of_folder(file))
    if info and info.huggingface_id:
        for file in _local_tokenizers(info.huggingface_id):
            try:
                return _load_exact(file, TEMPLATES[info.template])
            except (MissingExtraError, ConfigError):
                break
    size = info.architecture.vocab_size if info and info.architecture else None
    if size is None:
        return EstimatedCounter()
    return EstimatedCounter(next(ratio for maximum, ratio in _BYTES_PER_TOKEN if size <= maximum))


def _load_exact(file: Path, template: ChatTemplate) -> ExactCounter:
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
    except Exception as error:  # the package raises bare Exception for everything it cannot read
        raise ConfigError(
            f"cannot read a tokenizer from {file}",
            hint="Name the model's folder, or its tokenizer.json.",
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return ExactCounter(tokenizer, template, str(file))


def _template_of_folder(file: Path) -> ChatTemplate:
    """Return the template of the model that the tokenizer's folder is named after."""
    folder = file.parent.name
    info = find_model(folder.replace("--", "/")) or find_model(folder.split("--")[-1])
    if info is None and "smollm2" in folder.lower():
        return TEMPLATES["smollm2"]
    if info is None:
        raise ConfigError(
            f"cannot tell which model the tokenizer {file} belongs to",
            hint=Text.format(
                "Set {} too: the model's template adds tokens around the messages.",
                Argument("model"),
            ),
        )
    return TEMPLATES[info.template]


def has_tokenizer(model: ModelInfo) -> bool:
    """Return whether a tokenizer of the model is on this machine, so that its tokens can be counted exactly."""
    hub_id = model.huggingface_id
    return hub_id is not None and any(True for _ in _local_tokenizers(hub_id))


def _local_tokenizers(hub_id: str) -> Iterator[Path]:
    """Yield the tokenizer files of a hub model on this machine."""
    settings = Settings.load()
    yield from _tokenizer_in(settings.cache_path() / hub_id.replace("/", "--"))
    home = Path(settings.hf_home or Path.home() / ".cache" / "huggingface").expanduser()
    snapshots = home / "hub" / f"models--{hub_id.replace('/', '--')}" / "snapshots"
    for folder in sorted(snapshots.glob("*")):
        yield from _tokenizer_in(folder)


def _tokenizer_in(folder: Path) -> Iterator[Path]:
    if (folder / "tokenizer.json").is_file():
        yield folder / "tokenizer.json"
