"""Client and AsyncClient: nouns bound to flows.

Each method of a noun *is* a flow with its first argument bound: one implementation, one signature, one
docstring. ``Client`` drives it to its end over a blocking wire, ``AsyncClient`` awaits it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import aclosing
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, cast

from maas_client import _connect
from maas_client._auto_delete import AsyncWatch, BlockingWatch
from maas_client._transport import AsyncHttpClient, SyncHttpClient, Transport, run_sync
from maas_client.flows import (
    chat,
    datasets,
    deployments,
    evaluation,
    job_events,
    jobs,
    models,
)
from maas_client.flows import (
    export as exports,
)
from maas_client.flows import (
    fine_tune as pipeline,
)
from maas_client.flows._io import IO
from maas_client.types import Deployment, FineTuneResult

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M")
Flow = Callable[Concatenate[IO, P], Coroutine[Any, Any, T]]
Series = Callable[Concatenate[IO, P], AsyncGenerator[T, None]]


class _Held(Protocol):
    """What a method needs of the object it hangs on."""

    _io: Any


class Resource:
    """A group of verbs over one connection."""

    def __init__(self, io: IO) -> None:
        self._io: Any = io

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._io.scope.dialect}>"


def sync_method(
    flow: Flow[P, T], then: Callable[[Any, T], T] | None = None
) -> Callable[Concatenate[_Held, P], T]:
    """Turn a flow into a method that returns when it has ended; ``then`` may add to what it returns."""

    def method(self: _Held, /, *args: P.args, **kwargs: P.kwargs) -> T:
        value = run_sync(flow(self._io, *args, **kwargs))
        return value if then is None else then(self, value)

    return _shown(method, flow)


def async_method(
    flow: Flow[P, T], then: Callable[[Any, T], T] | None = None
) -> Callable[Concatenate[_Held, P], Coroutine[Any, Any, T]]:
    """Turn a flow into a coroutine method; ``then`` may add to what it returns."""

    async def method(self: _Held, /, *args: P.args, **kwargs: P.kwargs) -> T:
        value = await flow(self._io, *args, **kwargs)
        return value if then is None else then(self, value)

    return _shown(method, flow)


def sync_iterator(
    flow: Series[P, T], then: Callable[[Any, T], T] | None = None
) -> Callable[Concatenate[_Held, P], Generator[T, None, None]]:
    """Turn a flow that yields into a generator method; ``then`` may add to what it yields."""

    def method(self: _Held, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        series = flow(self._io, *args, **kwargs)
        try:
            while True:
                try:
                    value = run_sync(series.__anext__())
                except StopAsyncIteration:
                    return
                yield value if then is None else then(self, value)
        finally:
            run_sync(series.aclose())

    return _shown(method, flow)


def async_iterator(
    flow: Series[P, T], then: Callable[[Any, T], T] | None = None
) -> Callable[Concatenate[_Held, P], AsyncGenerator[T, None]]:
    """Turn a flow that yields into an async generator method; ``then`` may add to what it yields."""

    def method(self: _Held, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        series = flow(self._io, *args, **kwargs)
        return series if then is None else _each(series, lambda value: then(self, value))

    return _shown(method, flow)


async def _each(series: AsyncGenerator[T, None], then: Callable[[T], T]) -> AsyncGenerator[T, None]:
    async with aclosing(series):
        async for value in series:
            yield then(value)


def _shown(method: M, flow: Callable[..., Any]) -> M:
    """Give the method the flow's name, docstring and signature, with ``self`` for the port."""
    functools.update_wrapper(cast("Callable[..., Any]", method), flow)
    signature = inspect.signature(flow)
    _, *rest = signature.parameters.values()
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    shown: Any = method
    shown.__signature__ = signature.replace(parameters=[itself, *rest])
    return method


def _bound(noun: Deployments | AsyncDeployments, one: Deployment) -> Deployment:
    """Let leaving a ``with`` delete the deployment, wherever it came from."""
    if isinstance(noun, Deployments):
        one._delete = lambda: noun.delete(one)
    else:
        one._adelete = lambda: noun.delete(one)
    return one


def _made(noun: Deployments | AsyncDeployments, made: Deployment) -> Deployment:
    """Bind a new deployment, and delete it in time where the service does not: our own server does."""
    _bound(noun, made)
    if made.delete_at is not None and not noun._io.scope.local:
        noun._watch.add(made.name, made.delete_at)
    return made


def _tuned(client: Client | AsyncClient, result: FineTuneResult) -> FineTuneResult:
    if result.deployment is not None:
        _made(client.deployments, result.deployment)
    return result


class Datasets(Resource):
    """Files the backend holds."""

    upload = sync_method(datasets.upload)
    get = sync_method(datasets.get)
    list = sync_iterator(datasets.list_all)
    delete = sync_method(datasets.delete)


class Jobs(Resource):
    """Fine-tuning jobs."""

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
    export = sync_method(exports.export)


class Models(Resource):
    """Models the backend holds."""

    upload = sync_method(models.upload)
    get = sync_method(models.get)
    list = sync_iterator(models.list_all)
    delete = sync_method(models.delete)


class Deployments(Resource):
    """Models that answer."""

    def __init__(self, io: IO) -> None:
        super().__init__(io)
        self._watch = BlockingWatch(self.delete_overdue)

    create = sync_method(deployments.create, _made)
    get = sync_method(deployments.get, _bound)
    list = sync_iterator(deployments.list_all, _bound)
    delete = sync_method(deployments.delete)
    delete_overdue = sync_method(deployments.delete_overdue)
    keys = sync_method(deployments.keys)


class Chat(Resource):
    """Questions to a deployment."""

    complete = sync_method(chat.complete)
    stream = sync_iterator(chat.stream)


class AsyncDatasets(Resource):
    """Files the backend holds."""

    upload = async_method(datasets.upload)
    get = async_method(datasets.get)
    list = async_iterator(datasets.list_all)
    delete = async_method(datasets.delete)


class AsyncJobs(Resource):
    """Fine-tuning jobs."""

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
    export = async_method(exports.export)


class AsyncModels(Resource):
    """Models the backend holds."""

    upload = async_method(models.upload)
    get = async_method(models.get)
    list = async_iterator(models.list_all)
    delete = async_method(models.delete)


class AsyncDeployments(Resource):
    """Models that answer."""

    def __init__(self, io: IO) -> None:
        super().__init__(io)
        self._watch = AsyncWatch(self.delete_overdue)

    create = async_method(deployments.create, _made)
    get = async_method(deployments.get, _bound)
    list = async_iterator(deployments.list_all, _bound)
    delete = async_method(deployments.delete)
    delete_overdue = async_method(deployments.delete_overdue)
    keys = async_method(deployments.keys)


class AsyncChat(Resource):
    """Questions to a deployment."""

    complete = async_method(chat.complete)
    stream = async_iterator(chat.stream)


class Client(_connect.Constructors):
    """The blocking client; ``Client.azureml``, ``.foundry``, ``.local`` and ``.from_env`` make one."""

    def __init__(self, plan: _connect.ConnectionOptions) -> None:
        self._wire = SyncHttpClient(
            plan.http, plan.ca_file, loopback_only=plan.local_origin is not None
        )
        self._io: Any = Transport(_connect.build_connection(plan, self._wire), self._wire)
        self.datasets = Datasets(self._io)
        self.jobs = Jobs(self._io)
        self.models = Models(self._io)
        self.deployments = Deployments(self._io)
        self.chat = Chat(self._io)

    fine_tune = sync_method(pipeline.fine_tune, _tuned)
    evaluate = sync_method(evaluation.evaluate)

    def close(self) -> None:
        """Close the connections."""
        self.deployments._watch.close()
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {_connect.describe(self._io.scope)}>"


class AsyncClient(_connect.Constructors):
    """The same nouns, verbs and signatures, awaited."""

    def __init__(self, plan: _connect.ConnectionOptions) -> None:
        self._wire = AsyncHttpClient(
            plan.http, plan.ca_file, loopback_only=plan.local_origin is not None
        )
        self._io: Any = Transport(_connect.build_connection(plan, self._wire), self._wire)
        self.datasets = AsyncDatasets(self._io)
        self.jobs = AsyncJobs(self._io)
        self.models = AsyncModels(self._io)
        self.deployments = AsyncDeployments(self._io)
        self.chat = AsyncChat(self._io)

    fine_tune = async_method(pipeline.fine_tune, _tuned)
    evaluate = async_method(evaluation.evaluate)

    async def aclose(self) -> None:
        """Close the connections."""
        self.deployments._watch.close()
        await self._wire.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<AsyncClient of {_connect.describe(self._io.scope)}>"
