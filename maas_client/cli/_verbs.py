"""Parsers that load their verb when it is chosen, and the options that every verb takes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NoReturn

from maas_client.errors import ConfigError


class UsageError(ConfigError):
    """A command that no verb takes."""


Verbs = Mapping[str, tuple[str, str]]
"""Verb to the module in this package that has ``add(parser)`` and ``run(args)``, and one line of help."""


class Parser(argparse.ArgumentParser):
    """An argument parser that takes ``--json``, ``--backend`` and ``--url``, before or after its verb.

    ``module`` is imported, and asked to ``add`` its arguments, when this parser's verb is chosen.
    """

    def __init__(self, *args: Any, module: str | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)
        self._module = module
        shared = self.add_argument_group("every verb takes")
        rest: dict[str, Any] = {"default": argparse.SUPPRESS}
        shared.add_argument("--json", action="store_true", help="print JSON on stdout", **rest)
        shared.add_argument(
            "--backend",
            choices=("local", "azureml", "foundry"),
            help="where (default: MAAS_BACKEND, else local)",
            **rest,
        )
        shared.add_argument(
            "--url", help="the local server's address (default: MAAS_URL, else port 8765)", **rest
        )

    def parse_known_args(  # type: ignore[override]  # typeshed has overloads for other namespaces
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Load the verb, then parse as always."""
        if self._module:
            verb, self._module = import_module(self._module), None
            if hasattr(verb, "run"):
                self.set_defaults(run=verb.run)
            verb.add(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong with the command, and where to read more; exit code 2."""
        raise UsageError(message, hint=f"Try: {self.prog} --help")


def actions(parser: argparse.ArgumentParser) -> Any:
    """Return the place in ``parser`` where ``action`` adds what a noun can be told to do."""
    return parser.add_subparsers(metavar="VERB", required=True, title="verbs", parser_class=Parser)


def mount(parser: argparse.ArgumentParser, verbs: Verbs) -> Any:
    """Give ``parser`` its verbs, each imported only when it is chosen, and return their place."""
    group = actions(parser)
    for verb, (module, text) in verbs.items():
        name = f"{__package__}.{module}"
        if find_spec(name) is not None:
            group.add_parser(verb, help=text, description=_sentence(text), module=name)
    return group


def action(group: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    """Add one action of a noun (``jobs list``) to its subparsers and return its parser."""
    made: argparse.ArgumentParser = group.add_parser(name, help=text, description=_sentence(text))
    made.set_defaults(run=run)
    return made


def count(text: str) -> int:
    """Read a number from 1 on, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("a number from 1 on is wanted")
    return number


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")
