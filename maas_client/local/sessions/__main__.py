"""A session's process: ``python -m maas_client.local.sessions``.

Reads JSON lines: first ``{"id", "op": "load", ...}`` (``SessionEngine``), then one request after the other,
with ``op`` forward_backward, forward, optim_step, save_checkpoint, save_sampler or sample. Writes
``{"id", "result"}`` or ``{"id", "error": {"code", "message"}}`` for each. The end of stdin means that the
server has ended or has unloaded the session; then this process ends at once: folders are complete or absent.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from maas_client.local.generate.__main__ import Inbox, read_messages, redirect_stdout, write_lines

Handler = Callable[[dict[str, Any]], dict[str, Any]]


def main() -> int:
    """Carry out requests until stdin closes."""
    output = redirect_stdout()
    inbox: Inbox = Inbox()
    threading.Thread(target=read_messages, args=(sys.stdin.buffer, inbox), daemon=True).start()
    load = inbox.get()

    import torch

    from maas_client.local.sessions.engine import InvalidRequestError, SessionEngine

    handlers: dict[str, Handler] = {}

    def handle(message: dict[str, Any]) -> dict[str, Any]:
        if message["op"] == "load":
            torch.set_num_threads(message["threads"])
            engine = SessionEngine(message)
            handlers.update(
                forward_backward=engine.forward_backward,
                forward=engine.forward,
                optim_step=engine.optim_step,
                save_checkpoint=engine.save_checkpoint,
                save_sampler=engine.save_sampler,
                sample=engine.sample,
            )
            return {"step": engine.step}
        return handlers[message["op"]](message)

    message = load
    while True:
        try:
            line: dict[str, Any] = {"id": message["id"], "result": handle(message)}
        except InvalidRequestError as error:
            line = {
                "id": message["id"],
                "error": {"code": "invalid_request", "message": str(error)},
            }
        except Exception as error:
            from maas_client.local.resources.errors import describe_failure, failure_message

            traceback.print_exc()
            is_memory = "Memory ran out" in (failure_message(error) or "")
            code = "engine_oom" if is_memory else "internal_error"
            line = {
                "id": message["id"],
                "error": {"code": code, "message": describe_failure(error)},
            }
        write_lines(output, [line])
        message = inbox.get()


if __name__ == "__main__":
    sys.exit(main())
