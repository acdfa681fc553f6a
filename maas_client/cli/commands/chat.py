"""``maas-client chat``: send one message to a deployment, or chat with it interactively."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from maas_client.cli import _connection, _messages
from maas_client.cli._output import print_json, print_note, strip_control_chars
from maas_client.errors import ConfigError, MaasError
from maas_client.wire.statuses import SIMULATED_FINGERPRINT

if TYPE_CHECKING:
    from maas_client import Client
    from maas_client.types import ChatChunk, ChatCompletion

Messages = list[dict[str, str]]


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("deployment", metavar="DEPLOYMENT", help="name of the deployment")
    parser.add_argument(
        "message",
        metavar="MESSAGE",
        nargs="?",
        help="message to send; without it, an interactive chat on a terminal, else standard input",
    )
    parser.add_argument("--system", metavar="TEXT", help="system message")
    parser.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help="longest answer, in tokens (default: the service's)",
    )
    parser.add_argument("--temperature", type=float, metavar="X",
                        help="sampling temperature; 0 always takes the likeliest token (default: the "
                        "service's, usually 1)")  # fmt: skip
    parser.add_argument("--top-p", type=float, metavar="X",
                        help="sample from the likeliest tokens with this total probability (default: the "
                        "service's, usually 1)")  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N",
                        help="sampling seed; the same seed gives the same answer (default: a new "
                        "one)")  # fmt: skip
    parser.add_argument("--stop", action="append", metavar="TEXT",
                        help="end the answer at this text (repeatable)")  # fmt: skip
    parser.add_argument("--no-stream", action="store_true",
                        help="print the answer when it is complete")  # fmt: skip
    _connection.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Answer one message, or chat until Ctrl-D."""
    message = args.message
    if message is None and sys.stdin is None:
        raise ConfigError("standard input is closed", hint="Pass the message as an argument.")
    interactive = message is None and sys.stdin.isatty()
    if message is None and not interactive:
        # Without the newline that echo adds.
        message = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if interactive and args.json:
        raise ConfigError("--json needs a message", hint="Pass it as an argument or on stdin.")
    if message is not None and not message.strip():
        raise ConfigError("the message is empty", hint="Pass it as an argument or on stdin.")
    messages: Messages = [{"role": "system", "content": args.system}] if args.system else []
    with _connection.connect(args) as client:
        if interactive:
            return _chat(args, client, messages)
        return _send_one(args, client, [*messages, {"role": "user", "content": message}])


def _send_one(args: argparse.Namespace, client: Client, messages: Messages) -> int:
    if args.json:
        print_json(client.chat.complete(args.deployment, messages, **_options(args)))
        return 0
    for text in _stream_text(args, client, messages):
        print(_sanitize(text), end="", flush=True)
    print()
    return 0


def _sanitize(text: str) -> str:
    """Return a part of an answer, without control characters on a terminal; a pipe gets every byte."""
    return strip_control_chars(text.replace("\r", "")) if sys.stdout.isatty() else text


def _chat(args: argparse.Namespace, client: Client, messages: Messages) -> int:
    """Chat and keep the history. Ctrl-C ends an answer, Ctrl-D the chat."""
    client.deployments.get(args.deployment)  # report an unknown name before the first question
    print_note("Ctrl-C ends an answer, Ctrl-D ends the chat.")
    while True:
        try:
            question = input("> ")
        except EOFError:
            print()
            return 0
        except KeyboardInterrupt:
            print()
            continue
        if not question.strip():
            continue
        answer = _print_answer(args, client, [*messages, {"role": "user", "content": question}])
        if answer:
            messages += [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]


def _print_answer(args: argparse.Namespace, client: Client, messages: Messages) -> str:
    """Print an answer and return it, up to an interrupt or error."""
    answer = ""
    try:
        for text in _stream_text(args, client, messages):
            answer += text
            print(_sanitize(text), end="", flush=True)
    except KeyboardInterrupt:
        print(" ...", end="")
    except MaasError as error:  # does not end the chat
        print_note(f"error: {_messages.full_error(error)}")
    print()
    return answer


def _stream_text(args: argparse.Namespace, client: Client, messages: Messages) -> Iterator[str]:
    if args.no_stream:
        reply = client.chat.complete(args.deployment, messages, **_options(args))
        _note_simulated(reply)
        yield _text(reply.choices[0].message)
        return
    with closing(client.chat.stream(args.deployment, messages, **_options(args))) as chunks:
        is_first = True
        for chunk in chunks:
            if chunk.choices:  # Azure OpenAI's first chunk has none, and no fingerprint
                if is_first:
                    _note_simulated(chunk)
                is_first = False
                yield _text(chunk.choices[0].delta)


def _note_simulated(reply: ChatCompletion | ChatChunk) -> None:
    if reply.system_fingerprint == SIMULATED_FINGERPRINT:
        print_note("simulated answer: the instant engine runs no model")


def _text(part: Any) -> str:
    """Return the text of a message or delta; a tool call is shown as its name and arguments."""
    text: str = part.content or ""
    for call in part.tool_calls or ():
        text += (f"\n{call.function.name} " if call.function.name else "") + call.function.arguments
    return text


def _options(args: argparse.Namespace) -> dict[str, Any]:
    names = ("max_tokens", "temperature", "top_p", "seed", "stop")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}
