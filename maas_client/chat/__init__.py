"""Chat templates: how a conversation becomes the text a model reads, and which of it counts in the loss.

Validation, training, answering and export all use these templates. Nothing here needs a tokenizer, torch or
another third-party package.
"""

from __future__ import annotations

from maas_client.chat.parsing import parse_completion
from maas_client.chat.rendering import (
    Segment,
    TemplateMismatch,
    find_mismatches,
    render,
    render_prompt,
)
from maas_client.chat.templates import (
    TEMPLATES,
    ChatTemplate,
    ToolFormat,
    TurnFormat,
    get_template,
)

__all__ = [
    "TEMPLATES",
    "ChatTemplate",
    "Segment",
    "TemplateMismatch",
    "ToolFormat",
    "TurnFormat",
    "find_mismatches",
    "get_template",
    "parse_completion",
    "render",
    "render_prompt",
]
