"""Data sets: read, checked, explained, mended, converted, split. Files and lines, nothing of HTTP.

``validate`` is all that most callers need. Every name is loaded when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from os import PathLike
from typing import TYPE_CHECKING

from maas_client.errors import ConfigError

if TYPE_CHECKING:
    from maas_client.catalog.model_info import Target
    from maas_client.types.report import ValidationReport

__all__ = ["validate"]


def validate(
    *paths: str | PathLike[str],
    model: str | None = None,
    target: Target | None = None,
    validation: str | PathLike[str] | None = None,
    ignore: Iterable[str] = (),
    warn: Iterable[str] = (),
    epochs: float | None = None,
    content: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> ValidationReport:
    """Check chat files before they cost money; no network, no torch.

    Args:
        paths: training files, JSON Lines.
        model: check for this model (its template, its limits), named as people name it.
        target: ``azureml`` (the default), ``foundry`` or ``local``.
        validation: a validation file; it is checked too, and against the training files.
        ignore: codes that are counted in ``stats["suppressed"]`` and otherwise passed over.
            ``QUALITY_*`` means all of a group.
        warn: codes that are warnings here though the target says error.
        epochs: for the ceiling on tokens times epochs; 1 if not given.
        content: look for duplicates, secrets, personal data and the like, and count tokens. False
            leaves format, service rules and exact duplicates.
        progress: called with bytes read and bytes in all, a few times a second.

    Whatever the bytes are, the answer is a report; a file that cannot be read is a problem in it.
    Raises ``ConfigError`` for an unknown code, target or model, and for no file at all.
    """
    for path in (*paths, *([] if validation is None else [validation])):
        if not isinstance(path, str | PathLike):
            raise ConfigError(
                f"validate takes paths, not a {type(path).__name__}",
                hint='For example validate("a.jsonl", "b.jsonl").',
            )
    from maas_client.dataset.file_check import ValidateOptions, validate_files

    options = ValidateOptions(
        model=model,
        target=target,
        ignore=tuple(ignore),
        warn=tuple(warn),
        epochs=epochs,
        content=content,
        progress=progress,
    )
    return validate_files(paths, validation, options)
