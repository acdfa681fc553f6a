"""Constrained decoding: the tokens that a JSON schema allows next (llguidance).

The grammar decides which tokens are possible; the model chooses among them. An answer that comes near its
limit is led to its end: strings, lists and objects are closed wherever the schema allows it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - runs in the answering process, which loads torch

from maas_client.chat.json_example import build_example
from maas_client.chat.output_schema import OutputSchemaError
from maas_client.local.generate.protocol import GenerationError

_CLOSE_AFTER = 512
"""Tokens after which an answer is led to its end, if its limit is not lower."""
_SPARE_TOKENS = 16
"""Tokens kept for the end of an answer, in addition to those of a short answer."""
_WHITESPACE = " ?"
"""Optional space between JSON tokens, so that a model cannot write whitespace without an end."""


class GrammarCompiler:
    """Compiles JSON schemas for one tokenizer."""

    def __init__(self, folder: Path, vocabulary: int, end_token_ids: Iterable[int]) -> None:
        try:
            import llguidance
        except ImportError:
            raise GenerationError(
                "not_implemented",
                "JSON answers and tool choices need llguidance, which is not installed. Install it with:"
                " pip install 'maas-client[local]'",
            ) from None
        self._llguidance = llguidance
        self.tokenizer = llguidance.LLTokenizer(
            str(folder / "tokenizer.json"),
            n_vocab=vocabulary,
            eos_token=sorted(end_token_ids) or None,
        )
        self.closing_ids = {text: self._single_token(text) for text in '"}],'}

    def _single_token(self, text: str) -> int | None:
        ids = self.tokenizer.tokenize_str(text)
        return ids[0] if len(ids) == 1 else None

    def compile(self, schema: Mapping[str, Any], max_tokens: int) -> JsonConstraint:
        """Return the constraint of one answer. Raises ``GenerationError`` for what is not implemented."""
        try:
            grammar = self._llguidance.LLMatcher.grammar_from_json_schema(
                json.dumps(schema), overrides={"whitespace_pattern": _WHITESPACE}
            )
        except ValueError as error:
            raise GenerationError(
                "not_implemented", f"The schema cannot be enforced: {str(error)[:300]}"
            ) from None
        matcher = self._llguidance.LLMatcher(self.tokenizer, grammar, log_level=0)
        problems = [matcher.get_error(), *matcher.get_grammar_warnings()]
        matcher.compute_logit_bias()  # for the first token; a schema that only names itself has none
        if not any(problems) and matcher.is_stopped():
            problems = ["no answer fits it"]
        if any(problems):
            text = next(problem for problem in problems if problem).splitlines()[0]
            raise GenerationError("not_implemented", f"The schema cannot be enforced: {text[:300]}")
        close_at = max(0, max_tokens - self._short_answer_tokens(schema) * 3 // 2 - _SPARE_TOKENS)
        return JsonConstraint(self, matcher, min(close_at, _CLOSE_AFTER))

    def _short_answer_tokens(self, schema: Mapping[str, Any]) -> int:
        """Return the number of tokens of an answer with short strings, or an estimate from above."""
        try:
            text = json.dumps(build_example(schema, ""))
        except OutputSchemaError:
            text = json.dumps(schema)
        return len(self.tokenizer.tokenize_str(text))


class JsonConstraint:
    """The state of one answer in its grammar."""

    def __init__(self, compiler: GrammarCompiler, matcher: Any, close_at: int) -> None:
        self._compiler = compiler
        self._matcher = matcher
        self._close_at = close_at
        self._count = 0
        self._in_string = False
        self._is_escaped = False

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Return ``logits`` (vocabulary,) with -inf for every token that is not allowed next."""
        allowed = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8)
        allowed = allowed.to(logits.device) > 0
        if self._count >= self._close_at and not self._is_escaped:
            closing = next((token for token in self._closing_ids() if allowed[token]), None)
            if closing is not None:
                allowed = torch.zeros_like(allowed)
                allowed[closing] = True
        return logits.masked_fill(~allowed[: len(logits)], float("-inf"))

    def _closing_ids(self) -> list[int]:
        """Return the tokens that lead to the end of the answer, the best first."""
        if self._matcher.is_accepting():
            return list(self._compiler.tokenizer.eos_tokens)
        ids = (self._compiler.closing_ids[text] for text in ('"' if self._in_string else '}],"'))
        return [token for token in ids if token is not None]

    def accept(self, token: int) -> bool:
        """Advance by a token; return whether the answer is complete."""
        self.accept_bytes([token], self._compiler.tokenizer.decode_bytes([token]))
        return bool(self._matcher.is_stopped())

    def accept_text(self, text: str) -> bool:
        """Advance by text that was decoded without the constraint; return whether it is allowed."""
        tokens = self._compiler.tokenizer.tokenize_str(text)
        return not tokens or self.accept_bytes(tokens, text.encode())

    def accept_bytes(self, tokens: list[int], data: bytes) -> bool:
        """Advance by tokens and the bytes that they stand for; return whether they are allowed."""
        self._count += len(tokens)
        for byte in data:
            if self._is_escaped:
                self._is_escaped = False
            elif byte == ord('"'):
                self._in_string = not self._in_string
            else:
                self._is_escaped = self._in_string and byte == ord("\\")
        return bool(self._matcher.consume_tokens(tokens))
