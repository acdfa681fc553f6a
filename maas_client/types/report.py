"""The report of ``validate``: files and problems, in the shape of ``--json`` (schemas/report.schema.json)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from maas_client.errors import DatasetError
from maas_client.types._api_model import FrozenModel, html_table

__all__ = ["FileReport", "Problem", "Severity", "ValidationReport"]

Severity = Literal["error", "warning"]
"""``error``: the target refuses the file or the row, or training on it would fail. ``warning``: check it."""
_HTML_PROBLEMS = 20
"""Problems in the table for notebooks."""


class Problem(FrozenModel):
    """One problem of a file: what is wrong, where, and what to do.

    Attributes:
        code: A stable name such as ``CHAT_ROLE_UNKNOWN``; its prefix is the group. Codes are never renamed.
            ``maas-client validate --explain CODE`` prints the explanation.
        severity: ``error`` or ``warning``. A report with an error is not ok.
        line: The line from 1; 0 if the problem is the file as a whole.
        column: The position in characters of the line from 1; 0 if the problem is the file as a whole.
        offset: The position in bytes from the start of the file.
        pointer: JSON pointer (RFC 6901) to the value within the line; empty for the line or the file.
        message: What is wrong. It never contains the text of a row.
        hint: What to do.
    """

    _REPR_FIELDS: ClassVar = ("code", "severity", "line", "column", "message")

    code: str
    severity: Severity
    line: int
    column: int
    offset: int
    pointer: str
    message: str
    hint: str


class FileReport(FrozenModel):
    """The report on one file. ``counts`` is complete; ``problems`` is limited per code and in total.

    Attributes:
        path: The file as it was named; ``<rows>`` for rows in memory.
        bytes: The size of the file; for a gzip or Parquet file and for rows, of the lines made from it.
        sha256: The SHA-256 of these bytes in lower-case hexadecimal; of nothing if they could not be read.
        lines: The number of lines as ``wc -l`` counts, plus one for a last line without a line feed.
        examples: The number of rows that the target would train on.
        ok: True if no problem has severity ``error``.
        counts: How often each code was found.
        problems: The located problems in the order of the file: the first of every code, then up to 25 of
            each code and about 2,000 in all. ``stats["not_shown"]`` counts the others.
        stats: Figures by name, among them ``tokens`` (totals, percentiles, histogram), ``billed_tokens``,
            ``service`` (what the target would do with the rows), ``duplicates``, ``suppressed``, ``notes``,
            and ``source`` for data that was converted to lines. Which ones there are depends on the options
            and on the file.
    """

    path: str
    bytes: int
    sha256: str
    lines: int
    examples: int
    ok: bool
    counts: dict[str, int] = Field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    stats: dict[str, Any] = Field(default_factory=dict)

    @property
    def unit(self) -> Literal["line", "row"]:
        """What the lines of the problems count: ``row`` for Parquet files and rows in memory."""
        return "row" if self.stats.get("source", {}).get("numbered_by") == "row" else "line"

    def _count(self, severity: Severity) -> int:
        """Return how many problems have a severity, including those that are not listed.

        The first problem of every code is always listed, and a code has one severity in a report.
        """
        codes = {problem.code for problem in self.problems if problem.severity == severity}
        return sum(self.counts.get(code, 0) for code in codes)

    def __str__(self) -> str:
        """Return the verdict, and the first problem of each code with what to do, errors first."""
        firsts: dict[str, Problem] = {}
        for problem in sorted(self.problems, key=lambda p: (p.severity, p.line == 0)):
            firsts.setdefault(problem.code, problem)
        path = self.path if self.path.isprintable() else repr(self.path)
        text = (
            f"{path}: {'valid' if self.ok else 'NOT VALID'}; {self.examples:,} of {self.lines:,} {self.unit}s "
            f"can be trained on; errors: {self._count('error'):,}, warnings: {self._count('warning'):,}"
        )
        for code, first in firsts.items():
            others = self.counts.get(code, 1) - 1
            place = f", {self.unit} {first.line:,}" if first.line else ""
            place += f" and {others:,} more" if others else ""
            text += f"\n  {first.severity} {code}{place}: {first.message.rstrip('.')}. {first.hint}"
        return text

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield "path", self.path
        yield "ok", self.ok
        yield "examples", self.examples
        yield "lines", self.lines
        yield "errors", self._count("error")
        yield "warnings", self._count("warning")


class ValidationReport(FrozenModel):
    """The report of one check. ``print`` shows verdict and problems, a notebook a table of files and problems.

    Attributes:
        ok: True if no problem of any file has severity ``error``.
        files: One report per file, in the order of the arguments; the validation file is the last.
        target: The target whose rules applied; not part of the JSON.
        model: The model whose rules applied, None if no model was given; not part of the JSON.
    """

    ok: bool
    files: tuple[FileReport, ...]
    target: str | None = Field(default=None, exclude=True)
    model: str | None = Field(default=None, exclude=True)

    def summary(self) -> Counter[str]:
        """Return how often each code was found in all files, also problems that are not listed.

        Returns:
            The counts by code, the most frequent code first.

        Example:
            >>> report = maas.validate("train.jsonl")
            >>> report.summary().most_common(1)
            [('CHAT_ROLE_UNKNOWN', 12)]
            >>> report.summary()["PII_EMAIL"]
            0
        """
        total: Counter[str] = Counter()
        for file in self.files:
            total.update(file.counts)
        return Counter(dict(total.most_common()))

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The listed problems of severity ``error``, file after file."""
        return tuple(p for f in self.files for p in f.problems if p.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The listed problems of severity ``warning``, file after file."""
        return tuple(p for f in self.files for p in f.problems if p.severity == "warning")

    def raise_if_invalid(self) -> None:
        """Raise an error unless the report is ok.

        Raises:
            DatasetError: A file has an error. ``error.report`` is this report.

        Example:
            >>> maas.validate("train.jsonl").raise_if_invalid()
        """
        if self.ok:
            return
        invalid = [file for file in self.files if not file.ok]
        errors = [(f.path, p) for f in invalid for p in f.problems if p.severity == "error"]
        # A problem of a line is more specific than one of the file as a whole.
        path, first = min(
            errors, key=lambda item: item[1].line == 0, default=(invalid[0].path, None)
        )
        unit = next(file.unit for file in invalid if file.path == path)
        location = path + (f", {unit} {first.line}" if first and first.line else "")
        message = f"{first.message} [{first.code}]" if first else "the file is not valid"
        other_errors = sum(file._count("error") for file in invalid) - 1
        raise DatasetError(
            f"{location}: {message}"
            + (f" (and {other_errors:,} more)" if other_errors > 0 else ""),
            report=self,
            hint=first.hint if first else None,
        )

    def __str__(self) -> str:
        """Return the verdict and the problems of every file, as ``print(report)`` shows them."""
        return "\n".join(map(str, self.files))

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield "ok", self.ok
        yield "errors", sum(file._count("error") for file in self.files)
        yield "warnings", sum(file._count("warning") for file in self.files)
        yield "files", [file.path for file in self.files[:2]]
        if len(self.files) > 2:
            yield "more_files", len(self.files) - 2

    def _repr_html_(self) -> str:
        files = [
            (
                file.path,
                "ok" if file.ok else "not valid",
                f"{file.examples:,}",
                f"{file.lines:,}",
                f"{file._count('error'):,}",
                f"{file._count('warning'):,}",
            )
            for file in self.files
        ]
        problems = [
            (file.path, str(p.line or ""), p.severity, p.code, f"{p.message}. {p.hint}")
            for severity in ("error", "warning")
            for file in self.files
            for p in file.problems
            if p.severity == severity
        ]
        html = html_table(files, head=("file", "", "examples", "lines", "errors", "warnings"))
        if problems:
            listed = problems[:_HTML_PROBLEMS]
            html += html_table(listed, head=("file", "line", "severity", "code", "problem"))
        if len(problems) > _HTML_PROBLEMS:
            html += (
                f"<p>{len(problems) - _HTML_PROBLEMS:,} more problems are listed in the report.</p>"
            )
        return html
