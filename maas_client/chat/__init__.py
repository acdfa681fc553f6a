"""How a conversation becomes the text a model reads, and which part of it is learned.

Validation, training, answering and export all read the same templates. Nothing here knows a
tokenizer, torch or a third-party package.
"""

from __future__ import annotations

from maas_client.chat.answers import parse_answer
from maas_client.chat.rendering import Misfit, Segment, misfits, prompt, render
from maas_client.chat.templates import TEMPLATES, Template, ToolForm, Turn, template_for

__all__ = [
    "TEMPLATES",
    "Misfit",
    "Segment",
    "Template",
    "ToolForm",
    "Turn",
    "misfits",
    "parse_answer",
    "prompt",
    "render",
    "template_for",
]
