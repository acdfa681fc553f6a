"""Chat data sets as files: validate them, read their rows, fix, convert and split them. Uses no network.

``validate`` is all that most callers need; its parts are loaded when it is called.

    parsing   lines, strict JSON, file types        rules      what a row must be, for a target and a model
    report    located problems                      scanners   duplicates, secrets, tokens, quality
    edit      fix, convert, split                   codes      every problem's message and explanation
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from maas_client._argument_types import checked

if TYPE_CHECKING:
    from maas_client.catalog.model_info import Target
    from maas_client.dataset.sources import DataFile, DataSource
    from maas_client.types.report import ValidationReport

__all__ = ["validate"]


@checked
def validate(
    *data: DataSource | DataFile,
    model: str | None = None,
    target: Target | None = None,
    method: str | None = None,
    validation: DataSource | DataFile | None = None,
    ignore: Iterable[str] = (),
    warn: Iterable[str] = (),
    epochs: float | None = None,
    content: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> ValidationReport:
    """Validate chat data before it costs money. Uses no network and no torch.

    Whatever the files contain, the result is a report; a file that cannot be read is a problem in it.

    Args:
        data: The training data: paths of JSON Lines files (also compressed with gzip) or Parquet files, or
            rows: an iterable of dictionaries, a pandas or polars DataFrame, a Hugging Face ``Dataset``. Rows
            have row numbers in place of line numbers, and the name ``<rows>``. An iterable is read once.
        model: Validate for this model, with its chat template, context length and limits: a name such as
            ``Phi-4-mini-instruct`` or an asset URI. Without it only general rules apply. Default: none.
        target: Where the model will be trained: ``azureml`` (the default), ``foundry`` or ``local``. It
            decides which issues are errors, and which limits apply. With ``method="DPO"`` the default is
            ``foundry``.
        method: ``DPO`` if the rows are preferences (``input``, ``preferred_output``,
            ``non_preferred_output``). Otherwise, and with any other method of ``jobs.create``, rows are
            chats. Default: none.
        validation: Validation data, of the same types. It is validated too, and compared with the training
            data for examples that are in both. Without it the report shows the split that the service makes.
            Default: none.
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
        ConfigError: A code, the target or the model is unknown, ``epochs`` is not a positive number, or the
            data is missing or of another type.
        DatasetError: A row holds a value that JSON cannot represent, or two columns have the same name.
        MissingExtraError: The data is a Parquet file and pyarrow is not installed.

    Example:
        >>> report = maas.validate("train.jsonl", model="Phi-4-mini-instruct")
        >>> for problem in report.errors:
        ...     print(problem.line, problem.code, problem.message)
        >>> report.raise_if_invalid()
        >>> maas.validate(frame).summary()  # a DataFrame with a column "messages"
        Counter({'CHAT_ROLE_UNKNOWN': 12, 'QUALITY_DUPLICATE': 3})
    """
    from maas_client.dataset.file_validator import ValidateOptions, validate_files

    options = ValidateOptions(
        model=model,
        target=target,
        method=method,
        ignore=tuple(ignore),
        warn=tuple(warn),
        epochs=epochs,
        content=content,
        progress=progress,
    )
    return validate_files(data, validation, options)
