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
from maas_client._lifetimes import AsyncWatch, BlockingWatch
from maas_client._transport import AsyncWire, BlockingWire, Transport, run
from maas_client.flows import (
    chat,
    datasets,
    deployments,
    evaluation,
    exports,
    jobs,
    models,
    pipeline,
    watching,
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


class _Noun:
    """A group of verbs over one connection."""

    def __init__(self, io: IO) -> None:
        self._io: Any = io

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._io.scope.dialect}>"


def blocking(
    flow: Flow[P, T], then: Callable[[Any, T], T] | None = None
) -> Callable[Concatenate[_Held, P], T]:
    """Turn a flow into a method that returns when it has ended; ``then`` may add to what it returns."""

    def method(self: _Held, /, *args: P.args, **kwargs: P.kwargs) -> T:
        value = run(flow(self._io, *args, **kwargs))
        return value if then is None else then(self, value)

    return _shown(method, flow)


def awaited(
    flow: Flow[P, T], then: Callable[[Any, T], T] | None = None
) -> Callable[Concatenate[_Held, P], Coroutine[Any, Any, T]]:
    """Turn a flow into a coroutine method; ``then`` may add to what it returns."""

    async def method(self: _Held, /, *args: P.args, **kwargs: P.kwargs) -> T:
        value = await flow(self._io, *args, **kwargs)
        return value if then is None else then(self, value)

    return _shown(method, flow)


def iterated(
    flow: Series[P, T], then: Callable[[Any, T], T] | None = None
) -> Callable[Concatenate[_Held, P], Generator[T, None, None]]:
    """Turn a flow that yields into a generator method; ``then`` may add to what it yields."""

    def method(self: _Held, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        series = flow(self._io, *args, **kwargs)
        try:
            while True:
                try:
                    value = run(series.__anext__())
                except StopAsyncIteration:
                    return
                yield value if then is None else then(self, value)
        finally:
            run(series.aclose())

    return _shown(method, flow)


def aiterated(
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


class Datasets(_Noun):
    """Files the backend holds."""

    upload = blocking(datasets.upload)
    get = blocking(datasets.get)
    list = iterated(datasets.listing)
    delete = blocking(datasets.delete)


class Jobs(_Noun):
    """Fine-tuning jobs."""

    create = blocking(jobs.create)
    get = blocking(jobs.get)
    list = iterated(jobs.listing)
    events = iterated(watching.events)
    wait = blocking(watching.wait)
    cancel = blocking(jobs.cancel)
    pause = blocking(jobs.pause)
    resume = blocking(jobs.resume)
    save_checkpoint = blocking(jobs.save_checkpoint)
    delete = blocking(jobs.delete)
    checkpoints = iterated(jobs.checkpoints)
    logs = blocking(jobs.logs)
    export = blocking(exports.export)


class Models(_Noun):
    """Models the backend holds."""

    upload = blocking(models.upload)
    get = blocking(models.get)
    list = iterated(models.listing)
    delete = blocking(models.delete)


class Deployments(_Noun):
    """Models that answer."""

    def __init__(self, io: IO) -> None:
        super().__init__(io)
        self._watch = BlockingWatch(self.delete_overdue)

    create = blocking(deployments.create, _made)
    get = blocking(deployments.get, _bound)
    list = iterated(deployments.listing, _bound)
    delete = blocking(deployments.delete)
    delete_overdue = blocking(deployments.delete_overdue)
    keys = blocking(deployments.keys)


class Chat(_Noun):
    """Questions to a deployment."""

    complete = blocking(chat.complete)
    stream = iterated(chat.stream)


class AsyncDatasets(_Noun):
    """Files the backend holds."""

    upload = awaited(datasets.upload)
    get = awaited(datasets.get)
    list = aiterated(datasets.listing)
    delete = awaited(datasets.delete)


class AsyncJobs(_Noun):
    """Fine-tuning jobs."""

    create = awaited(jobs.create)
    get = awaited(jobs.get)
    list = aiterated(jobs.listing)
    events = aiterated(watching.events)
    wait = awaited(watching.wait)
    cancel = awaited(jobs.cancel)
    pause = awaited(jobs.pause)
    resume = awaited(jobs.resume)
    save_checkpoint = awaited(jobs.save_checkpoint)
    delete = awaited(jobs.delete)
    checkpoints = aiterated(jobs.checkpoints)
    logs = awaited(jobs.logs)
    export = awaited(exports.export)


class AsyncModels(_Noun):
    """Models the backend holds."""

    upload = awaited(models.upload)
    get = awaited(models.get)
    list = aiterated(models.listing)
    delete = awaited(models.delete)


class AsyncDeployments(_Noun):
    """Models that answer."""

    def __init__(self, io: IO) -> None:
        super().__init__(io)
        self._watch = AsyncWatch(self.delete_overdue)

    create = awaited(deployments.create, _made)
    get = awaited(deployments.get, _bound)
    list = aiterated(deployments.listing, _bound)
    delete = awaited(deployments.delete)
    delete_overdue = awaited(deployments.delete_overdue)
    keys = awaited(deployments.keys)


class AsyncChat(_Noun):
    """Questions to a deployment."""

    complete = awaited(chat.complete)
    stream = aiterated(chat.stream)


class Client(_connect.Doors):
    """The blocking client; ``Client.azureml``, ``.foundry``, ``.local`` and ``.from_env`` make one."""

    def __init__(self, plan: _connect.Plan) -> None:
        self._wire = BlockingWire(plan.http, plan.ca_file, direct=plan.home is not None)
        self._io: Any = Transport(_connect.connection(plan, self._wire), self._wire)
        self.datasets = Datasets(self._io)
        self.jobs = Jobs(self._io)
        self.models = Models(self._io)
        self.deployments = Deployments(self._io)
        self.chat = Chat(self._io)

    fine_tune = blocking(pipeline.fine_tune, _tuned)
    evaluate = blocking(evaluation.evaluate)

    def close(self) -> None:
        """Close the connections."""
        self.deployments._watch.close()
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {_connect.told(self._io.scope)}>"


class AsyncClient(_connect.Doors):
    """The same nouns, verbs and signatures, awaited."""

    def __init__(self, plan: _connect.Plan) -> None:
        self._wire = AsyncWire(plan.http, plan.ca_file, direct=plan.home is not None)
        self._io: Any = Transport(_connect.connection(plan, self._wire), self._wire)
        self.datasets = AsyncDatasets(self._io)
        self.jobs = AsyncJobs(self._io)
        self.models = AsyncModels(self._io)
        self.deployments = AsyncDeployments(self._io)
        self.chat = AsyncChat(self._io)

    fine_tune = awaited(pipeline.fine_tune, _tuned)
    evaluate = awaited(evaluation.evaluate)

    async def aclose(self) -> None:
        """Close the connections."""
        self.deployments._watch.close()
        await self._wire.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<AsyncClient of {_connect.told(self._io.scope)}>"
