"""Chat data sets as files: validate them, read their rows, fix, convert and split them. Uses no network.

``validate`` is all that most callers need; its parts are loaded when it is called.

    parsing   lines, strict JSON, file types        rules      what a row must be, for a target and a model
    report    located problems                      scanners   duplicates, secrets, tokens, quality
    edit      fix, convert, split                   codes      every problem's message and explanation
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
    """Validate chat files before they cost money. Uses no network and no torch.

    Whatever the files contain, the result is a report; a file that cannot be read is a problem in it.

    Args:
        paths: Training files in JSON Lines.
        model: Validate for this model, with its chat template, context length and limits: a name such as
            ``Phi-4-mini-instruct`` or an asset URI. Without it only general rules apply.
        target: Where the model will be trained: ``azureml`` (the default), ``foundry`` or ``local``. It
            decides which issues are errors, and which limits apply.
        validation: A validation file. It is validated too, and compared with the training files for
            examples that are in both. Without it the report shows the split that the service makes.
        ignore: Codes that are not reported but counted in ``stats["suppressed"]``. ``QUALITY_*`` means
            every code of a group. Default: none.
        warn: Codes that are reported as warnings although they are errors at the target. Default: none.
        epochs: The epochs of the planned job, for limits and billed tokens that depend on them. Default: 1.
        content: True (the default) also finds near duplicates, secrets, personal data and poor answers, and
            counts tokens. False validates the format and the service's rules and finds repeated lines only.
        progress: A function that is called a few times a second with the bytes read and the bytes of the
            file. Default: None.

    Returns:
        The report, with one ``FileReport`` per file and located problems.

    Raises:
        ConfigError: A code, the target or the model is unknown, ``epochs`` is not a positive number, or no
            file was named.

    Example:
        >>> report = maas.validate("train.jsonl", model="Phi-4-mini-instruct")
        >>> for problem in report.errors:
        ...     print(problem.line, problem.code, problem.message)
        >>> report.raise_if_invalid()
    """
    for path in (*paths, *([] if validation is None else [validation])):
        if not isinstance(path, str | PathLike):
            raise ConfigError(
                f"validate takes paths, not {type(path).__name__}",
                hint='For example: validate("a.jsonl", "b.jsonl").',
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
