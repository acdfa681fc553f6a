"""Derive the report for a model from a report that was made without a model.

A model can add these problems to a file's report: control tokens in texts, roles and tools that its template
does not support, rows and files with too many tokens, and that it is not tuned on the target. If the notes
of the first check exclude all of them, the file does not have to be read again.
"""

from __future__ import annotations

from typing import Any

from maas_client.dataset.rules.context import RuleContext, build_context
from maas_client.dataset.rules.row_features import RowFeatures
from maas_client.dataset.scanners.token_counting import has_tokenizer
from maas_client.types.report import FileReport

_ESTIMATE_FACTOR, _ESTIMATE_EXTRA = 1.5, 8
"""Bound an estimate by another one. The estimates' bytes per token differ by 6 % (3.3 and 3.1); rounding adds
at most one token per message, of which each counts as four or more."""
_EXACT_FACTOR, _EXACT_EXTRA = 40, 1024
"""Bound a tokenizer's count by an estimate. A token of an estimate stands for at most 13.2 bytes (3.3
characters of four bytes), or for a fourth of a message with the template's text around it (40 bytes).
Normalization makes at most three bytes of one, rendered tool calls are at most six times as long as their
JSON, and the template's constant texts have less than 1,024 bytes."""


def report_for_model(
    report: FileReport,
    features: RowFeatures,
    *,
    target: str,
    model: str,
    needs_token_bounds: bool = False,
) -> FileReport | None:
    """Return the report that ``validate`` gives for a model, or None if the file has to be validated for it.

    The derived report has the same problems, counts and examples. Its number of tokens is the first check's
    estimate, which does not use the model's tokenizer.

    Args:
        report: The report on a training file for the same target, without a model.
        features: What the file's rows use.
        target: ``azureml``, ``foundry`` or ``local``.
        model: A model name or an asset URI.
        needs_token_bounds: The bounds ``at_least`` and ``at_most`` of the file's tokens must be those for the
            model. They differ if its tokenizer is on this machine.

    Raises:
        ConfigError: The target or the model is unknown.
    """
    context = build_context(target, model)
    tokens = report.stats.get("tokens")
    if context.model is None:
        return report
    if context.target not in context.model.tunable_on or not features.is_compatible_with(
        context.template
    ):
        return None
    if tokens is None:
        return report
    is_exact = has_tokenizer(context.model)
    if (is_exact and needs_token_bounds) or not _is_within_limits(
        tokens, report.examples, context, is_exact=is_exact
    ):
        return None
    if context.max_tokens is not None:
        tokens = tokens | {"row_limit": context.max_tokens, "rows_over_limit": 0}
    return report.model_copy(update={"stats": report.stats | {"tokens": tokens}})


def _is_within_limits(
    tokens: dict[str, Any], rows: int, context: RuleContext, *, is_exact: bool
) -> bool:
    """Return whether no row and no file can have too many tokens, however the model counts them."""
    longest_row = tokens["per_row"]["max"] * _ESTIMATE_FACTOR + _ESTIMATE_EXTRA
    total = tokens["at_most"]
    if is_exact:
        longest_row = tokens["per_row"]["max"] * _EXACT_FACTOR + _EXACT_EXTRA
        total = max(total, tokens["total"] * _EXACT_FACTOR + rows * _EXACT_EXTRA)
    row_limit = context.max_tokens
    file_limit = context.limits.get_int("tokens_times_epochs_max")
    return (row_limit is None or longest_row <= row_limit) and (
        file_limit is None or total <= file_limit
    )
