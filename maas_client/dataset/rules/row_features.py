"""What the rows of a file use that not every model supports, noted while the file is validated.

With these notes ``model_report.py`` knows without reading the file again whether a model could change
the result of a check that was made without a model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from maas_client.chat import ChatTemplate
from maas_client.dataset.formats.preferences import preference_messages
from maas_client.dataset.parsing.strict_json import collect_strings
from maas_client.dataset.rules.context import TEMPLATE_TOKENS, TOKENS_BEGIN_WITH


@dataclass(slots=True)
class RowFeatures:
    """What the rows of one file use."""

    roles: set[str] = field(default_factory=set)
    """The roles of rows without issues. Only these rows are compared with a template."""
    has_tools: bool = False
    """Such a row has tool definitions or calls."""
    has_template_tokens: bool = False
    """A text of any row contains a control token of any template."""

    def add_roles(self, roles: Iterable[str]) -> None:
        """Note the roles of an ordinary row without issues."""
        self.roles.update(roles)

    def add_row(self, row: Any, *, has_issues: bool) -> None:
        """Note what a row uses. A row with issues can be any JSON value."""
        if not self.has_template_tokens:
            self.has_template_tokens = any(
                TOKENS_BEGIN_WITH in text and TEMPLATE_TOKENS.search(text)
                for text in collect_strings(row)
            )
        if not has_issues:
            messages = row["messages"] if "messages" in row else preference_messages(row)
            source = row.get("input")  # of a preference; beside messages it can be any value
            self.roles.update([message["role"] for message in messages])
            self.has_tools = self.has_tools or bool(
                row.get("tools")
                or (isinstance(source, dict) and source.get("tools"))
                or any(message.get("tool_calls") for message in messages)
            )

    def is_compatible_with(self, template: ChatTemplate | None) -> bool:
        """Return whether no row has an issue with a model's template that it lacks without a model.

        True is certain. False means that the rows have to be validated for the model.
        """
        if template is None:
            return True
        merges_system = template.system_handling == "merged" and "system" in self.roles
        return not (
            self.has_template_tokens
            or merges_system
            or (self.has_tools and template.tools is None)
            or self.roles - set(template.roles)
        )
