"""Multiple choice: the options of a question, written below it."""

from __future__ import annotations

import re
from string import ascii_uppercase
from typing import Any

from maas_client.dataset.formats.fields import ConversionError, Fields, is_empty, to_text
from maas_client.dataset.formats.messages import parse_json_text

OPTION_NAME = re.compile(r"(?:op|opt|option|choice)(?:[a-h]|[1-9])|[a-h]")
"""The normalized name of a column with one option."""
_OPTION_LIST_NAMES = ("choices", "options", "endings", "candidates", "answer_choices", "answer_options",
                      "multiple_choices", "alternatives")  # fmt: skip
_LABEL = re.compile(r"\s*\(?[A-Za-z0-9]{1,2}[.):]\s")


def options_text(fields: Fields) -> str:
    """Return the options of a row as lines such as ``A. ...``, or an empty text if it has none."""
    value = fields.get(*_OPTION_LIST_NAMES)
    if isinstance(value, str) and value.strip()[:1] not in ("[", "{"):
        return value
    lines = []
    for label, option in read_options(fields) or _option_columns(fields):
        text = to_text(option, "an option")
        lines.append(text if _LABEL.match(text) else f"{label}. {text}")
    return "\n".join(lines)


def read_options(fields: Fields) -> list[tuple[str, Any]]:
    """Return the labels and options under ``choices`` or ``options``, or an empty list."""
    name = fields.key_of(*_OPTION_LIST_NAMES)
    value = fields.get(*_OPTION_LIST_NAMES)
    if isinstance(value, str) and value.strip()[:1] not in ("[", "{"):
        return []
    return [] if value is None else list(_labelled(parse_json_text(value, name), name))


def _option_columns(fields: Fields) -> list[tuple[str, Any]]:
    columns = [(name, key) for name, key in fields.unread() if OPTION_NAME.fullmatch(name)]
    if len(columns) < 2:
        return []
    fields.mark_read(*(name for name, _ in columns))
    return [(name[-1].upper(), fields.row[key]) for name, key in sorted(columns)]


def _labelled(value: Any, name: str) -> list[tuple[str, Any]]:
    """Return pairs of a label and an option from a list, an object, or lists of labels and texts."""
    if isinstance(value, dict):
        labels, texts = value.get("label"), value.get("text")
        if isinstance(labels, list) and isinstance(texts, list) and len(labels) == len(texts):
            return [(to_text(label, name), text) for label, text in zip(labels, texts, strict=True)]
        return [(label, text) for label, text in value.items() if not is_empty(text)]
    if not isinstance(value, list) or len(value) > len(ascii_uppercase):
        raise ConversionError(f"{name} is not a list of options")
    options = []
    for label, item in zip(ascii_uppercase, value, strict=False):
        if isinstance(item, dict):
            if "text" not in item:
                raise ConversionError(f"an option in {name} has no text")
            options.append((to_text(item.get("label") or label, name), item["text"]))
        else:
            options.append((label, item))
    return options
