"""Print a validation report: a summary of one screen (24 lines of 80 columns), or every problem.

The summary has one block per code, errors first, the verdict last. Every problem is printed for a terminal, for
a pipe or for GitHub. Only the terminal shows the line that a problem is in, with secrets masked.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from maas_client.cli._messages import name_file
from maas_client.dataset.report import first_per_code
from maas_client.dataset.rules.service import describe_prediction
from maas_client.dataset.scanners.secrets import mask_secrets
from maas_client.types.report import FileReport, Problem, ValidationReport

if TYPE_CHECKING:
    from rich.text import Text

import textwrap
from itertools import groupby

_EXCERPT_CHARS = 36
"""Characters shown on either side of a problem."""
_READ_BYTES = 8192
"""Bytes read on either side: enough to recognize a secret that is only partly shown."""
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)")
_SEPARATOR = re.compile(r"""[\s"']""")
_BLOCKS = " ▁▂▃▄▅▆▇█"
_DELAY_S = 1.0


def name_files(report: ValidationReport) -> ValidationReport:
    """Return the report with hints whose commands name its files, for people; JSON keeps ``FILE``."""
    return report.model_copy(
        update={
            "files": tuple(
                file.model_copy(
                    update={
                        "problems": tuple(
                            problem.model_copy(update={"hint": name_file(problem.hint, file.path)})
                            if "FILE" in problem.hint
                            else problem
                            for problem in file.problems
                        )
                    }
                )
                for file in report.files
            )
        }
    )


def text_lines(report: ValidationReport, *, quiet: bool = False) -> Iterator[str]:
    """Yield a line per problem, ``PATH:LINE:COLUMN: SEVERITY CODE MESSAGE``, and a line per file."""
    for file in report.files:
        for problem in errors_first(file.problems):
            text = f"{problem.severity} {problem.code} {problem.message}. {problem.hint}"
            yield f"{_place(file, problem)}: {text}"
        yield from (f"{_name(file)}: {text}" for text in _describe_unlisted(file, file.problems))
        if not (quiet and file.ok and not file.problems):
            yield f"{_name(file)}: {verdict(file)}"


def errors_first(problems: Sequence[Problem]) -> list[Problem]:
    """Return the errors, then the warnings, each in the order of the file."""
    return sorted(problems, key=lambda problem: problem.severity)


def _place(file: FileReport, problem: Problem) -> str:
    if not problem.line:
        return _name(file)
    if file.unit == "row":
        return f"{_name(file)}: row {problem.line}"
    return f"{_name(file)}:{problem.line}:{problem.column}"


def _name(file: FileReport) -> str:
    """Return a file's path with control characters escaped."""
    return escape_unprintable(file.path)


def escape_unprintable(text: str) -> str:
    """Return a text with control characters as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _describe_unlisted(file: FileReport, problems: Sequence[Problem]) -> Iterator[str]:
    """Yield a line for each code that has more problems than are listed."""
    listed = Counter(problem.code for problem in problems)
    for code, count in file.counts.items():
        if count > listed[code]:
            yield f"... and {count - listed[code]:,} more of {code}"


def github_annotations(report: ValidationReport) -> Iterator[str]:
    """Yield GitHub workflow commands, which show each problem at its line."""
    for file in report.files:
        for problem in first_per_code(file.problems):
            has_line = problem.line and file.unit == "line"
            position = f",line={problem.line},col={problem.column}" if has_line else ""
            row = f"row {problem.line}: " if problem.line and not has_line else ""
            path = _escape_property(_name(file))
            command = f"::{problem.severity} file={path}{position},title={problem.code}"
            yield f"{command}::{_escape_data(f'{row}{problem.message}. {problem.hint}')}"
        yield f"{_name(file)}: {verdict(file)}"


def _escape_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_data(text).replace(":", "%3A").replace(",", "%2C")


def verdict(file: FileReport) -> str:
    """Return one line about a file: whether it is valid, its size, and its numbers of problems."""
    if "FILE_NOT_FOUND" in file.counts:
        return "NOT VALID; there is no such file"
    errors = sum(n for code, n in file.counts.items() if _is_error(file, code))
    warnings = sum(file.counts.values()) - errors
    clean = file.examples - file.stats.get("service", {}).get("rows_with_content_errors", 0)
    only_file_errors = not file.ok and clean == file.lines > 0
    usable = "have no errors of their own" if only_file_errors else "can be trained on"
    size = f"{clean:,} of {file.lines:,} {file.unit}s {usable}, {_format_size(file.bytes)}"
    counts = [_count(errors, "error"), _count(warnings, "warning")]
    ignored = sum(file.stats.get("suppressed", {}).values())
    counts += [f"{ignored:,} ignored"] if ignored else []
    return f"{'valid' if file.ok else 'NOT VALID'}; {size}; {', '.join(counts)}"


def _is_error(file: FileReport, code: str) -> bool:
    return any(p.severity == "error" for p in file.problems if p.code == code)


def _count(count: int, unit: str) -> str:
    return f"{count or 'no':{',' if count else ''}} {unit}{'' if count == 1 else 's'}"


def _format_size(size: int) -> str:
    for unit, factor in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def print_report(
    report: ValidationReport, *, quiet: bool = False, copy_paths: Mapping[str, str] | None = None
) -> None:
    """Print a report on the terminal, with the lines that the problems are in.

    ``copy_paths``: the path of the copy of each stream, by the stream's name.
    """
    from rich.console import Console

    console = Console(highlight=False)
    for file in report.files:
        if quiet and file.ok and not file.problems:
            continue
        hinted: set[str] = set()
        for problem in errors_first(file.problems):
            path = (copy_paths or {}).get(file.path, file.path)
            excerpt = None if "source" in file.stats else _excerpt(path, problem)
            hint = problem.hint if problem.hint not in hinted else ""
            console.print(_format_problem(file, problem, excerpt, hint))
            hinted.add(problem.hint)
        console.print(_summary(file))


def _format_problem(
    file: FileReport, problem: Problem, excerpt: tuple[str, int] | None, hint: str
) -> Text:
    from rich.text import Text

    colour = "red" if problem.severity == "error" else "yellow"
    position = f"{file.unit} {problem.line}" if problem.line else "file"
    if problem.line and file.unit == "line":
        position += f", column {problem.column}"
    text = Text.assemble(
        (f"{problem.severity}", f"bold {colour}"), f" {problem.code} ", (position, "dim")
    )
    if problem.pointer:
        text.append(f"  {escape_unprintable(problem.pointer)}", "dim")
    if excerpt:
        line, column = excerpt
        text.append(f"\n    {line}\n    {' ' * column}")
        text.append("^", f"bold {colour}")
    text.append(f"\n    {problem.message}")
    if hint:
        text.append(f"\n    {hint}", "cyan")
    text.append("\n")
    return text


def _excerpt(path: str, problem: Problem) -> tuple[str, int] | None:
    """Return the part of the line around a problem, and the problem's column in it, in cells."""
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
    index = problem.offset - start
    line_start = data.rfind(b"\n", 0, index) + 1
    line_end = data.find(b"\n", index)
    before = _printable(data[line_start:index])
    after = _printable(data[index : len(data) if line_end < 0 else line_end])
    before, after = _mask(before, after, problem)
    start_mark = "…" if len(before) > _EXCERPT_CHARS or line_start == 0 < start else ""
    end_mark = "…" if len(after) > _EXCERPT_CHARS else ""
    before = start_mark + before[-_EXCERPT_CHARS:]
    return before + after[:_EXCERPT_CHARS] + end_mark, cell_len(before)


def _mask(before: str, after: str, problem: Problem) -> tuple[str, str]:
    """Mask every secret in a line, whatever the problem is, because screens are shared and recorded."""
    line = mask_secrets(before + after)
    # JSON escapes are blanked for a second pass: the n of \n is not part of a word.
    blanked = _ESCAPE.sub(lambda escape: " " * len(escape[0]), line)
    masked = mask_secrets(blanked)
    line = "".join("•" if m == "•" else c for c, m in zip(line, masked, strict=True))
    before, after = line[: len(before)], line[len(before) :]
    if problem.code.startswith("SECRET_"):  # also a secret that is longer than what was read
        unmasked = after.lstrip("•")
        separator = _SEPARATOR.search(unmasked)
        tail = unmasked[separator.start() :] if separator else ""
        after = "•" * (len(after) - len(tail)) + tail
    return before, after


def _printable(data: bytes) -> str:
    """Decode bytes, with a dot for each character that is not printable."""
    text = data.decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "·" for c in text)


def _summary(file: FileReport) -> Text:
    from rich.text import Text

    text = Text()
    text.append(_name(file), "bold")
    text.append("  " + verdict(file), "green" if file.ok else "bold red")
    for code, count in file.counts.items():
        text.append(f"\n    {count:>7,} {code}", "red" if _is_error(file, code) else "yellow")
    for line in describe_stats(file):
        text.append(f"\n    {line}", "dim")
    return text


def describe_stats(file: FileReport) -> Iterator[str]:
    """Yield lines about the statistics: the service's view, tokens with a histogram, notes."""
    stats = file.stats
    if service := stats.get("service"):
        yield f"{describe_prediction(file)}; route: {service['route']}"
        if split := service.get("validation_split"):
            yield (
                f"the service would use the last {split['rows']:,} of these rows for validation "
                "(maas-client datasets split writes a shuffled validation file)"
            )
    yield from _describe_tokens(stats.get("tokens"))
    if text := _describe_billing(file):
        yield text
    for note in stats.get("notes", ()):
        yield f"note: {note}"


def _describe_billing(file: FileReport) -> str:
    billed, service = file.stats.get("billed_tokens"), file.stats.get("service")
    if not billed:
        return ""
    epochs = f"{billed['epochs']:g} epoch{'' if billed['epochs'] == 1 else 's'}"
    scope = ", only rows without errors" if service and service["rows_with_errors"] else ""
    return f"about {billed['likely']:,} billed tokens ({epochs}{scope})"


def _describe_tokens(tokens: Any) -> Iterator[str]:
    if not isinstance(tokens, dict):
        return
    about = "" if tokens["exact"] else "about "
    yield (
        f"{about}{tokens['total']:,} tokens, {tokens['learned']:,} of them trained on "
        f"({tokens['counted_by']})"
    )
    row = tokens["per_row"]
    yield (
        f"tokens per row: median {row['p50']:,}, 95th percentile {row['p95']:,}, maximum {row['max']:,}"
    )
    if tokens.get("rows_over_limit"):
        limit = f"the model's limit of {tokens['row_limit']:,} tokens"
        yield f"{tokens['rows_over_limit']:,} rows longer than {limit}"
    if bars := tokens.get("histogram"):
        highest = max(bar["rows"] for bar in bars)
        histogram = "".join(_histogram_bar(bar["rows"], highest) for bar in bars)
        yield f"{bars[0]['from']:,} {histogram} {bars[-1]['to']:,}"


def _histogram_bar(rows: int, highest: int) -> str:
    """Return one bar; it is visible unless it has no rows."""
    return _BLOCKS[max(1, round(rows / highest * (len(_BLOCKS) - 1)))] if rows else _BLOCKS[0]


class ProgressBar:
    """A progress bar with rate and remaining time, shown after one second."""

    def __init__(self, *, total: int, visible: bool) -> None:
        self._total = total
        self._start = time.monotonic()
        self._visible = visible
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def update(self, bytes_read: int, total: int) -> None:
        """Show how many bytes of the current file have been read."""
        if not self._visible or time.monotonic() - self._start < _DELAY_S:
            return
        if self._bar is None:
            self._bar = _create_bar()
            self._task = self._bar.add_task("checking", total=total)
            self._bar.start()
        self._bar.update(self._task, completed=bytes_read, total=total)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _create_bar() -> Any:
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


_WIDTH = 80
_SCREEN_LINES = 24
_INDENT = "  "
_MAX_TEXT_LINES = 3
"""Lines of a code's message and hint."""
_MAX_PLACES = 8
_HELP = "--explain CODE explains a code"
Line = tuple[str, str]
"""A style and a line of text. The style is empty, dim, or a colour."""


def print_summary(report: ValidationReport, *, quiet: bool, terminal: bool) -> None:
    """Print the summary on stdout; with colours and figures if it is a terminal."""
    files = [file for file in report.files if not (quiet and file.ok and not file.problems)]
    for number, file in enumerate(files):
        if number and (file.problems or files[number - 1].problems):
            print()
        lines = list(summary_lines(file, figures=terminal))
        if terminal:
            _print_colours(lines)
        else:
            print("\n".join(text for _, text in lines))


def summary_lines(file: FileReport, *, figures: bool) -> Iterator[Line]:
    """Yield the summary of one file.

    Args:
        file: The report.
        figures: Also yield tokens and what the service does, as far as the screen has room. False: there
            is no screen: of these only the billed tokens, and at least the first sentence of each code's hint.
    """
    groups = _group(file.problems)
    ending = _ending(file)
    room = _SCREEN_LINES - len(ending) - 1
    problem_lines = list(_problem_lines(file, groups, room, whole_hints=not figures))
    yield from problem_lines
    is_cut = len(problem_lines) < sum(1 + len(_wrap(_describe(g[0]), _INDENT)) for g in groups)
    if figures:
        room = _SCREEN_LINES - len(ending) - len(problem_lines) - bool(groups)
        for text in describe_stats(file):
            wrapped = _wrap(text, "", 2)
            room -= len(wrapped)
            if room >= 0:
                yield from (("dim", line) for line in wrapped)
    elif file.ok and (text := _describe_billing(file)):
        yield "", text
    if groups and "FILE_NOT_FOUND" not in file.counts:
        has_more = is_cut or sum(file.counts.values()) > len(groups)
        yield "dim", f"--all prints every problem; {_HELP}" if has_more else _HELP
    yield from (("bold green" if file.ok else "bold red", line) for line in ending)


def _ending(file: FileReport) -> list[str]:
    """Return path and verdict, in lines that break at a semicolon."""
    parts = [f"{_shorten(escape_unprintable(file.path))}:"]
    parts += re.split(r"(?<=;) ", verdict(file))
    lines = parts[:1]
    for part in parts[1:]:
        if len(lines[-1]) + 1 + len(part) <= _WIDTH:
            lines[-1] += f" {part}"
        else:
            lines.append(f"{_INDENT}{part}")
    return lines


def _group(problems: Sequence[Problem]) -> list[list[Problem]]:
    """Return the problems of each code: errors first, in the order of the file, the file as a whole last."""
    ordered = sorted(problems, key=lambda p: (p.severity, p.code))
    groups = [list(group) for _, group in groupby(ordered, key=lambda p: (p.severity, p.code))]
    return sorted(groups, key=lambda group: (group[0].severity, group[0].line == 0, group[0].line))


def _problem_lines(
    file: FileReport, groups: list[list[Problem]], room: int, *, whole_hints: bool
) -> Iterator[Line]:
    """Yield heading and text of each code in ``room`` lines, but at least what to do if ``whole_hints``."""
    texts = [_wrap(_describe(group[0]), _INDENT, _MAX_TEXT_LINES) for group in groups]
    needed = [len(_wrap(_first_step(group[0]), _INDENT)) if whole_hints else 0 for group in groups]
    optional = [len(text) - lines for text, lines in zip(texts, needed, strict=True)]
    added = _allocate_lines(optional, room - len(groups) - sum(needed))
    limits = [sum(lines) for lines in zip(needed, added, strict=True)]
    for group, limit in zip(groups, limits, strict=True):
        yield ("bold red" if group[0].severity == "error" else "bold yellow"), _heading(file, group)
        if limit:
            yield from (("", line) for line in _fit(group[0], limit))


def _allocate_lines(line_counts: Sequence[int], room: int) -> list[int]:
    """Return how many lines each text gets: one for every text, then a second, as far as there is room."""
    allocated = [0] * len(line_counts)
    for _ in range(max(line_counts, default=0)):
        for index, lines in enumerate(line_counts):
            if allocated[index] < lines and room > 0:
                allocated[index] += 1
                room -= 1
    return allocated


def _heading(file: FileReport, group: Sequence[Problem]) -> str:
    """Return severity, code, count and the first places: several problems in one row are one place."""
    first = group[0]
    count = file.counts.get(first.code, len(group))
    heading = f"{first.severity} {first.code}"
    places = [f"{number:,}" for number in Counter(p.line for p in group) if number]
    if not places:
        return heading if count == 1 else f"{heading}: {count:,} times"
    unlisted = count > len(group)
    unit = file.unit if len(places) == 1 and not unlisted else f"{file.unit}s"
    heading += f": {count:,} times, {unit} " if count > 1 else f": {unit} "
    listed = places[:_MAX_PLACES]
    while True:
        suffix = ", ..." if unlisted or len(listed) < len(places) else ""
        text = heading + ", ".join(listed) + suffix
        if len(text) <= _WIDTH or len(listed) == 1:
            return text
        listed.pop()


def _describe(problem: Problem) -> str:
    message = problem.message.rstrip(".")
    return escape_unprintable(f"{message}. {problem.hint}")


def _first_step(problem: Problem) -> str:
    """Return the first sentence of what to do."""
    return escape_unprintable(re.split(r"(?<=\.) (?=[A-Z])", problem.hint, maxsplit=1)[0])


def _fit(problem: Problem, limit: int) -> list[str]:
    """Return the text of a problem in at most ``limit`` lines, if possible with a whole first step."""
    step = _first_step(problem)
    message = escape_unprintable(problem.message.rstrip("."))
    for text in (_describe(problem), f"{message}. {step}", step):
        lines = _wrap(text, _INDENT)
        if len(lines) <= limit:
            return lines
    return _wrap(_describe(problem), _INDENT, limit)


def _wrap(text: str, indent: str, limit: int | None = None) -> list[str]:
    """Return a text in at most ``limit`` lines of 80 columns; a longer one is shortened. None: no limit."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        max_lines=limit,
        placeholder=" ...",
        break_on_hyphens=False,
    )


def _shorten(path: str) -> str:
    """Return the end of a path that is longer than a line."""
    return path if len(path) < _WIDTH else f"...{path[-(_WIDTH - 4) :]}"


def _print_colours(lines: Sequence[Line]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for style, line in lines:
        console.print(Text(line, style))
