"""The documentation of a code, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from maas_client.dataset.codes._code import Code, Target

_TARGETS: tuple[Target, ...] = ("azureml", "foundry", "local")
_GROUPS = {
    "FILE": "The file as a whole",
    "JSON": "A line that is not one strict JSON value in UTF-8",
    "CHAT": "A row that is not a good conversation",
    "TOOL": "Tools: definitions, calls, results",
    "SERVICE": "What the target does with the file and its rows",
    "QUALITY": "Rows that teach the wrong thing",
    "SECRET": "Keys, tokens and passwords",
    "PII": "Personal data",
}


def to_markdown(code: Code) -> str:
    """Return a code's own page."""
    severities = ", ".join(
        f"{target}: {code.severity_for(target) or 'not told'}" for target in _TARGETS
    )
    parts = [
        f"# {code.name}",
        f"{code.message[0].upper()}{code.message[1:]}.",
        severities,
        code.explanation,
        f"**To do.** {code.hint}",
        f"For example:\n\n{_block(code.example)}",
    ]
    if code.fixed_example:
        parts.append(f"Mended:\n\n{_block(code.fixed_example)}")
    if code.is_policy:
        parts.append("A matter of policy, not of format: the local trainer trains such a row.")
    elif code.name.startswith(("CHAT", "TOOL")):
        where = "only the full rules say this" if code.not_in_schema else "the schema says this too"
        parts.append(f"`schemas/chat_line.schema.json`: {where}.")
    parts.append(
        f"A false alarm? `--ignore {code.name}` passes over it, `--warn {code.name}` makes it a "
        "warning; in Python `validate(..., ignore=[...], warn=[...])`. What is passed over is counted."
    )
    return "\n\n".join(parts) + "\n"


def _block(text: str) -> str:
    return f"```\n{text}\n```"


def index_to_markdown(codes: Iterable[Code]) -> str:
    """Return the list of all codes, group by group."""
    lines = [
        "# The codes of `maas-client validate`",
        "",
        "A code is never renamed. Each has a page; the table says how bad it is for each target.",
    ]
    group = ""
    for code in sorted(codes, key=lambda each: list(_GROUPS).index(each.name.partition("_")[0])):
        prefix = code.name.partition("_")[0]
        if prefix != group:
            group = prefix
            lines += ["", f"## {_GROUPS[group]}", "", "| code | azureml | foundry | local | |"]
            lines.append("|---|---|---|---|---|")
        levels = " | ".join(code.severity_for(target) or "-" for target in _TARGETS)
        lines.append(f"| [{code.name}]({code.name}.md) | {levels} | {code.message} |")
    return "\n".join(lines) + "\n"
