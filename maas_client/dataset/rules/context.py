"""What one check judges by: the target, the model's facts and template, the tokens to look for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from maas_client._settings import Settings
from maas_client.catalog import find_model, get_model, is_asset_uri, load_limits
from maas_client.chat import TEMPLATES, ChatTemplate, get_template
from maas_client.dataset.codes import Severity, Target, get_code
from maas_client.errors import ConfigError, UnsupportedError

if TYPE_CHECKING:
    from maas_client.catalog import Limits, ModelInfo

TARGETS: tuple[Target, ...] = ("azureml", "foundry", "local")


@dataclass(frozen=True)
class RuleContext:
    """Made once per check by ``rulebook``; the same for every row."""

    target: Target
    model: ModelInfo | None
    template: ChatTemplate | None
    """None: no model was given, or one that only Azure knows."""
    limits: Limits
    template_tokens: re.Pattern[str]
    """Control tokens of the model's template; without a model, those of all templates that nobody
    writes by chance (``<|...|>``)."""
    other_template_tokens: re.Pattern[str] | None
    """Control tokens of the other templates, where a model is given."""
    common_substring: str
    """A text that every token holds; empty if they have none in common."""

    def severity(self, name: str) -> Severity | None:
        """Return how bad a code is here; None where it is not reported."""
        return get_code(name).severity_for(self.target)

    @property
    def merges_system(self) -> bool:
        """Whether the template has no system message, so that it goes into the user's first."""
        return self.template is not None and self.template.system_handling == "merged"

    @property
    def max_tokens(self) -> int | None:
        """Tokens after which a row is cut off; None where nobody says."""
        return (self.model.train_length or self.model.context_length) if self.model else None


def build_context(
    target: str | None = None, model: str | None = None, *, override: Path | None = None
) -> RuleContext:
    """Return what to judge by: the catalog with ``override`` (or the file that MAAS_CATALOG names) on top.

    Raises ``ConfigError`` for an unknown target or model, or an override that is none.
    """
    chosen = next((known for known in TARGETS if known == (target or "azureml")), None)
    if chosen is None:
        raise ConfigError(f"no target named {target!r}", hint=f"Targets are {', '.join(TARGETS)}.")
    override = override or Settings.load().catalog_file()
    return _rulebook(chosen, model, override, _changed_at(override))


def _changed_at(file: Path | None) -> int:
    """Return when a file was written last: a server outlives its override file's edits."""
    try:
        return file.stat().st_mtime_ns if file else 0
    except OSError:
        return 0


@lru_cache(maxsize=32)
def _rulebook(
    target: Target, model: str | None, override: Path | None, changed_at: int
) -> RuleContext:
    facts = None
    if model:
        facts = find_model(model, override=override)
        if facts is None and not is_asset_uri(model):
            facts = get_model(model, override=override)
    template = _template(facts)
    spread = {t for each in TEMPLATES.values() for t in each.special_tokens if t[:2] == "<|"}
    own = set(template.special_tokens) if template else spread
    return RuleContext(
        target=target,
        model=facts,
        template=template,
        limits=load_limits(target, override=override),
        template_tokens=_any_of(own),
        other_template_tokens=_any_of(spread - own) if template else None,
        common_substring=next((mark for mark in "|<" if all(mark in t for t in own | spread)), ""),
    )


def _template(facts: ModelInfo | None) -> ChatTemplate | None:
    try:
        return get_template(facts.template) if facts else None
    except UnsupportedError:
        return None


def _any_of(tokens: set[str]) -> re.Pattern[str]:
    """Return a pattern for the tokens, with the ``<`` they begin with in front: that is fast."""
    angled = sorted(re.escape(token[1:]) for token in tokens if token[0] == "<")
    others = sorted(re.escape(token) for token in tokens if token[0] != "<")
    choices = ([f"<(?:{'|'.join(angled)})"] if angled else []) + others
    return re.compile("|".join(choices) or "(?!)")
