"""``Client`` and ``AsyncClient``: the verbs of ``flows`` as methods.

Each method is a flow whose first argument, the connection, is filled in: one implementation, one signature
and one docstring for both clients. ``Client`` runs the flow to its end over a blocking HTTP client,
``AsyncClient`` awaits it. To add a verb: write it in its module in ``flows``, in both backends, and add a
line to both classes here.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import aclosing
from types import FunctionType
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, cast

from maas_client._argument_types import check_arguments
from maas_client._connect import Constructors
from maas_client._connect.options import ConnectionOptions, build_connection, describe
from maas_client._messages import Constructor, Text
from maas_client._transport import AsyncHttpClient, SyncHttpClient, Transport, run_sync
from maas_client._transport.heartbeats import AsyncKeepAlive, KeepAlive
from maas_client.errors import ConfigError
from maas_client.flows import chat, datasets, deployments, evaluation, job_events, jobs, models
from maas_client.flows._io import IO
from maas_client.flows.export import export as export_job
from maas_client.flows.fine_tune import fine_tune as fine_tune_flow
from maas_client.flows.sessions import sessions
from maas_client.flows.sessions import training as session_training
from maas_client.types import Deployment, FineTuneResult, Session

__all__ = [
    "AsyncChat",
    "AsyncClient",
    "AsyncDatasets",
    "AsyncDeployments",
    "AsyncJobs",
    "AsyncModels",
    "AsyncSessions",
    "Chat",
    "Client",
    "Datasets",
    "Deployments",
    "Jobs",
    "Models",
    "Sessions",
]

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M")
Flow = Callable[Concatenate[IO, P], Coroutine[Any, Any, T]]
GeneratorFlow = Callable[Concatenate[IO, P], AsyncGenerator[T, None]]


class _HasIO(Protocol):
    """What a method needs of its object: the connection."""

    _io: Any


def sync_method(
    flow: Flow[P, T], after: Callable[[Any, T], T] | None = None
) -> Callable[Concatenate[_HasIO, P], T]:
    """Turn a flow into a blocking method; ``after`` may change what it returns."""

    def method(self: _HasIO, /, *args: P.args, **kwargs: P.kwargs) -> T:
        check_arguments(flow, (self._io, *args), kwargs, name=method.__qualname__)
        value = run_sync(flow(self._io, *args, **kwargs))
        return value if after is None else after(self, value)

    return _copy_signature(method, flow)


def async_method(
    flow: Flow[P, T], after: Callable[[Any, T], T] | None = None
) -> Callable[Concatenate[_HasIO, P], Coroutine[Any, Any, T]]:
    """Turn a flow into a coroutine method; ``after`` may change what it returns."""

    async def method(self: _HasIO, /, *args: P.args, **kwargs: P.kwargs) -> T:
        check_arguments(flow, (self._io, *args), kwargs, name=method.__qualname__)
        value = await flow(self._io, *args, **kwargs)
        return value if after is None else after(self, value)

    return _copy_signature(method, flow)


def sync_iterator(
    flow: GeneratorFlow[P, T], after: Callable[[Any, T], T] | None = None
) -> Callable[Concatenate[_HasIO, P], Generator[T, None, None]]:
    """Turn a flow that yields into a generator method; ``after`` may change what it yields."""

    def method(self: _HasIO, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        check_arguments(flow, (self._io, *args), kwargs, name=method.__qualname__)
        values = flow(self._io, *args, **kwargs)
        try:
            while True:
                try:
                    value = run_sync(values.__anext__())
                except StopAsyncIteration:
                    return
                yield value if after is None else after(self, value)
        finally:
            run_sync(values.aclose())

    return _copy_signature(method, flow, is_sync_iterator=True)


def async_iterator(
    flow: GeneratorFlow[P, T], after: Callable[[Any, T], T] | None = None
) -> Callable[Concatenate[_HasIO, P], AsyncGenerator[T, None]]:
    """Turn a flow that yields into an async generator method; ``after`` may change what it yields."""

    def method(self: _HasIO, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        check_arguments(flow, (self._io, *args), kwargs, name=method.__qualname__)
        values = flow(self._io, *args, **kwargs)
        return values if after is None else _map(values, lambda value: after(self, value))

    return _copy_signature(method, flow)


async def _map(
    values: AsyncGenerator[T, None], function: Callable[[T], T]
) -> AsyncGenerator[T, None]:
    async with aclosing(values):
        async for value in values:
            yield function(value)


def _copy_signature(method: M, flow: Callable[..., Any], *, is_sync_iterator: bool = False) -> M:
    """Give the method the flow's docstring and signature, with ``self`` in place of the connection."""
    functools.update_wrapper(cast("Callable[..., Any]", method), flow)
    signature = inspect.signature(flow)
    _, *parameters = signature.parameters.values()
    self_parameter = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    returns = signature.return_annotation
    if is_sync_iterator:
        returns = returns.replace("AsyncGenerator[", "Generator[").replace(
            ", None]", ", None, None]"
        )
    function: Any = method
    function.__signature__ = signature.replace(
        parameters=[self_parameter, *parameters], return_annotation=returns
    )
    return method


class _Methods:
    """A class whose methods are made from flows: each gets the name it has in the class."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, method in vars(cls).items():
            if isinstance(method, FunctionType) and hasattr(method, "__wrapped__"):
                method.__name__ = name
                method.__qualname__ = f"{cls.__qualname__}.{name}"
                method.__module__ = cls.__module__


class Resource(_Methods):
    """A group of verbs of a client, such as ``client.jobs``."""

    def __init__(self, io: IO) -> None:
        self._io: Any = io

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {describe(self)}>"


def _bind_delete(resource: Deployments | AsyncDeployments, deployment: Deployment) -> Deployment:
    """Let the end of a ``with`` block delete the deployment."""
    if isinstance(resource, Deployments):
        deployment._delete = lambda: resource.delete(deployment)
    else:
        deployment._adelete = lambda: resource.delete(deployment)
    return deployment


def _bind_session(resource: Sessions | AsyncSessions, session: Session) -> Session:
    """Let a ``with`` block keep the session alive, and complete it at its end."""
    if isinstance(resource, Sessions):
        session._keep_alive = KeepAlive(
            session.id, lambda: resource.heartbeat(session), lambda: resource.complete(session)
        )
    else:
        session._keep_alive = AsyncKeepAlive(
            session.id, lambda: resource.heartbeat(session), lambda: resource.complete(session)
        )
        session._is_async = True
    return session


def _bind_result(client: Client | AsyncClient, result: FineTuneResult) -> FineTuneResult:
    if result.deployment is not None:
        _bind_delete(client.deployments, result.deployment)
    return result


class Datasets(Resource):
    """Training and validation files that the backend stores: ``client.datasets``."""

    upload = sync_method(datasets.upload)
    get = sync_method(datasets.get)
    list = sync_iterator(datasets.list_all)
    delete = sync_method(datasets.delete)


class Jobs(Resource):
    """Fine-tuning jobs: ``client.jobs``."""

    create = sync_method(jobs.create)
    get = sync_method(jobs.get)
    list = sync_iterator(jobs.list_all)
    events = sync_iterator(job_events.events)
    wait = sync_method(job_events.wait)
    cancel = sync_method(jobs.cancel)
    pause = sync_method(jobs.pause)
    resume = sync_method(jobs.resume)
    save_checkpoint = sync_method(jobs.save_checkpoint)
    delete = sync_method(jobs.delete)
    checkpoints = sync_iterator(jobs.checkpoints)
    logs = sync_method(jobs.logs)
    export = sync_method(export_job)


class Models(Resource):
    """Fine-tuned and uploaded models that the backend stores: ``client.models``."""

    upload = sync_method(models.upload)
    get = sync_method(models.get)
    list = sync_iterator(models.list_all)
    delete = sync_method(models.delete)


class Deployments(Resource):
    """Models that answer chat requests: ``client.deployments``."""

    create = sync_method(deployments.create, _bind_delete)
    get = sync_method(deployments.get, _bind_delete)
    list = sync_iterator(deployments.list_all, _bind_delete)
    delete = sync_method(deployments.delete)
    delete_overdue = sync_method(deployments.delete_overdue)
    keys = sync_method(deployments.keys)


class Chat(Resource):
    """Chat requests to a deployment: ``client.chat``."""

    complete = sync_method(chat.complete)
    stream = sync_iterator(chat.stream)


class Sessions(Resource):
    """Models that are trained step by step: ``client.sessions``."""

    create = sync_method(sessions.create, _bind_session)
    load = sync_method(sessions.load, _bind_session)
    get = sync_method(sessions.get, _bind_session)
    list = sync_iterator(sessions.list_all, _bind_session)
    delete = sync_method(sessions.delete)
    heartbeat = sync_method(sessions.heartbeat)
    complete = sync_method(sessions.complete)
    forward = sync_method(session_training.forward)
    forward_backward = sync_method(session_training.forward_backward)
    optim_step = sync_method(session_training.optim_step)
    sample = sync_method(session_training.sample)
    save = sync_method(sessions.save)
    checkpoints = sync_iterator(sessions.checkpoints)
    get_checkpoint = sync_method(sessions.get_checkpoint)


class AsyncDatasets(Resource):
    """Training and validation files that the backend stores: ``client.datasets``."""

    upload = async_method(datasets.upload)
    get = async_method(datasets.get)
    list = async_iterator(datasets.list_all)
    delete = async_method(datasets.delete)


class AsyncJobs(Resource):
    """Fine-tuning jobs: ``client.jobs``."""

    create = async_method(jobs.create)
    get = async_method(jobs.get)
    list = async_iterator(jobs.list_all)
    events = async_iterator(job_events.events)
    wait = async_method(job_events.wait)
    cancel = async_method(jobs.cancel)
    pause = async_method(jobs.pause)
    resume = async_method(jobs.resume)
    save_checkpoint = async_method(jobs.save_checkpoint)
    delete = async_method(jobs.delete)
    checkpoints = async_iterator(jobs.checkpoints)
    logs = async_method(jobs.logs)
    export = async_method(export_job)


class AsyncModels(Resource):
    """Fine-tuned and uploaded models that the backend stores: ``client.models``."""

    upload = async_method(models.upload)
    get = async_method(models.get)
    list = async_iterator(models.list_all)
    delete = async_method(models.delete)


class AsyncDeployments(Resource):
    """Models that answer chat requests: ``client.deployments``."""

    create = async_method(deployments.create, _bind_delete)
    get = async_method(deployments.get, _bind_delete)
    list = async_iterator(deployments.list_all, _bind_delete)
    delete = async_method(deployments.delete)
    delete_overdue = async_method(deployments.delete_overdue)
    keys = async_method(deployments.keys)


class AsyncChat(Resource):
    """Chat requests to a deployment: ``client.chat``."""

    complete = async_method(chat.complete)
    stream = async_iterator(chat.stream)


class AsyncSessions(Resource):
    """Models that are trained step by step: ``client.sessions``."""

    create = async_method(sessions.create, _bind_session)
    load = async_method(sessions.load, _bind_session)
    get = async_method(sessions.get, _bind_session)
    list = async_iterator(sessions.list_all, _bind_session)
    delete = async_method(sessions.delete)
    heartbeat = async_method(sessions.heartbeat)
    complete = async_method(sessions.complete)
    forward = async_method(session_training.forward)
    forward_backward = async_method(session_training.forward_backward)
    optim_step = async_method(session_training.optim_step)
    sample = async_method(session_training.sample)
    save = async_method(sessions.save)
    checkpoints = async_iterator(sessions.checkpoints)
    get_checkpoint = async_method(sessions.get_checkpoint)


def _require_options(options: object) -> ConnectionOptions:
    """Return the options. Raises ``ConfigError`` for anything else: a client was created by its class."""
    if isinstance(options, ConnectionOptions):
        return options
    raise ConfigError(
        "a client is created by a constructor that names its backend",
        hint=Text.format(
            "Use {}, {}, {} or {}.",
            *map(Constructor, ("local", "azureml", "foundry", "from_env")),
        ),
    )


class Client(_Methods, Constructors):
    """A blocking client for one backend.

    Create it with ``Client.azureml``, ``Client.foundry``, ``Client.local`` or ``Client.from_env``. Close it
    with ``close``, or use it in a ``with`` block.

    Attributes:
        datasets: Upload, list and delete training files.
        jobs: Create, follow and control fine-tuning jobs.
        models: List, upload and delete models.
        deployments: Deploy models, and delete deployments.
        chat: Send chat requests to a deployment.
        sessions: Train a model step by step, with your own loop.

    Example:
        >>> with maas.Client.local() as client:
        ...     job = client.jobs.create(model="Phi-4-mini-instruct", training_data="train.jsonl")
        ...     job = client.jobs.wait(job)
    """

    def __init__(self, options: ConnectionOptions | None = None) -> None:
        """Connect with prepared options; ``Client.azureml`` and the other constructors prepare them.

        Args:
            options: What a constructor has collected; default: an error that names the constructors.
        """
        options = _require_options(options)
        self._http = SyncHttpClient(
            options.http, options.ca_file, loopback_only=options.local_origin is not None
        )
        self._io: Any = Transport(build_connection(options, self._http), self._http)
        self.datasets = Datasets(self._io)
        self.jobs = Jobs(self._io)
        self.models = Models(self._io)
        self.deployments = Deployments(self._io)
        self.chat = Chat(self._io)
        self.sessions = Sessions(self._io)

    fine_tune = sync_method(fine_tune_flow, _bind_result)
    evaluate = sync_method(evaluation.evaluate)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {describe(self)}>"


class AsyncClient(_Methods, Constructors):
    """An async client for one backend, with the same resources, verbs and parameters as ``Client``.

    Create it with ``AsyncClient.azureml``, ``AsyncClient.foundry``, ``AsyncClient.local`` or
    ``AsyncClient.from_env``. Close it with ``aclose``, or use it in an ``async with`` block.

    Attributes:
        datasets: Upload, list and delete training files.
        jobs: Create, follow and control fine-tuning jobs.
        models: List, upload and delete models.
        deployments: Deploy models, and delete deployments.
        chat: Send chat requests to a deployment.
        sessions: Train a model step by step, with your own loop.

    Example:
        >>> async with maas.AsyncClient.local() as client:
        ...     job = await client.jobs.create(
        ...         model="Phi-4-mini-instruct", training_data="train.jsonl"
        ...     )
        ...     async for event in client.jobs.events(job):
        ...         print(event.message)
    """

    def __init__(self, options: ConnectionOptions | None = None) -> None:
        """Connect with prepared options; ``AsyncClient.azureml`` and the other constructors prepare them.

        Args:
            options: What a constructor has collected; default: an error that names the constructors.
        """
        options = _require_options(options)
        self._http = AsyncHttpClient(
            options.http, options.ca_file, loopback_only=options.local_origin is not None
        )
        self._io: Any = Transport(build_connection(options, self._http), self._http)
        self.datasets = AsyncDatasets(self._io)
        self.jobs = AsyncJobs(self._io)
        self.models = AsyncModels(self._io)
        self.deployments = AsyncDeployments(self._io)
        self.chat = AsyncChat(self._io)
        self.sessions = AsyncSessions(self._io)

    fine_tune = async_method(fine_tune_flow, _bind_result)
    evaluate = async_method(evaluation.evaluate)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<AsyncClient of {describe(self)}>"
