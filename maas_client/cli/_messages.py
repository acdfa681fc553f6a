"""What the library says, in the words of the command line.

The library writes an argument as ``name=`` (``force_new=True``) and a call as ``client.jobs.wait(job)``, in
every message and hint. Here, and nowhere else, that becomes the flag and the verb; a test holds that each
argument a message names has its flag below, and that the flag exists.
"""

from __future__ import annotations

import re

from maas_client.errors import MaasError

_NAMED = """
    account_id allow_retired backend batch_size by cloud compute data delete_after dialect endpoint epochs
    force_new gradient_accumulation_steps input_image input_pvc input_url learning_rate
    learning_rate_multiplier limit lora_alpha lora_dropout lora_r lr_scheduler max_billed_tokens
    max_seq_length max_steps method model name output_image output_pvc processes push_secret resource_group
    resource_id seed share subscription_id target target_modules url warmup_ratio warmup_steps weight_decay
    workspace
"""
"""Arguments whose flag has their name."""

FLAGS: dict[str, str] = {name: f"--{name.replace('_', '-')}" for name in _NAMED.split()} | {
    "extra": "--set NAME=VALUE",
    "training_data": "DATA",
    "validation_data": "--validation",
}
"""An argument's name to its flag, or to how a verb's help calls the argument."""

PARAMETERS_WITHOUT_FLAG = ("api_key", "ca_file", "credential", "timeout")
"""Arguments that are no flags. What stands behind their ``or`` is a variable; a sentence without one is of no
use here."""

_CALLS = {"jobs.wait": "jobs watch NAME", "fine_tune": "fine-tune"}
"""Calls whose verb has another name or takes the thing's name."""

_PHRASES = {
    "validation=False": "--no-validation",
    "content=True (the default)": "its content, not with --format-only",
    "copy of the file: training_data=": "copy of the file: --data FILE",
}

_END = r"(?=[\s,.;:)]|$)"
_CALL = re.compile(r"\bclient\.([a-z_]+(?:\.[a-z_]+)?)(?:\([a-z_, ]*\))?")
_CLIENT = re.compile(r"\bClient\.(local|azureml|foundry)(?:\((?:dialect='(\w+)')?\))?(?! ?=)")
_ARGUMENT = re.compile(rf"(?<![\w./'\"-])({'|'.join(FLAGS)})=(?:True|\{{\.\.\.\}})?{_END}")
_TWICE = re.compile(r"(--[a-z-]+) \(\1\)")
"""Where a message names the flag beside the argument."""
_NONE = "|".join(PARAMETERS_WITHOUT_FLAG)
_WITH_OR = re.compile(rf"\b(?:pass )?(?:{_NONE})=,? or ", re.I)
_SENTENCE = re.compile(rf"(?:^|(?<=[.?!]) )[^.?!]*\b(?:{_NONE})={_END}[^.?!]*[.?!]?")


def to_cli_terms(text: str) -> str:
    """Return a message of the library with arguments as flags and calls as commands."""
    if "=" not in text and "lient." not in text:
        return text
    for said, here in _PHRASES.items():
        text = text.replace(said, here)
    text = _SENTENCE.sub("", _WITH_OR.sub("", text))
    text = _TWICE.sub(r"\1", _ARGUMENT.sub(lambda found: FLAGS[found[1]], text))
    text = _CALL.sub(_verb, text)
    return _CLIENT.sub(_backend, text).strip()


def _verb(found: re.Match[str]) -> str:
    said = _CALLS.get(found[1]) or found[1].replace(".", " ").replace("_", "-")
    return f"maas-client {said}"


def _backend(found: re.Match[str]) -> str:
    return f"--backend {found[1]}" + (f" --dialect {found[2]}" if found[2] else "")


def error_message(error: MaasError) -> str:
    """Return what happened, without where and what to do."""
    return to_cli_terms(error.message)


def error_summary(error: MaasError) -> str:
    """Return what happened and where, without what to do and without a full stop."""
    where = error.where()
    return (
        f"{error_message(error).rstrip('.')} ({where})"
        if where
        else error_message(error).rstrip(".")
    )


def error_hint(error: MaasError) -> str:
    """Return what to do, or an empty string."""
    return to_cli_terms(error.hint or "")


def full_error(error: MaasError) -> str:
    """Return what happened, where, and what to do."""
    return to_cli_terms(str(error))
