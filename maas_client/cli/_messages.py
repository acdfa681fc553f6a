"""Messages of the library, written with the flags and commands of the command line.

The library writes an argument as ``force_new=True`` and a call as ``client.jobs.wait(job)``. Messages that
contain such parts are a ``maas_client._text.Text``, which this module renders: ``--force-new``,
``maas-client jobs watch NAME``.
"""

from __future__ import annotations

import re

from maas_client._text import Argument, Call, Constructor, Text
from maas_client.errors import MaasError

FLAGS: dict[str, str | None] = {
    "account_id": "--account-id",
    "allow_retired": "--allow-retired",
    "backend": "--backend",
    "batch_size": "--batch-size",
    "by": "--by",
    "cloud": "--cloud",
    "columns": "--column THEIRS=OURS",
    "compute": "--compute",
    "data": "--data",
    "delete_after": "--delete-after",
    "dialect": "--dialect",
    "endpoint": "--endpoint",
    "epochs": "--epochs",
    "extra": "--set NAME=VALUE",
    "force_new": "--force-new",
    "gradient_accumulation_steps": "--gradient-accumulation-steps",
    "ignore": "--ignore",
    "input_image": "--input-image",
    "input_pvc": "--input-pvc",
    "input_url": "--input-url",
    "learning_rate": "--learning-rate",
    "learning_rate_multiplier": "--learning-rate-multiplier",
    "limit": "--limit",
    "lora_alpha": "--lora-alpha",
    "lora_dropout": "--lora-dropout",
    "lora_r": "--lora-r",
    "lr_scheduler": "--lr-scheduler",
    "max_billed_tokens": "--max-billed-tokens",
    "max_seq_length": "--max-seq-length",
    "max_steps": "--max-steps",
    "method": "--method",
    "model": "--model",
    "name": "--name",
    "output_image": "--output-image",
    "output_pvc": "--output-pvc",
    "processes": "--processes",
    "push_secret": "--push-secret",
    "resource_group": "--resource-group",
    "resource_id": "--resource-id",
    "row_format": "--form",
    "seed": "--seed",
    "skip_invalid": "--skip",
    "subscription_id": "--subscription-id",
    "target": "--target",
    "target_modules": "--target-modules",
    "training_data": "DATA",
    "url": "--url",
    "validation_data": "--validation",
    "validation_share": "--share",
    "warmup_ratio": "--warmup-ratio",
    "warmup_steps": "--warmup-steps",
    "weight_decay": "--weight-decay",
    "workspace": "--workspace",
    # These have an environment variable or no equivalent.
    "api_key": None,
    "ca_file": None,
    "credential": None,
    "timeout": None,
}
"""Argument to its flag, or to how the help calls it; None if there is no flag."""

_FLAG_VALUES = {
    ("content", "True"): "its content, without --format-only",
    ("validation", "False"): "--no-validation",
}
"""Arguments with a value that have a flag of their own."""

_COMMANDS = {"jobs.wait": "jobs watch NAME", "fine_tune": "fine-tune"}
"""Calls whose command has another name or takes the name of a resource."""


def _argument(part: Argument) -> str | None:
    return _FLAG_VALUES.get((part.name, part.code)) or FLAGS.get(part.name)


def _call(part: Call) -> str:
    command = _COMMANDS.get(part.name) or part.name.replace(".", " ").replace("_", "-")
    return f"maas-client {command}"


def _constructor(part: Constructor) -> str:
    options = [f"--{argument.name} {argument.code.strip(chr(39))}" for argument in part.arguments]
    return " ".join([f"--backend {part.backend}", *options])


def to_cli_terms(text: str) -> str:
    """Return a message with flags and commands in place of Python's arguments and calls."""
    rendered = Text(text).render(argument=_argument, call=_call, constructor=_constructor)
    return _convert_plain(rendered).strip()


def error_message(error: MaasError) -> str:
    """Return what happened, without where and what to do."""
    return to_cli_terms(error.message)


def error_summary(error: MaasError) -> str:
    """Return what happened and where, without what to do and without a full stop."""
    where = error.where()
    message = error_message(error).rstrip(".")
    return f"{message} ({where})" if where else message


def error_hint(error: MaasError) -> str:
    """Return what to do, or an empty string."""
    return to_cli_terms(error.hint or "")


def full_error(error: MaasError) -> str:
    """Return what happened, where, and what to do."""
    return to_cli_terms(error.to_text())


# Messages that are still plain strings. To be removed when all of them are built with Text.
_PHRASES = {
    "validation=False": "--no-validation",
    "content=True (the default)": "its content, not with --format-only",
    "copy of the file: training_data=": "copy of the file: --data FILE",
}
_END = r"(?=[\s,.;:)]|$)"
_CALL = re.compile(r"\bclient\.([a-z_]+(?:\.[a-z_]+)?)(?:\([a-z_, ]*\))?")
_CLIENT = re.compile(r"\bClient\.(local|azureml|foundry)(?:\((?:dialect='(\w+)')?\))?(?! ?=)")
_NAMES = "|".join(name for name, flag in FLAGS.items() if flag)
_ARGUMENT = re.compile(rf"(?<![\w./'\"-])({_NAMES})=(?:True|\{{\.\.\.\}})?{_END}")
_TWICE = re.compile(r"(--[a-z-]+) \(\1\)")
_WITHOUT = "|".join(name for name, flag in FLAGS.items() if not flag)
_WITH_OR = re.compile(rf"\b(?:pass )?(?:{_WITHOUT})=,? or ", re.I)
_SENTENCE = re.compile(rf"(?:^|(?<=[.?!]) )[^.?!]*\b(?:{_WITHOUT})={_END}[^.?!]*[.?!]?")


def _convert_plain(text: str) -> str:
    if "=" not in text and "lient." not in text:
        return text
    for phrase, replacement in _PHRASES.items():
        text = text.replace(phrase, replacement)
    text = _SENTENCE.sub("", _WITH_OR.sub("", text))
    text = _TWICE.sub(r"\1", _ARGUMENT.sub(lambda match: str(FLAGS[match[1]]), text))
    text = _CALL.sub(lambda match: _call(Call(match[1])), text)

    def backend(match: re.Match[str]) -> str:
        return f"--backend {match[1]}" + (f" --dialect {match[2]}" if match[2] else "")

    return _CLIENT.sub(backend, text)
