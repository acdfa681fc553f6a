"""A session in its process: a worker (``maas_client.local.worker``) whose first message is ``load``.

Takes one request after the other, with ``op`` forward_backward, forward, optim_step, save_checkpoint,
save_sampler or sample, and writes ``{"id", "result"}`` or ``{"id", "error": {"code", "message"}}`` for each.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

from maas_client.local.resources.errors import describe_failure, failure_message

Handler = Callable[[dict[str, Any]], dict[str, Any]]


def run(load: dict[str, Any], next_message: Callable[[], dict[str, Any]], out: TextIO) -> NoReturn:
    """Load the session's model, then carry out requests until the process ends."""
    handlers: dict[str, Handler] = {}
    message = load
    while True:
        out.write(json.dumps({"id": message["id"], **_answer(message, handlers)}) + "\n")
        out.flush()
        message = next_message()


def _answer(message: dict[str, Any], handlers: dict[str, Handler]) -> dict[str, Any]:
    from maas_client.local.sessions.losses import InvalidRequestError

    try:
        if message["op"] == "load":
            return {"result": _load(message, handlers)}
        return {"result": handlers[message["op"]](message)}
    except InvalidRequestError as error:
        return {"error": {"code": "invalid_request", "message": str(error)}}
    except Exception as error:
        traceback.print_exc()
        is_memory = "Memory ran out" in (failure_message(error) or "")
        code = "engine_oom" if is_memory else "internal_error"
        return {"error": {"code": code, "message": describe_failure(error)}}


def _load(message: dict[str, Any], handlers: dict[str, Handler]) -> dict[str, Any]:
    import torch

    from maas_client.local.sessions.engine import SessionEngine

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
