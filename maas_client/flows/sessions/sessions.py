"""``client.sessions``: the sessions of interactive training and their checkpoints.

What trains a session and samples from it: ``flows/sessions/training.py``.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from typing import Any, Literal

from maas_client._display.interrupts import explain_interrupt
from maas_client._messages import Argument, Call, Text
from maas_client.errors import ConfigError, MaasError, NotFoundError, ServiceError
from maas_client.flows._arm import is_transient
from maas_client.flows._io import IO
from maas_client.flows.sessions import requests
from maas_client.types import Session, SessionCheckpoint
from maas_client.wire import sessions as wire
from maas_client.wire.parsing import parse_item, parse_time, translate_parse_errors

CREATE_TIMEOUT_S = 600.0
_PAGE_SIZE = 100
_DONE = frozenset({"succeeded", "failed"})
_log = logging.getLogger("maas_client")


async def create(
    io: IO,
    model: str,
    *,
    lora_rank: int,
    lora_alpha: float | None = None,
    seed: int | None = None,
    training_type: str | None = None,
    metadata: dict[str, Any] | None = None,
    timeout: float = CREATE_TIMEOUT_S,
) -> Session:
    """Create a session and return once its model is loaded.

    On Azure a session costs money while it is loaded. Use the result in a ``with`` block, which sends
    heartbeats in the background and completes the session at its end. The request is sent once.

    Args:
        model: The base model's name.
        lora_rank: The rank of the adapter.
        lora_alpha: The adapter's scale is this divided by the rank. Default: the service's, 32.
        seed: The seed of the adapter's first weights. Default: the service picks one.
        training_type: The tier: ``GlobalStandard``, ``DatazoneStandard`` or ``DeveloperTier``; other texts
            are sent as they are. Default: the service's choice.
        metadata: Values to store with the session; default: none.
        timeout: Seconds until the model must be loaded; default: 600.

    Returns:
        The session.

    Raises:
        ConfigError: An argument is invalid, or the endpoint is not that of a project.
        UnsupportedError: The backend has no sessions, or Azure does not train the model in them.
        TransportError: No response arrived, so a session may exist; or the model was not loaded in time.
        ServiceError: The model could not be loaded.

    Example:
        >>> with client.sessions.create("Qwen3.8-27B", lora_rank=16) as session:
        ...     client.sessions.forward_backward(session, examples)
    """
    return await _create(
        io,
        model,
        timeout,
        lora_config={"rank": lora_rank, "alpha": lora_alpha, "seed": seed},
        training_type=training_type,
        user_metadata=metadata,
    )


async def load(
    io: IO,
    checkpoint: SessionCheckpoint | str,
    *,
    lora_alpha: float | None = None,
    training_type: str | None = None,
    metadata: dict[str, Any] | None = None,
    timeout: float = CREATE_TIMEOUT_S,
) -> Session:
    """Create a session that continues from a training checkpoint: its adapter, optimizer and step.

    Base model and rank are the checkpoint's. The request is sent once.

    Args:
        checkpoint: A checkpoint of kind ``training``, or ``SESSION/NAME``.
        lora_alpha: As for ``create``. The service does not report the checkpoint's, so give the same.
        training_type: As for ``create``.
        metadata: As for ``create``.
        timeout: Seconds until the model must be loaded; default: 600.

    Returns:
        The new session.

    Raises:
        ConfigError: The checkpoint is not a training checkpoint.
        NotFoundError: There is no such checkpoint.
        TransportError: No response arrived, so a session may exist; or the model was not loaded in time.

    Example:
        >>> session = client.sessions.load("session_1a2b/step-100")
    """
    session, name = requests.split_checkpoint(checkpoint)
    if isinstance(checkpoint, SessionCheckpoint) and checkpoint.kind != "training":
        raise ConfigError(
            f"checkpoint {name!r} is of kind {checkpoint.kind}, which has no optimizer",
            hint=Text.format("Save one with {}.", Call("sessions.save", "session", "name")),
        )
    info = await get_checkpoint(io, session, name)
    return await _create(
        io,
        info.base_model or "",
        timeout,
        lora_config={"rank": info.lora_rank, "alpha": lora_alpha},
        from_checkpoint={"source_session_id": session, "checkpoint_id": name},
        training_type=training_type,
        user_metadata=metadata,
    )


async def _create(io: IO, model: str, timeout_s: float, **fields: Any) -> Session:
    requests.check_backend(io)
    base_model = await requests.resolve_model(io, model)
    body = requests.build(wire.CreateSession, {"base_model": base_model, **fields})
    accepted = await requests.submit(
        io,
        wire.SESSION_CREATE,
        body.dump(),
        unknown_hint=Text.format("Look for it: {}.", Call("sessions.list")),
    )
    session = accepted.session_id
    if not session:
        raise ServiceError(
            "sessions.create: the response names no session", operation=wire.SESSION_CREATE.name
        )
    _log.info("session %s is created; waiting until its model is loaded", session)
    delete = Call("sessions.delete", repr(session))
    note = f"interrupted: the session is loaded without this program and may cost money; {delete} deletes it"
    try:
        with explain_interrupt(lambda: note):
            await requests.wait(io, wire.SESSION_CREATE, session, accepted.request_id, timeout_s)
            return await get(io, session)
    except MaasError as error:
        if is_transient(error):
            error.hint = Text.format(
                "The session exists and may cost money. Delete it: {}.", delete
            )
        raise


async def get(io: IO, session: Session | str) -> Session:
    """Return the current state of a session.

    Args:
        session: A session or its id.

    Returns:
        The session. It can be used in a ``with`` block.

    Raises:
        NotFoundError: There is no such session.

    Example:
        >>> client.sessions.get("session_1a2b").status
        'running'
    """
    response = await requests.send(io, wire.SESSION_GET, session=requests.path_id(session))
    return _to_session(response.value)


async def list_all(io: IO) -> AsyncGenerator[Session, None]:
    """Iterate over all sessions of the project. Further pages are requested as needed.

    Yields:
        The sessions, those that have ended too.

    Example:
        >>> [session.id for session in client.sessions.list() if not session.done]
        ['session_1a2b']
    """
    requests.check_backend(io)
    offset = 0
    while True:
        query = {"limit": str(_PAGE_SIZE), "offset": str(offset)}
        page = (await requests.send(io, wire.SESSION_LIST, query=query)).value
        for item in page.data:
            yield _to_summary(parse_item(wire.SESSION_LIST, wire.SessionSummary, item))
        offset += len(page.data)
        if not page.data or offset >= page.cursor.total_count:
            return


async def delete(io: IO, session: Session | str) -> None:
    """Delete a session with its checkpoints. A session that does not exist counts as deleted.

    Args:
        session: A session or its id.

    Raises:
        PermissionDeniedError: The identity may not delete it.

    Example:
        >>> client.sessions.delete("session_1a2b")
    """
    try:
        await requests.send(io, wire.SESSION_DELETE, session=requests.path_id(session))
    except NotFoundError:
        _log.info("session %s does not exist", requests.path_id(session))


async def heartbeat(io: IO, session: Session | str) -> None:
    """Tell the service that the session is in use. A ``with`` block does it in the background.

    Args:
        session: A session or its id.

    Raises:
        NotFoundError: There is no such session.
        ConflictError: The session has ended.

    Example:
        >>> client.sessions.heartbeat(session)
    """
    await requests.send(io, wire.SESSION_HEARTBEAT, session=requests.path_id(session))


async def complete(io: IO, session: Session | str, *, timeout: float = CREATE_TIMEOUT_S) -> None:
    """End a session: its model is unloaded, and its checkpoints stay. What was not saved is lost.

    Args:
        session: A session or its id.
        timeout: Seconds until it must be unloaded; default: 600.

    Raises:
        NotFoundError: There is no such session.

    Example:
        >>> client.sessions.complete(session)
    """
    path_id = requests.path_id(session)
    response = await requests.send(io, wire.SESSION_COMPLETE, session=path_id)
    request = response.value.get("request_id")
    if isinstance(request, str) and request:
        await requests.wait(io, wire.SESSION_COMPLETE, path_id, request, timeout)


async def save(
    io: IO,
    session: Session | str,
    name: str,
    *,
    kind: Literal["training", "sampler"] = "training",
    step: int | None = None,
    metrics: dict[str, Any] | None = None,
    timeout: float = requests.REQUEST_TIMEOUT_S,
) -> SessionCheckpoint:
    """Save a checkpoint and return once it is complete.

    The request is sent once.

    Args:
        session: A session or its id.
        name: The checkpoint's name: up to 255 letters, digits, hyphens and underscores.
        kind: ``training``: adapter and optimizer, for ``load``. ``sampler``: the adapter, for ``sample``.
            Default: ``training``.
        step: The number of the step, stored with the checkpoint (``training`` only); default: none.
        metrics: Metrics to store with the checkpoint (``training`` only); default: none.
        timeout: Seconds until it must be saved; default: 3600.

    Returns:
        The checkpoint.

    Raises:
        ConfigError: The name is invalid, or ``step`` or ``metrics`` is given for ``sampler``.
        NotFoundError: There is no such session.
        ConflictError: The session has ended.
        TransportError: No response arrived, so the checkpoint may exist.

    Example:
        >>> checkpoint = client.sessions.save(session, "step-1", kind="sampler")
    """
    path_id = requests.path_id(session)
    if kind not in ("training", "sampler"):
        raise ConfigError(
            Text.format("unknown {}: {!r}", Argument("kind"), kind), hint="Use training or sampler."
        )
    if kind == "sampler":
        if step is not None or metrics is not None:
            raise ConfigError(
                "sampler checkpoints store neither a step nor metrics",
                hint=Text.format("Leave out {} and {}.", Argument("step"), Argument("metrics")),
            )
        operation, body = wire.SAMPLER_SAVE, requests.build(wire.SaveSampler, {"path": name}).dump()
    else:
        fields = {"path": name, "step_number": step, "metrics": metrics}
        operation, body = wire.CHECKPOINT_SAVE, requests.build(wire.SaveCheckpoint, fields).dump()
    look = Call("sessions.checkpoints", repr(path_id))
    hint = Text.format("Look for the checkpoint: {}.", look)
    _, result = await requests.run(io, operation, path_id, body, timeout, unknown_hint=hint)
    checkpoint_id = result.get("checkpoint_id")
    return SessionCheckpoint(
        id=checkpoint_id if isinstance(checkpoint_id, str) and checkpoint_id else name,
        session=path_id,
        kind=kind,
        raw=result,
    )


async def checkpoints(io: IO, session: Session | str) -> AsyncGenerator[SessionCheckpoint, None]:
    """Iterate over the checkpoints of a session.

    Args:
        session: A session or its id. It may have ended.

    Yields:
        Training and sampler checkpoints.

    Example:
        >>> [checkpoint.id for checkpoint in client.sessions.checkpoints(session)]
        ['step-1']
    """
    path_id = requests.path_id(session)
    for item in (await requests.send(io, wire.CHECKPOINT_LIST, session=path_id)).value.checkpoints:
        value = parse_item(wire.CHECKPOINT_LIST, wire.Checkpoint, item)
        yield SessionCheckpoint(
            id=value.checkpoint_id,
            session=path_id,
            kind=value.checkpoint_type,
            created_at=parse_time(value.time),
            raw=value.dump(),
        )


async def get_checkpoint(io: IO, session: Session | str, name: str) -> SessionCheckpoint:
    """Return a checkpoint with its base model and rank.

    Args:
        session: A session or its id. It may have ended.
        name: The checkpoint's name.

    Returns:
        The checkpoint.

    Raises:
        NotFoundError: There is no such checkpoint.

    Example:
        >>> client.sessions.get_checkpoint(session, "step-1").lora_rank
        16
    """
    path_id = requests.path_id(session)
    info = (await requests.send(io, wire.CHECKPOINT_GET, session=path_id, checkpoint=name)).value
    found = [item async for item in checkpoints(io, path_id) if item.id == name]
    listed = next((item for item in found if item.kind == "training"), found[0] if found else None)
    return SessionCheckpoint(
        id=name,
        session=path_id,
        kind=listed.kind if listed else "training",
        created_at=listed.created_at if listed else None,
        base_model=info.base_model,
        lora_rank=info.lora_rank,
        raw=info.dump(),
    )


@translate_parse_errors("sessions.get")
def _to_session(value: wire.Session) -> Session:
    return Session(
        id=value.session_id,
        base_model=value.model_data.base_model,
        status=value.status,
        done=value.status.lower() in _DONE,
        lora_rank=value.model_data.lora_config.get("rank"),
        raw=value.dump(),
    )


@translate_parse_errors("sessions.list")
def _to_summary(value: wire.SessionSummary) -> Session:
    return Session(
        id=value.session_id,
        base_model=value.base_model,
        status=value.status,
        done=value.status.lower() in _DONE,
        lora_rank=value.lora_rank,
        corrupted=value.corrupted,
        last_request_at=parse_time(value.last_request_time),
        raw=value.dump(),
    )
