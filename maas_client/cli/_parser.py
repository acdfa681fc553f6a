"""Parsers that load their verb when it is chosen, and the options that every verb takes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NoReturn

from maas_client.errors import ConfigError


class UsageError(ConfigError):
    """A command that no verb takes."""


CommandTable = Mapping[str, tuple[str, str]]
"""Verb to the module in this package that has ``add(parser)`` and ``run(args)``, and one line of help."""


class Parser(argparse.ArgumentParser):
    """An argument parser that takes ``--json``, ``--backend`` and ``--url``, before or after its verb.

    ``module`` is imported, and asked to ``add`` its arguments, when this parser's verb is chosen.
    """

    def __init__(self, *args: Any, module: str | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)
        self._module = module
        self._words: list[str] = []
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
        """Load the verb, then parse as always; what is left over is this verb's error, not its parent's."""
        if self._module:
            verb, self._module = import_module(self._module), None
            if hasattr(verb, "run"):
                self.set_defaults(run=verb.run)
            verb.add(self)
        self._words = list(sys.argv[1:] if args is None else args)
        known, left = super().parse_known_args(args, namespace)
        if left:
            self.error(f"unrecognized arguments: {' '.join(left)}")
        return known, left

    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong with the command, what may have been meant, and where to read
        more; exit code 2."""
        said = message
        verbs = [] if self._subparsers is None else [v for v, _ in self._verbs()]
        if verbs and "arguments are required" in message:
            said = f"no verb is given: {', '.join(verbs)}"
        flags = self._unknown_flags()
        if flags and not message.startswith("unrecognized"):
            said += f"; unrecognized arguments: {' '.join(flags)}"
        meant = [
            near for flag in flags if (near := closest_match(flag, self._option_string_actions))
        ]
        meant += [near for word in self._words if verbs and (near := closest_match(word, verbs))][
            :1
        ]
        ask = f"Did you mean {' and '.join(meant)}? " if meant else ""
        raise UsageError(said, hint=f"{ask}Try: {self.prog} --help")

    def _verbs(self) -> Iterator[tuple[str, Any]]:
        for one in self._actions:
            if isinstance(one, argparse._SubParsersAction):
                yield from one.choices.items()

    def _unknown_flags(self) -> list[str]:
        """Return the flags among this parser's words that it does not have. Those behind a verb are the
        verb's."""
        flags = []
        verbs = {verb for verb, _ in self._verbs()}
        for word in self._words:
            if word == "--" or word in verbs:
                break
            name = word.partition("=")[0]
            if name.startswith("--") and name not in self._option_string_actions:
                flags.append(name)
        return flags


def closest_match(word: str, candidates: Iterable[str]) -> str | None:
    """Return which known word looks most like ``word``, None if none does and for a word that is known."""
    from difflib import get_close_matches

    names = {name.lstrip("-"): name for name in candidates}
    if word.lstrip("-") in names:
        return None
    near = get_close_matches(word.lstrip("-").replace("_", "-").lower(), names, n=1, cutoff=0.65)
    return names[near[0]] if near else None


def add_subcommands(parser: argparse.ArgumentParser) -> Any:
    """Return the place in ``parser`` where ``action`` adds what a noun can be told to do."""
    return parser.add_subparsers(metavar="VERB", required=True, title="verbs", parser_class=Parser)


def add_commands(parser: argparse.ArgumentParser, commands: CommandTable) -> Any:
    """Give ``parser`` its verbs, each imported only when it is chosen, and return their place."""
    group = add_subcommands(parser)
    for verb, (module, text) in commands.items():
        name = f"{__package__}.{module}"
        if find_spec(name) is not None:
            group.add_parser(verb, help=text, description=_sentence(text), module=name)
    return group


def add_subcommand(group: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    """Add one action of a noun (``jobs list``) to its subparsers and return its parser."""
    made: argparse.ArgumentParser = group.add_parser(name, help=text, description=_sentence(text))
    made.set_defaults(run=run)
    return made


def positive_int(text: str) -> int:
    """Read a number from 1 on, for argparse."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")
