"""A validation report at a glance: one block per code, errors first, the verdict last.

A file with a few kinds of problems takes one screen: 24 lines of 80 columns. ``--all`` prints every problem.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from maas_client.cli._report import describe_stats, escape_unprintable, verdict
from maas_client.types.report import FileReport, Problem, ValidationReport

_WIDTH = 80
_SCREEN_LINES = 24
_INDENT = "  "
_MAX_TEXT_LINES = 3
"""Lines of a code's message and hint."""
_MAX_PLACES = 8
_HELP = "--all prints every problem; --explain CODE explains a code"
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
        figures: Also yield tokens and what the service does, as far as the screen has room.
    """
    groups = _group(file.problems)
    ending = _ending(file)
    problem_lines = list(_problem_lines(file, groups, _SCREEN_LINES - len(ending) - 1))
    yield from problem_lines
    if figures:
        room = _SCREEN_LINES - len(ending) - len(problem_lines) - bool(groups)
        for text in describe_stats(file):
            wrapped = _wrap(text, "", 2)
            room -= len(wrapped)
            if room >= 0:
                yield from (("dim", line) for line in wrapped)
    if groups:
        yield "dim", _HELP
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


def _problem_lines(file: FileReport, groups: list[list[Problem]], room: int) -> Iterator[Line]:
    texts = [_wrap(_describe(group[0]), _INDENT, _MAX_TEXT_LINES) for group in groups]
    limits = _allocate_lines([len(text) for text in texts], room - len(groups))
    for group, limit in zip(groups, limits, strict=True):
        yield ("bold red" if group[0].severity == "error" else "bold yellow"), _heading(file, group)
        if limit:
            yield from (("", line) for line in _wrap(_describe(group[0]), _INDENT, limit))


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


def _wrap(text: str, indent: str, limit: int) -> list[str]:
    """Return a text in at most ``limit`` lines of 80 columns; a longer one is shortened."""
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
