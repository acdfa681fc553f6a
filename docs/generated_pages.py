"""The pages of the site that are generated from the code: a hook of MkDocs (``mkdocs.yml``).

Nothing generated is stored in the repository: ``make docs`` reads the parser of the command line, the tables of
settings and problem codes, and the catalog.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import FunctionType
from typing import Any

import griffe

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


class RuntimeMethods(griffe.Extension):
    """Shows the methods of the clients, which are created when the module is loaded, as what they are then."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Replace ``create = sync_method(jobs.create)`` by the method with its signature and docstring."""
        from maas_client import _client

        for cls in vars(_client).values():
            for method in vars(cls).values() if isinstance(cls, type) else ():
                vars(method).pop("__wrapped__", None) if isinstance(method, FunctionType) else None
        module = pkg["_client"]
        runtime = griffe.inspect(module.name, filepath=module.filepath, parent=pkg)
        for cls in module.classes.values():
            for name, attribute in list(cls.attributes.items()):
                if re.match(r"a?sync_(method|iterator)\(", str(attribute.value)):
                    cls.set_member(name, runtime[cls.name].get_member(name))

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Let griffe format examples: it knows the title ``Examples``."""
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"^Example:$", "Examples:", obj.docstring.value, flags=re.M
            )


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to the files of the site."""
    from mkdocs.structure.files import File

    for path, text in generate_pages():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Show links to files outside of ``docs/`` as their paths: the site does not contain these files."""
    folder = (ROOT / "docs" / page.file.src_uri).parent

    def replace(match: re.Match[str]) -> str:
        label, target, _ = match.groups()
        path = Path(os.path.normpath(folder / target))
        if path.is_relative_to(ROOT / "docs") or not path.is_relative_to(ROOT):
            return match.group(0)
        if not path.exists():
            return match.group(0)  # MkDocs reports it
        name = f"`{path.relative_to(ROOT).as_posix()}`"
        return name if label.strip("`") in name else f"{label} ({name})"

    return _LINK.sub(replace, markdown)


def generate_pages() -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each generated page."""
    yield "reference/command-line.md", "\n".join(command_line())
    yield "reference/settings.md", "\n".join(settings())
    yield "reference/models.md", "\n".join(models())
    yield from codes()


def codes() -> Iterator[tuple[str, str]]:
    """Yield the index of the problem codes, and a page for each."""
    from maas_client.dataset.codes import all_codes
    from maas_client.dataset.codes.markdown import index_to_markdown, to_markdown

    yield "reference/codes/index.md", index_to_markdown(all_codes().values())
    for code in all_codes().values():
        yield f"reference/codes/{code.name}.md", to_markdown(code)


def settings() -> Iterator[str]:
    """Yield the lines of the table that ``maas-client config`` prints, with defaults in place of values."""
    from maas_client._settings import SETTINGS

    yield "# Settings"
    yield ""
    yield "`maas-client config` prints this table with the value of each setting and its origin."
    yield "[Settings and profiles](../how-to/profiles.md) says which value counts if several are set."
    yield ""
    yield "| setting | environment variable | default | meaning |"
    yield "|---|---|---|---|"
    for setting in SETTINGS:
        variables = ", ".join(f"`{name}`" for name in setting.variables)
        default = f"`{setting.default}`" if setting.default else ""
        yield f"| `{setting.key}` | {variables} | {default} | {_cell(setting.description)} |"


def command_line() -> Iterator[str]:
    """Yield the lines of the command line's reference, from its parser."""
    from maas_client import cli

    parser = cli.build_parser()
    yield "# Command line"
    yield ""
    yield "Data goes to stdout, everything else to stderr. `maas-client COMMAND --help` prints the same text."
    yield ""
    yield "## Options of every command"
    yield ""
    common = _arguments(parser)
    yield from _table(common)
    yield ""
    yield from _commands(parser, {option for option, _ in common}, level=2)


def _commands(parser: argparse.ArgumentParser, common: set[str], level: int) -> Iterator[str]:
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        for command in action.choices.values():
            command.load()
            yield f"{'#' * level} {command.prog.removeprefix('maas-client ')}"
            yield ""
            yield _cell(command.description or "")
            yield ""
            yield "```text"
            usage = " ".join(command.format_usage().removeprefix("usage: ").split())
            usage = re.sub(r" \[-h\]| \[--json\]| \[--(?:backend|profile|url) \S+\]", "", usage)
            yield textwrap.fill(usage, 100, subsequent_indent="    ", break_on_hyphens=False)
            yield "```"
            yield ""
            yield from _table([row for row in _arguments(command) if row[0] not in common])
            yield ""
            yield from _commands(command, common, level + 1)
            if command.epilog:
                yield _cell(command.epilog)
                yield ""


def _arguments(parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    """Return the arguments of a parser and their help, without its subcommands."""
    formatter: Any = parser._get_formatter()
    return [
        (formatter._format_action_invocation(action), formatter._expand_help(action))
        for action in parser._actions
        if not isinstance(action, argparse._SubParsersAction) and action.help != argparse.SUPPRESS
    ]


def _table(rows: list[tuple[str, str]]) -> Iterator[str]:
    if rows:
        yield "| argument | meaning |"
        yield "|---|---|"
        yield from (f"| `{_cell(name)}` | {_cell(text)} |" for name, text in rows)


def models() -> Iterator[str]:
    """Yield the facts about every model of the catalog, each with its source and date."""
    from maas_client import catalog

    yield "# Models and sources"
    yield ""
    yield "Every fact of the catalog with its source, as `maas-client models show NAME` prints it."
    yield "[The catalog](catalog.md) explains the fields."
    yield ""
    for name in catalog.load_models():
        facts = json.loads(_run("models", "show", name, "--json"))
        yield f"## {name}"
        yield ""
        yield "| fact | value | source |"
        yield "|---|---|---|"
        for fact, entry in facts.items():
            source = entry["source"]
            text = f"{_link(source)} {source['as_of']}" if source else ""
            yield f"| `{fact}` | {_cell(_plain(entry['value']))} | {text} |"
        yield ""


def _link(source: dict[str, str]) -> str:
    title, url = _cell(source["title"]), source["url"]
    return f"[{title}]({url})" if url.startswith("http") else title


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)


def _cell(text: str) -> str:
    """Return text for a table's cell: one line, with the characters that Markdown and HTML read escaped."""
    return re.sub(r"\s+", " ", text).replace("<", "&lt;").replace("|", "\\|").strip()


def _run(*words: str) -> str:
    """Return what a command prints."""
    from maas_client import cli

    output, errors = io.StringIO(), io.StringIO()
    run: Callable[[list[str]], int] = cli.main
    with redirect_stdout(output), redirect_stderr(errors):
        if run(list(words)):
            raise RuntimeError(errors.getvalue())
    return output.getvalue()
