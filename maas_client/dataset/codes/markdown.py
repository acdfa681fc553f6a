"""The documentation of the problem codes as Markdown: one page per code, and an index.

``python -m maas_client.dataset.codes.markdown FOLDER`` writes it into a folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from maas_client.dataset.codes import Code, Target, all_codes

_TARGETS: tuple[Target, ...] = ("azureml", "foundry", "local")
_GROUPS = {
    "FILE": "The file as a whole",
    "JSON": "Lines that are not one strict JSON value in UTF-8",
    "CHAT": "Rows that are not a valid conversation",
    "TOOL": "Tools: definitions, calls and results",
    "SERVICE": "What the target does with the file and its rows",
    "QUALITY": "Rows that are likely to teach the wrong thing",
    "SECRET": "Keys, tokens and passwords",
    "PII": "Personal data",
}


def to_markdown(code: Code) -> str:
    """Return the page of one code."""
    severities = ", ".join(
        f"{target}: {code.severity_for(target) or 'not reported'}" for target in _TARGETS
    )
    parts = [
        f"# {code.name}",
        f"{code.message[0].upper()}{code.message[1:]}.",
        f"Severity: {severities}",
        code.explanation,
        f"**What to do.** {code.hint}",
        f"Example:\n\n{_code_block(code.example)}",
    ]
    if code.fixed_example:
        parts.append(f"Corrected:\n\n{_code_block(code.fixed_example)}")
    if code.is_policy:
        parts.append("This is a policy, not a format rule: the local trainer trains such a row.")
    elif code.name.startswith(("CHAT", "TOOL")):
        where = (
            "cannot express this rule; only `validate` checks it"
            if code.not_in_schema
            else "contains this rule as well"
        )
        parts.append(f"`schemas/chat_line.schema.json` {where}.")
    parts.append(
        f"If it is a false alarm, `--ignore {code.name}` skips it and `--warn {code.name}` makes it a "
        "warning. In Python: `validate(..., ignore=[...], warn=[...])`. Ignored problems are counted in "
        "the report."
    )
    return "\n\n".join(parts) + "\n"


def _code_block(text: str) -> str:
    return f"```\n{text}\n```"


def index_to_markdown(codes: Iterable[Code], *, link: bool = True) -> str:
    """Return the list of codes, group by group, with the severity for each target.

    ``link`` makes each code a link to its page in the same folder.
    """
    lines = [
        "# The codes of `maas-client validate`",
        "",
        "A code is never renamed. `maas-client validate --explain CODE` prints the page of a code.",
    ]
    group = ""
    for code in sorted(codes, key=lambda code: list(_GROUPS).index(code.name.partition("_")[0])):
        prefix = code.name.partition("_")[0]
        if prefix != group:
            group = prefix
            lines += ["", f"## {_GROUPS[group]}", "", "| code | azureml | foundry | local | |"]
            lines.append("|---|---|---|---|---|")
        severities = " | ".join(code.severity_for(target) or "-" for target in _TARGETS)
        name = f"[{code.name}]({code.name}.md)" if link else code.name
        lines.append(f"| {name} | {severities} | {code.message} |")
    return "\n".join(lines) + "\n"


def write_pages(folder: Path) -> None:
    """Write one page per code and an index, and delete the pages of codes that no longer exist."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {f"{code.name}.md": to_markdown(code) for code in all_codes().values()}
    pages["README.md"] = index_to_markdown(all_codes().values())
    for page in folder.glob("*.md"):
        if page.name not in pages:
            page.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description="Write one Markdown page per code, and an index.")
    parser.add_argument("folder", type=Path, help="the folder to write to")
    write_pages(parser.parse_args().folder)
