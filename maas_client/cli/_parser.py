"""Argument parsers that import a command only when it is chosen, and the options common to all commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NoReturn

from maas_client.errors import ConfigError, MissingExtraError


class UsageError(ConfigError):
    """The command line cannot be parsed."""


CommandTable = Mapping[str, tuple[str, str]]
"""Command to (module of ``cli.commands``, help). The module has ``add(parser)`` and ``run(args)``."""


class Parser(argparse.ArgumentParser):
    """An argument parser with ``--json``, ``--backend`` and ``--url``, before or after a subcommand.

    ``module`` is imported, and its ``add(parser)`` called, when the command is chosen.
    """

    def __init__(self, *args: Any, module: str | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)
        self._module = module
        self._words: list[str] = []
        self.given: set[str] = set()
        self._similar_choice: str | None = None
        group = self.add_argument_group("common options")
        shared: dict[str, Any] = {"default": argparse.SUPPRESS}
        group.add_argument("--json", action="store_true", help="print JSON on stdout", **shared)
        group.add_argument(
            "--backend",
            choices=("local", "azureml", "foundry"),
            help="the backend to use (default: MAAS_BACKEND, else local)",
            **shared,
        )
        group.add_argument(
            "--profile",
            metavar="NAME",
            help="a profile of the configuration file (default: MAAS_PROFILE, else the file's)",
            **shared,
        )
        group.add_argument(
            "--url",
            help="URL of the local server (default: MAAS_URL, else your running server or a new one)",
            **shared,
        )

    def parse_known_args(  # type: ignore[override]  # typeshed has overloads for other namespaces
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Import the command, then parse. Unknown arguments are an error of this command, not of its parent."""
        self.load()
        self._words = list(sys.argv[1:] if args is None else args)
        self.given.clear()
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """Convert the values of an argument, and remember that an option was given."""
        if action.option_strings:
            self.given.add(action.dest)
        return super()._get_values(action, arg_strings)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Convert a value. An empty one of an option is refused: it would count as left out."""
        if not arg_string and action.option_strings:
            option = action.option_strings[-1]
            hint = (
                "Name a file."
                if action.metavar in ("FILE", "OUT")
                else "Pass a value, or leave out {}."
            )
            if action.dest == "name":
                hint = "Choose a name, or leave out {}."
            raise ConfigError(f"{option} is empty", hint=hint.format(option))
        return super()._get_value(action, arg_string)

    def format_help(self) -> str:
        """Return the help. Its usage line has what must be given; the other options are listed below it."""
        words = [self.prog, "[options]"]
        alternatives = [
            group._group_actions for group in self._mutually_exclusive_groups if group.required
        ]
        for actions in alternatives:
            words.append(f"({' | '.join(_describe_argument(a).strip('[]') for a in actions)})")
        others = [
            action for action in self._actions if not any(action in group for group in alternatives)
        ]
        words += [_describe_argument(a) for a in others if a.required and a.option_strings]
        words += [_describe_argument(a) for a in others if not a.option_strings]
        self.usage = " ".join(words)
        return super().format_help()

    def load(self) -> None:
        """Import the command's module and add its arguments, unless that is done."""
        if self._module:
            command, self._module = import_module(self._module), None
            if hasattr(command, "run"):
                self.set_defaults(run=command.run, parser=self)
            command.add(self)

    def error(self, message: str) -> NoReturn:
        """Raise ``UsageError`` with suggestions for misspelled flags and commands, and the help command."""
        commands = [] if self._subparsers is None else [name for name, _ in self._subcommands()]
        if commands and "arguments are required" in message:
            if not self._words:
                self.print_help(sys.stderr)
            message = f"no command given: {', '.join(commands)}"
        flags = self._unknown_flags()
        if flags and not message.startswith("unrecognized"):
            message += f"; unrecognized arguments: {' '.join(flags)}"
        matches = [_find_option(flag, self._option_string_actions) for flag in flags]
        suggestions = " and ".join(filter(None, [*matches, self._similar_choice]))
        question = f"Did you mean {suggestions}? " if suggestions else ""
        raise UsageError(message, hint=f"{question}Try: {self.prog} --help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        choices = [str(choice) for choice in action.choices or ()]
        self._similar_choice = closest_match(str(value), choices)
        if isinstance(action, argparse._SubParsersAction):
            meant = _OTHER_NAMES.get(str(value).lower(), ())
            known = [name for name in meant if name in (*choices, *self._option_string_actions)]
            self._similar_choice = known[0] if known else self._similar_choice
        super()._check_value(action, value)

    def _subcommands(self) -> Iterator[tuple[str, Any]]:
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                yield from action.choices.items()

    def _unknown_flags(self) -> list[str]:
        """Return the flags that this parser does not know, up to the subcommand."""
        flags = []
        commands = {name for name, _ in self._subcommands()}
        for word in self._words:
            if word == "--" or word in commands:
                break
            name = word.partition("=")[0]
            is_flag = name.startswith("-") and not name[1:2].isdigit() and name != "-"
            if is_flag and name not in self._option_string_actions:
                flags.append(name)
        return flags


_OTHER_NAMES = {
    other: names
    for names, others in {
        ("--help",): "help",
        ("--version",): "version",
        ("chat",): "ask infer predict complete",
        ("config",): "settings env",
        ("delete",): "rm remove del drop",
        ("deployments", "create"): "deploy",
        ("cancel", "complete", "delete"): "stop kill abort end",
        ("create", "upload", "fine-tune"): "start new add run submit train",
        ("list",): "ls",
        ("open",): "ui web page browser",
        ("pull",): "download get-weights",
        ("serve",): "server start-server",
        ("show",): "status get info describe view",
        ("validate",): "check lint verify",
        ("watch",): "follow wait tail",
    }.items()
    for other in others.split()
}
"""What other programs call a command, and its names here, of which the first that exists is suggested."""


def _describe_argument(action: argparse.Action) -> str:
    """Return an argument as in a usage line: ``--model MODEL``, ``FILE``, ``[FILE ...]``."""
    name = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if action.option_strings:
        return (
            action.option_strings[-1]
            if action.nargs == 0
            else f"{action.option_strings[-1]} {name}"
        )
    return {"?": f"[{name}]", "*": f"[{name} ...]", argparse.PARSER: f"{name} ..."}.get(
        str(action.nargs), name
    )


class PrintCompletion(argparse.Action):
    """``--print-completion SHELL``: print the completion script of the whole command line."""

    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, **kwargs)

    def __call__(self, parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> NoReturn:
        """Print the script for the shell that is named, and exit."""
        if find_spec("shtab") is None:
            raise MissingExtraError(
                "completion scripts need the package shtab",
                extra="completion",
                hint="Install it with: pip install 'maas-client[completion]'",
            )
        shtab: Any = import_module("shtab")
        _load_commands(parser, shtab.FILE)
        print(shtab.complete(parser, args[1]))
        parser.exit()


def _load_commands(parser: argparse.ArgumentParser, file_completion: Any) -> None:
    """Import all commands of a parser, and mark the arguments that are files."""
    if isinstance(parser, Parser):
        parser.load()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                _load_commands(subparser, file_completion)
        elif action.metavar in ("FILE", "DATA", "FOLDER", "DIR"):
            vars(action)["complete"] = file_completion


def closest_match(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate most similar to ``word``; None if none is similar or ``word`` is a candidate."""
    from difflib import get_close_matches

    names = {name.lstrip("-"): name for name in candidates}
    if word.lstrip("-") in names:
        return None
    matches = get_close_matches(word.lstrip("-").replace("_", "-").lower(), names, n=1, cutoff=0.65)
    return names[matches[0]] if matches else None


def _find_option(flag: str, options: Iterable[str]) -> str | None:
    """Return the option that a misspelled, abbreviated or foreign flag stands for; None if none is similar."""
    from maas_client._hyperparameter_table import HYPERPARAMETERS

    options = list(options)
    name = flag.lstrip("-").replace("_", "-").lower()
    for spec in HYPERPARAMETERS.values():
        words = spec.name.split("_")
        initials = "".join(word[0] for word in words) if min(map(len, words)) > 1 else ""
        other_names = (spec.azureml_name, spec.foundry_name, len(words) > 1 and initials)
        if spec.flag in options and name in {str(n).replace("_", "-") for n in other_names if n}:
            return spec.flag
    return closest_match(flag, options)


def add_subcommands(parser: argparse.ArgumentParser) -> Any:
    """Add a required subcommand to ``parser`` and return the group for ``add_subcommand``."""
    return parser.add_subparsers(
        metavar="COMMAND", required=True, title="commands", parser_class=Parser
    )


def add_commands(parser: argparse.ArgumentParser, commands: CommandTable) -> Any:
    """Add commands whose modules are imported only when chosen, and return their group."""
    group = add_subcommands(parser)
    for command, (module, text) in commands.items():
        name = f"{__package__}.commands.{module}"
        if find_spec(name) is not None:
            group.add_parser(command, help=text, description=_sentence(text), module=name)
    return group


def add_subcommand(group: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    """Add one subcommand (``list`` of ``jobs list``) and return its parser."""
    parser: argparse.ArgumentParser = group.add_parser(name, help=text, description=_sentence(text))
    parser.set_defaults(run=run, parser=parser)
    return parser


def refuse_unused(args: argparse.Namespace, reason: str, names: Iterable[str], hint: str) -> None:
    """Raise ``ConfigError`` for the first option that is given and would have no effect.

    Args:
        args: The parsed arguments of a command.
        reason: Why: ``with --stop``, ``without --fix``. It completes the message.
        names: The attributes of the options that would have no effect.
        hint: What to do; ``{}`` stands for the option.
    """
    names = set(names)
    for option in args.parser._actions:
        # A common option may stand before the command, whose parser did not see it.
        is_common = option.default == argparse.SUPPRESS and bool(getattr(args, option.dest, None))
        if option.dest in names and (is_common or option.dest in args.parser.given):
            flag = option.option_strings[-1]
            raise ConfigError(f"{flag} has no effect {reason}", hint=hint.format(flag))


def group_options(args: argparse.Namespace, *titles: str) -> list[str]:
    """Return the attributes of all options in the groups of a command's help that have these titles."""
    groups = (group for group in args.parser._action_groups if group.title in titles)
    return [option.dest for group in groups for option in group._group_actions]


def positive_int(text: str) -> int:
    """Parse a whole number of at least 1, for argparse."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def whole_number(text: str) -> int:
    """Parse a whole number of at least 0, for argparse."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def seconds(text: str) -> float:
    """Parse a time of at least 0 seconds, for argparse; ``inf`` is no limit."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds of at least 0")
    return value


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")
