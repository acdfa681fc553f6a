"""``maas-client chat``: ask a deployment, once or in a talk."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from maas_client.cli import _connection, _messages
from maas_client.cli._output import print_json, print_note, strip_control_chars
from maas_client.errors import ConfigError, MaasError

if TYPE_CHECKING:
    from maas_client import Client

Messages = list[dict[str, str]]


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("deployment", metavar="DEPLOYMENT", help="its name")
    parser.add_argument(
        "message",
        metavar="MESSAGE",
        nargs="?",
        help="asks once; without it, a talk on a terminal, or all of stdin as the message",
    )
    parser.add_argument("--system", metavar="TEXT", help="what the model is told first")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="the longest answer")
    parser.add_argument("--temperature", type=float, metavar="X", help="0: always the likeliest")
    parser.add_argument("--top-p", type=float, metavar="X",
                        help="draw from the likeliest tokens that make up this share")  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N", help="the same draws for the same number")
    parser.add_argument(
        "--stop", action="append", metavar="TEXT", help="end there (may be repeated)"
    )
    parser.add_argument(
        "--no-stream", action="store_true", help="print the answer when it is whole"
    )
    _connection.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Answer one message, or talk until Ctrl-D."""
    message = args.message
    talk = message is None and sys.stdin.isatty()
    if message is None and not talk:
        message = sys.stdin.read().removesuffix("\n").removesuffix("\r")  # echo's own
    if talk and args.json:
        raise ConfigError("--json needs a message", hint="Give it as an argument or on stdin.")
    if message is not None and not message.strip():
        raise ConfigError("the message is empty", hint="Give it as an argument or on stdin.")
    begin: Messages = [{"role": "system", "content": args.system}] if args.system else []
    with _connection.connect(args) as client:
        if talk:
            return _talk(args, client, begin)
        return _once(args, client, [*begin, {"role": "user", "content": message}])


def _once(args: argparse.Namespace, client: Client, messages: Messages) -> int:
    if args.json:
        print_json(client.chat.complete(args.deployment, messages, **_options(args)))
        return 0
    for piece in _stream_text(args, client, messages):
        print(_sanitize(piece), end="", flush=True)
    print()
    return 0


def _sanitize(piece: str) -> str:
    """Return a piece of an answer: what a model makes up cannot move the cursor; a pipe gets every byte."""
    return strip_control_chars(piece.replace("\r", "")) if sys.stdout.isatty() else piece


def _talk(args: argparse.Namespace, client: Client, messages: Messages) -> int:
    """Keep the whole talk; Ctrl-C ends an answer, Ctrl-D the talk."""
    client.deployments.get(
        args.deployment
    )  # a name that is not there is said before the first question
    print_note("Ctrl-C ends an answer, Ctrl-D the talk.")
    while True:
        try:
            asked = input("> ")
        except EOFError:
            print()
            return 0
        except KeyboardInterrupt:
            print()
            continue
        if not asked.strip():
            continue
        said = _print_answer(args, client, [*messages, {"role": "user", "content": asked}])
        if said:
            messages += [
                {"role": "user", "content": asked},
                {"role": "assistant", "content": said},
            ]


def _print_answer(args: argparse.Namespace, client: Client, messages: Messages) -> str:
    """Print an answer and return as much of it as came."""
    said = ""
    try:
        for piece in _stream_text(args, client, messages):
            said += piece
            print(_sanitize(piece), end="", flush=True)
    except KeyboardInterrupt:
        print(" ...", end="")
    except MaasError as error:  # the talk goes on
        print_note(f"error: {_messages.full_error(error)}")
    print()
    return said


def _stream_text(args: argparse.Namespace, client: Client, messages: Messages) -> Iterator[str]:
    if args.no_stream:
        reply = client.chat.complete(args.deployment, messages, **_options(args))
        yield _text(reply.choices[0].message)
        return
    with closing(client.chat.stream(args.deployment, messages, **_options(args))) as chunks:
        for chunk in chunks:
            if chunk.choices:
                yield _text(chunk.choices[0].delta)


def _text(part: Any) -> str:
    """Return a message's or a delta's text; a tool call is its name and its arguments."""
    said: str = part.content or ""
    for call in part.tool_calls or ():
        said += (f"\n{call.function.name} " if call.function.name else "") + call.function.arguments
    return said


def _options(args: argparse.Namespace) -> dict[str, Any]:
    names = ("max_tokens", "temperature", "top_p", "seed", "stop")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}
