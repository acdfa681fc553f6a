"""What ``validate`` found. The shape of ``--json`` (schemas/report.schema.json)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from maas_client.errors import DatasetError

Severity = Literal["error", "warning"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class Problem(_Part):
    """One thing that is wrong, and where."""

    code: str
    """Stable, e.g. ``CHAT_ROLE_UNKNOWN``; the prefix groups it. Never renamed once released."""
    severity: Severity
    line: int
    """From 1; 0 where the problem is the file as a whole."""
    column: int
    """In characters of the line, from 1; 0 where there is no place within the line."""
    offset: int
    """In bytes from the start of the file."""
    pointer: str
    """JSON pointer (RFC 6901) within the line's value; empty for the line or the file itself."""
    message: str
    hint: str


class FileReport(_Part):
    """One file. ``counts`` is complete; ``problems`` stops at a cap per code and in all."""

    path: str
    bytes: int
    sha256: str
    lines: int
    """As ``wc -l`` counts, plus one for a last line without a line feed."""
    examples: int
    """Rows that the target would train on."""
    ok: bool
    counts: dict[str, int] = Field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    stats: dict[str, Any] = Field(default_factory=dict)
    """Tokens, histogram, duplicates, what was suppressed, what the service would do, ..."""


class ValidationReport(_Part):
    """All files of one check. ``ok`` means: no problem of severity ``error`` in any of them."""

    ok: bool
    files: tuple[FileReport, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems of severity ``error``, file after file."""
        return tuple(p for f in self.files for p in f.problems if p.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The problems of severity ``warning``, file after file."""
        return tuple(p for f in self.files for p in f.problems if p.severity == "warning")

    def raise_if_invalid(self) -> None:
        """Raise ``DatasetError`` carrying this report, unless it is ok."""
        if self.ok:
            return
        bad = [f for f in self.files if not f.ok]
        wrong = [(f.path, p) for f in bad for p in f.problems if p.severity == "error"]
        # What is said of a line says more than what is said of the file.
        path, first = min(wrong, key=lambda found: found[1].line == 0, default=(bad[0].path, None))
        place = path + (f", line {first.line}" if first and first.line else "")
        said = f"{first.message} [{first.code}]" if first else "the file is not valid"
        kinds = [{p.code for p in f.problems if p.severity == "error"} for f in bad]
        more = (
            sum(f.counts.get(c, 0) for f, codes in zip(bad, kinds, strict=True) for c in codes) - 1
        )
        raise DatasetError(
            f"{place}: {said}" + (f" (and {more:,} more)" if more > 0 else ""),
            report=self,
            hint=first.hint if first else None,
        )
