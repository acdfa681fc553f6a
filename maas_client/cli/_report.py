"""A report on data sets, drawn: for a terminal, for a pipe, for GitHub.

Only the terminal, which is the person's own, shows the line a problem is in, secrets covered.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from maas_client.dataset.report.collector import first_per_code
from maas_client.dataset.rules.service import describe_prediction
from maas_client.dataset.scanners.secrets import mask_secrets
from maas_client.types.report import FileReport, Problem, ValidationReport

if TYPE_CHECKING:
    from rich.text import Text

_AROUND = 36
"""Characters shown on either side of a problem's place."""
_READ_BYTES = 8192
"""Read on either side of it: enough to tell a secret that begins or ends out of sight."""
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)")
_PAUSE = re.compile(r"""[\s"']""")
_BLOCKS = " ▁▂▃▄▅▆▇█"
_SHOWN_AFTER_S = 1.0
_PER_CODE = 5
"""Problems of one code that are drawn; a screen is for reading."""


def text_lines(report: ValidationReport, *, quiet: bool = False) -> Iterator[str]:
    """Yield a line per problem, ``PATH:LINE:COLUMN: SEVERITY CODE MESSAGE``, and a line per file."""
    for file in report.files:
        problems = first_per_code(file.problems)
        for problem in problems:
            place = f":{problem.line}:{problem.column}" if problem.line else ""
            said = f"{problem.severity} {problem.code} {problem.message}. {problem.hint}"
            yield f"{_name(file)}{place}: {said}"
        yield from (f"{_name(file)}: {text}" for text in _unlisted(file, problems))
        if not (quiet and file.ok and not file.problems):
            yield f"{_name(file)}: {_verdict(file)}"


def _name(file: FileReport) -> str:
    """Return a file's path as text that cannot move the cursor, or begin a line of its own."""
    return _visible(file.path)


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _unlisted(file: FileReport, problems: Sequence[Problem]) -> Iterator[str]:
    """Yield a sentence for each code of which fewer problems are listed than there are."""
    listed = Counter(problem.code for problem in problems)
    for code, number in file.counts.items():
        if number > listed[code]:
            yield f"... and {number - listed[code]:,} more of {code}"


def github_annotations(report: ValidationReport) -> Iterator[str]:
    """Yield workflow commands by which GitHub shows each problem at its line."""
    for file in report.files:
        for problem in first_per_code(file.problems):
            place = f",line={problem.line},col={problem.column}" if problem.line else ""
            head = f"::{problem.severity} file={_property(_name(file))}{place},title={problem.code}"
            yield f"{head}::{_data(f'{problem.message}. {problem.hint}')}"
        yield f"{_name(file)}: {_verdict(file)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _verdict(file: FileReport) -> str:
    """Return one sentence on a file: how much of it there is, and what was found."""
    errors = sum(n for code, n in file.counts.items() if _is_error(file, code))
    warnings = sum(file.counts.values()) - errors
    size = f"{file.examples:,} of {file.lines:,} lines can be trained on, {_size(file.bytes)}"
    found = [_times(errors, "error"), _times(warnings, "warning")]
    hidden = sum(file.stats.get("suppressed", {}).values())
    found += [f"{hidden:,} ignored"] if hidden else []
    return f"{'valid' if file.ok else 'NOT VALID'}; {size}; {', '.join(found)}"


def _is_error(file: FileReport, code: str) -> bool:
    return any(p.severity == "error" for p in file.problems if p.code == code)


def _times(count: int, what: str) -> str:
    return f"{count or 'no':{',' if count else ''}} {what}{'' if count == 1 else 's'}"


def _size(count: int) -> str:
    for unit, size in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def print_report(
    report: ValidationReport, *, quiet: bool = False, copy_paths: Mapping[str, str] | None = None
) -> None:
    """Draw a report on the terminal, with the lines the problems are in.

    ``copies``: where the bytes lie of what has no file, by its name.
    """
    from rich.console import Console

    console = Console(highlight=False)
    for file in report.files:
        if quiet and file.ok and not file.problems:
            continue
        drawn: set[str] = set()
        for problem in first_per_code(file.problems, _PER_CODE):
            excerpt = _excerpt((copy_paths or {}).get(file.path, file.path), problem)
            console.print(_drawn(problem, excerpt, hint=problem.code not in drawn))
            drawn.add(problem.code)
        console.print(_summary(file))


def _drawn(problem: Problem, excerpt: tuple[str, int] | None, *, hint: bool) -> Text:
    from rich.text import Text

    colour = "red" if problem.severity == "error" else "yellow"
    place = f"line {problem.line}, column {problem.column}" if problem.line else "file"
    text = Text.assemble(
        (f"{problem.severity}", f"bold {colour}"), f" {problem.code} ", (place, "dim")
    )
    if problem.pointer:
        text.append(f"  {_visible(problem.pointer)}", "dim")
    if excerpt:
        shown, at = excerpt
        text.append(f"\n    {shown}\n    {' ' * at}")
        text.append("^", f"bold {colour}")
    text.append(f"\n    {problem.message}")
    if hint:
        text.append(f"\n    {problem.hint}", "cyan")
    text.append("\n")
    return text


def _excerpt(path: str, problem: Problem) -> tuple[str, int] | None:
    """Return a piece of the line around the place, and how far in the place is, in cells."""
    from rich.cells import cell_len

    if not problem.line or problem.code.startswith("PII_"):
        return None
    start = max(0, problem.offset - _READ_BYTES)
    try:
        with open(path, "rb") as file:
            file.seek(start)
            data = file.read(problem.offset - start + _READ_BYTES)
    except OSError:
        return None
    at = problem.offset - start
    begin = data.rfind(b"\n", 0, at) + 1
    end = data.find(b"\n", at)
    before = _printable(data[begin:at])
    after = _printable(data[at : len(data) if end < 0 else end])
    before, after = _covered(before, after, problem)
    cut_left = "…" if len(before) > _AROUND or begin == 0 < start else ""
    cut_right = "…" if len(after) > _AROUND else ""
    before = cut_left + before[-_AROUND:]
    return before + after[:_AROUND] + cut_right, cell_len(before)


def _covered(before: str, after: str, problem: Problem) -> tuple[str, str]:
    """Cover every secret in a line, whatever the problem is: screens are shared and filmed."""
    whole = mask_secrets(before + after)
    spaced = _ESCAPE.sub(lambda escape: " " * len(escape[0]), whole)  # the n of \n is no letter
    whole = "".join(c if s != "•" else s for c, s in zip(whole, mask_secrets(spaced), strict=True))
    before, after = whole[: len(before)], whole[len(before) :]
    if problem.code.startswith("SECRET_"):  # also one that is longer than what was read
        rest = after.lstrip("•")
        stop = _PAUSE.search(rest)
        kept = rest[stop.start() :] if stop else ""
        after = "•" * (len(after) - len(kept)) + kept
    return before, after


def _printable(data: bytes) -> str:
    """Return bytes as text that cannot move the cursor or change a colour."""
    text = data.decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "·" for c in text)


def _summary(file: FileReport) -> Text:
    from rich.text import Text

    text = Text()
    text.append(_name(file), "bold")
    text.append("  " + _verdict(file), "green" if file.ok else "bold red")
    for code, count in file.counts.items():
        rest = f" ({_PER_CODE} of them above; --json has more)" if count > _PER_CODE else ""
        text.append(f"\n    {count:>7,} {code}{rest}", "red" if _is_error(file, code) else "yellow")
    for line in _figures(file):
        text.append(f"\n    {line}", "dim")
    return text


def _figures(file: FileReport) -> Iterator[str]:
    """Yield what the figures say: the service's view, tokens with their histogram, notes."""
    stats = file.stats
    if service := stats.get("service"):
        yield f"{describe_prediction(file)}; route: {service['route']}"
        if split := service.get("validation_split"):
            yield (
                f"of these the last {split['rows']:,} would be cut off for validation "
                "(maas-client datasets split makes a shuffled file instead)"
            )
    yield from _tokens(stats.get("tokens"))
    if billed := stats.get("billed_tokens"):
        epochs = f"{billed['epochs']:g} epoch{'' if billed['epochs'] == 1 else 's'}"
        alone = ", rows without errors alone" if service and service["rows_with_errors"] else ""
        yield f"billed would be about {billed['likely']:,} tokens ({epochs}{alone})"
    for said in stats.get("notes", ()):
        yield f"note: {said}"


def _tokens(tokens: Any) -> Iterator[str]:
    if not isinstance(tokens, dict):
        return
    about = "" if tokens["exact"] else "about "
    yield (
        f"{about}{tokens['total']:,} tokens, {tokens['learned']:,} of them learned "
        f"({tokens['counted_by']})"
    )
    row = tokens["per_row"]
    yield (
        f"tokens per row: {row['p50']:,} in the middle, {row['p95']:,} at 95 %, {row['max']:,} at most"
    )
    if tokens.get("rows_over_limit"):
        yield f"{tokens['rows_over_limit']:,} rows over the model's {tokens['row_limit']:,}"
    if bars := tokens.get("histogram"):
        most = max(bar["rows"] for bar in bars)
        drawn = "".join(_bar_of(bar["rows"], most) for bar in bars)
        yield f"{bars[0]['from']:,} {drawn} {bars[-1]['to']:,}"


def _bar_of(rows: int, most: int) -> str:
    """Return one bar; a bar with any rows is seen."""
    return _BLOCKS[max(1, round(rows / most * (len(_BLOCKS) - 1)))] if rows else _BLOCKS[0]


class ProgressBar:
    """A progress bar with rate and remaining time, drawn once a check lasts over a second."""

    def __init__(self, *, total: int, visible: bool) -> None:
        self._total = total
        self._since = time.monotonic()
        self._wanted = visible
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def update(self, done: int, total: int) -> None:
        """Show how many bytes of the file at hand are read."""
        if not self._wanted or time.monotonic() - self._since < _SHOWN_AFTER_S:
            return
        if self._bar is None:
            self._bar = _bar()
            self._task = self._bar.add_task("checking", total=total)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
