"""What a test controls of a local server: its clock, its jobs and deployments, faults, and what was sent.

``LocalServer.control`` is the object; ``maas-client serve --control`` offers its methods over HTTP
(docs/how-to/testing.md).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, Literal, SupportsIndex, get_args

from maas_client._clock import Moment, use
from maas_client.errors import ConfigError
from maas_client.local.fault_plan import Fault, FaultPlan
from maas_client.local.recorded_requests import RecordedRequest, RecordedRequests
from maas_client.local.requests.seed import (
    WORKSPACE,
    create_azureml_job,
    create_foundry_job,
    deployment_request,
    endpoint_request,
)
from maas_client.local.resources.assets import FOUNDRY_SCOPE
from maas_client.local.resources.errors import ApiError
from maas_client.local.resources.foundry_deployments import put_deployment
from maas_client.local.resources.jobs import JobRef
from maas_client.local.resources.serverless_endpoints import put_endpoint
from maas_client.local.services import Services
from maas_client.local.services.timetable import DeploymentPlan, JobPlan, Timetable

Dialect = Literal["azureml", "foundry"]
JobStatus = Literal["Queued", "Running", "Paused", "Completed", "Failed", "Canceled"]
DeploymentStatus = Literal["Creating", "NotReady", "Succeeded", "Failed"]

_EXPIRED_TOKEN = "The access token has expired. It cannot be used."  # noqa: S105 - a message
_LONG_S = 3600.0
_MAX_REQUESTS = 100_000


class Control:
    """Controls a local server for tests. Get it from ``LocalServer.control``.

    Jobs and deployments of such a server follow a timetable on a virtual clock: the system's clock plus the
    seconds by which it was advanced. Clients of maas_client in the same program advance it where they would
    wait, so that a job of three hours ends in milliseconds. Other programs wait in real time, unless
    ``poll_advance_s`` or ``advance`` moves the clock.

    Attributes:
        poll_advance_s: Seconds by which every GET request advances the clock: for clients that wait in real
            time, such as Azure's and OpenAI's SDKs. Default: 0.

    Example:
        ::

            def test_failing_job(maas_server):
                maas_server.control.next_job(running_s=3 * 3600, error="Ran out of memory")
                with pytest.raises(maas.JobFailedError, match="out of memory"):
                    my_application.main()
    """

    def __init__(
        self,
        services: Services,
        timetable: Timetable,
        faults: FaultPlan,
        check_operation: Callable[[str], None],
    ) -> None:
        self.poll_advance_s = 0.0
        self._services = services
        self._timetable = timetable
        self._faults = faults
        self._check_operation = check_operation
        self._requests: list[tuple[RecordedRequest, bytearray]] = []
        self.started_at = timetable.clock.time()
        """When the server was created, on its clock, in seconds since 1970."""
        timetable.other_changes = self._fault_times

    @property
    def now(self) -> datetime:
        """The time on the server's clock, in UTC."""
        return datetime.fromtimestamp(self._timetable.clock.time(), UTC)

    def _fault_times(self, now: float) -> list[float]:
        """Return when faults begin that have not begun yet, in seconds since 1970."""
        times = (self.started_at + fault.after_s for fault in self._faults.faults)
        return [moment for moment in times if moment > now]

    # -- time --------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> datetime:
        """Move the server's clock forward.

        Args:
            seconds: By how much. Jobs, deployments, tokens and signatures age by it.

        Returns:
            The time on the server's clock.

        Raises:
            ConfigError: ``seconds`` is not a positive number.
        """
        check_number("seconds", seconds)
        self._timetable.clock.advance(seconds)
        with use(self._timetable.clock):
            self._timetable.update()
        self._services.auto_delete.check_now()
        return self.now

    @contextmanager
    def virtual_sleep(self) -> Iterator[None]:
        """Let ``time.sleep`` of this thread advance the server's clock instead of waiting.

        For code that polls by itself, and for Azure's and OpenAI's synchronous SDKs. A sleep advances the
        clock by its time, or to the next change of a job, deployment or fault if that is later. Inside the
        block ``time.sleep`` is replaced; other threads wait as before, and so does ``asyncio.sleep``.

        Yields:
            Nothing.

        Example:
            ::

                with maas_server.control.virtual_sleep():
                    ml_client.jobs.stream(job.name)  # azure-ai-ml sleeps between its polls
        """
        real_sleep, thread = time.sleep, threading.get_ident()

        def sleep(seconds: float | SupportsIndex, /) -> None:
            if threading.get_ident() == thread:
                if float(seconds) > 0:
                    self._timetable.clock.jump(float(seconds))
            else:
                real_sleep(seconds)

        time.sleep = sleep
        try:
            yield
        finally:
            time.sleep = real_sleep

    # -- what happens next -------------------------------------------------------------------------

    def next_job(
        self,
        *,
        queued_s: float = 0.0,
        running_s: float = 0.1,
        error: str | None = None,
        error_code: str = "ServiceError",
        count: int = 1,
    ) -> None:
        """Plan the next job that is created: how long it takes, and how it ends.

        Args:
            queued_s: Seconds for which it waits in the queue. Default: 0.
            running_s: Seconds for which it runs. Default: 0.1.
            error: The message with which it fails at the end of that time. Default: it completes.
            error_code: The code of that error, in the service's words. Default: ``ServiceError``.
            count: For how many jobs the plan is. Default: 1.

        Raises:
            ConfigError: A value is of another type or out of bounds.
        """
        check_number("queued_s", queued_s)
        check_number("running_s", running_s)
        _check_texts(error_code=error_code)
        _check_optional_texts(error=error)
        self._timetable.job_plans.extend(
            [JobPlan(queued_s, running_s, error, error_code)] * _checked_count(count)
        )

    def next_deployment(
        self,
        *,
        creating_s: float = 0.0,
        not_ready_s: float = 0.0,
        error: str | None = None,
        count: int = 1,
    ) -> None:
        """Plan the next deployment that is created.

        Args:
            creating_s: Seconds for which it is being created. Default: 0.
            not_ready_s: Seconds after that for which its chats are refused with 503, although its state is
                Succeeded. Default: 0.
            error: The message with which it fails after ``creating_s``. Default: it succeeds.
            count: For how many deployments the plan is. Default: 1.

        Raises:
            ConfigError: A value is of another type or out of bounds.
        """
        check_number("creating_s", creating_s)
        check_number("not_ready_s", not_ready_s)
        _check_optional_texts(error=error)
        plan = DeploymentPlan(creating_s, not_ready_s, error)
        self._timetable.deployment_plans.extend([plan] * _checked_count(count))

    def fail(
        self,
        operation: str = "",
        *,
        status: int | None = None,
        retry_after: float | None = None,
        error: str | None = None,
        expired_token: bool = False,
        disconnect: bool = False,
        keep_bytes: int | None = None,
        stall_s: float = 0.0,
        times: int | None = 1,
        skip: int = 0,
        after_s: float = 0.0,
        duration_s: float | None = None,
        forward: bool = False,
    ) -> None:
        """Make requests fail on purpose. ``LocalServer.faults`` counts how many did.

        Args:
            operation: The operation's name in docs/operations.md, such as ``jobs.get`` (azureml) or
                ``fine_tuning.get`` (foundry). Default: every operation.
            status: The status to answer with, such as 429, 500 or 503; default: none.
            retry_after: Seconds of a ``Retry-After`` header. Default: no such header.
            error: The message of the error, in the service's own format. Default: one for the status.
            expired_token: True: answer with 401, as for a token that has expired. Default: False.
            disconnect: True: close the connection without an answer. Default: False.
            keep_bytes: Close the connection after so many bytes of the answer's body; default: none.
            stall_s: Real seconds to wait before the answer: a slow server; default: 0.
            times: How many requests fail; None: all. Default: 1.
            skip: How many matching requests pass first. Default: 0.
            after_s: Seconds from now until the first failure, on the server's clock. Default: 0.
            duration_s: Seconds for which requests fail. Default: without end.
            forward: True: the server carries the request out, and only its answer is lost or replaced.
                Default: False; ``keep_bytes`` and ``stall_s`` without ``status`` always carry it out.

        Raises:
            ConfigError: There is no such operation, no fault is given, or a value is out of bounds.

        Example:
            >>> server.control.fail("jobs.get", status=429, retry_after=30, times=3)
            >>> server.control.fail("jobs.create", disconnect=True, forward=True)
        """
        _check_texts(operation=operation)
        _check_optional_texts(error=error)
        self._check_operation(operation)
        check_number("after_s", after_s)
        if expired_token:
            if status is not None:
                raise ConfigError("expired_token answers with 401", hint="Leave out status.")
            status, error = 401, error or _EXPIRED_TOKEN
        for name, value in (("error", error), ("retry_after", retry_after)):
            if status is None and value is not None:
                raise ConfigError(f"{name} needs status", hint="Add status, such as status=500.")
        if status is None and not disconnect and keep_bytes is None and not stall_s:
            raise ConfigError(
                "fail needs the fault to cause",
                hint="Give status, expired_token, disconnect, keep_bytes or stall_s.",
            )
        headers = {}
        if retry_after is not None:
            check_number("retry_after", retry_after)
            headers["Retry-After"] = f"{retry_after:g}"
        if expired_token:
            headers["WWW-Authenticate"] = (
                f'Bearer error="invalid_token", error_description="{_EXPIRED_TOKEN}"'
            )
        is_error = isinstance(status, int) and status >= 400
        if is_error and error is None:
            error = f"This request failed on purpose with status {status}."
        self._faults.add(
            Fault(
                operation=operation,
                status=status,
                headers=headers,
                error=error if is_error else None,
                disconnect=disconnect,
                keep_bytes=keep_bytes,
                stall_s=stall_s,
                times=times,
                skip=skip,
                after_s=self._timetable.clock.time() - self.started_at + after_s,
                duration_s=duration_s,
                forward=forward or (status is None and not disconnect),
            )
        )

    # -- what exists -------------------------------------------------------------------------------

    def add_job(
        self,
        status: JobStatus = "Completed",
        *,
        name: str | None = None,
        model: str | None = None,
        dialect: Dialect = "azureml",
        training_data: Sequence[Mapping[str, Any]] | None = None,
        progress: float = 0.5,
        queued_s: float = 0.0,
        running_s: float = _LONG_S,
        error: str = "The job failed on purpose.",
        error_code: str = "ServiceError",
    ) -> str:
        """Add a job in any state. It continues from there as the clock advances.

        Args:
            status: ``Queued``, ``Running``, ``Paused``, ``Completed`` (default; its model is registered),
                ``Failed`` or ``Canceled``.
            name: Its name, on azureml. Default: a name of its own. On foundry the service chooses the id.
            model: The base model. Default: Phi-4-mini-instruct; on foundry gpt-4.1-mini.
            dialect: Where it exists: ``azureml`` (default) or ``foundry``.
            training_data: Its chats. Default: twelve short ones.
            progress: The share of a running, paused or canceled job that is done, from 0 to 1. Default: 0.5.
            queued_s: Seconds that it waits in the queue. Default: 0; an hour for ``Queued``.
            running_s: Seconds that it runs. Default: an hour.
            error: The message of a failed job; default: ``"The job failed on purpose."``.
            error_code: The code of that message. Default: ``ServiceError``.

        Returns:
            The job's name (azureml) or id (foundry).

        Raises:
            ConfigError: A value is of another type or out of bounds, or the name is in use.

        Example:
            >>> server.control.add_job("Running", name="tickets", progress=0.4)
            'tickets'
        """
        _check_choice("status", status, get_args(JobStatus))
        _check_choice("dialect", dialect, get_args(Dialect))
        check_number("queued_s", queued_s)
        check_number("running_s", running_s)
        _check_texts(error=error, error_code=error_code)
        _check_optional_texts(name=name, model=model)
        check_number("progress", progress, 1, "a number from 0 to 1")
        if name is not None and dialect == "foundry":
            raise ConfigError("the name of a Foundry job cannot be chosen", hint="Leave out name.")
        queued_s = queued_s or (_LONG_S if status == "Queued" else 0.0)
        plan = JobPlan(queued_s, running_s, error if status == "Failed" else None, error_code)
        done = {"Queued": 0.0, "Completed": 1.0, "Failed": 1.0}.get(status, float(progress))
        past_s = 0.0 if status == "Queued" else queued_s + done * running_s
        with _config_errors(), use(Moment(self._timetable.clock.time() - past_s)):
            self._timetable.job_plans.appendleft(plan)
            count = len(self._timetable.job_plans)
            try:
                ref, key = (
                    create_azureml_job(
                        self._services, name, model or "Phi-4-mini-instruct", training_data
                    )
                    if dialect == "azureml"
                    else create_foundry_job(self._services, model or "gpt-4.1-mini", training_data)
                )
            except ApiError:
                self._timetable.job_plans.popleft()
                raise
            if len(self._timetable.job_plans) == count:
                self._timetable.job_plans.popleft()
                raise ConfigError(f"a job named {key} exists already", hint="Choose another name.")
        with use(self._timetable.clock):
            self._timetable.update()
            if status == "Canceled" and self._services.jobs.cancel(ref) == "CancelRequested":
                self._timetable.cancel(ref)
            if status == "Paused" and self._services.jobs.pause(ref) == "PauseRequested":
                self._timetable.pause(ref)
        return key

    def add_model(
        self,
        *,
        name: str | None = None,
        model: str | None = None,
        dialect: Dialect = "azureml",
        training_data: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """Add a tuned model, with the completed job that it is the result of.

        Args:
            name: The name of the model and of its job, on azureml. Default: a name of its own.
            model: The base model. Default: Phi-4-mini-instruct; on foundry gpt-4.1-mini.
            dialect: Where it exists: ``azureml`` (default) or ``foundry``.
            training_data: The chats that it answers from. Default: twelve short ones.

        Returns:
            The model's id, to deploy it by.

        Raises:
            ConfigError: A value is of another type, or the name is in use.
        """
        key = self.add_job(
            "Completed", name=name, model=model, dialect=dialect, training_data=training_data
        )
        scope = FOUNDRY_SCOPE if dialect == "foundry" else WORKSPACE.guid
        body = self._services.jobs.get(JobRef(scope, key.casefold())).body
        if "model" not in body:
            message = body.get("error", {}).get("message", "it has no model")
            raise ConfigError(f"the job of the model failed: {message}")
        tuned = body["model"]
        if dialect == "foundry":
            return str(tuned["name"])
        return self._services.assets.asset_id("models", scope, tuned["name"], tuned["version"])

    def add_deployment(
        self,
        name: str,
        *,
        model: str | None = None,
        status: DeploymentStatus = "Succeeded",
        dialect: Dialect = "azureml",
        ready_in_s: float = _LONG_S,
        error: str = "The deployment failed on purpose.",
    ) -> str:
        """Add a deployment in any state.

        Args:
            name: Its name.
            model: The id of a tuned model, as ``add_model`` returns it. Default: a new one.
            status: ``Succeeded`` (default), ``Creating``, ``NotReady`` (Succeeded, but chats are refused
                with 503) or ``Failed``.
            dialect: Where it exists: ``azureml`` (default) or ``foundry``.
            ready_in_s: Seconds after which one that is ``Creating`` or ``NotReady`` answers. Default: an hour.
            error: The message of a failed deployment; default: ``"The deployment failed on purpose."``.

        Returns:
            The name.

        Raises:
            ConfigError: A value is of another type, or the name is in use.
        """
        _check_choice("status", status, get_args(DeploymentStatus))
        _check_choice("dialect", dialect, get_args(Dialect))
        check_number("ready_in_s", ready_in_s)
        _check_texts(name=name, error=error)
        _check_optional_texts(model=model)
        plan = DeploymentPlan(
            creating_s=ready_in_s if status == "Creating" else 0.0,
            not_ready_s=ready_in_s if status == "NotReady" else 0.0,
            error=error if status == "Failed" else None,
        )
        model_id = model or self.add_model(dialect=dialect)
        with _config_errors(), use(self._timetable.clock):
            scope = FOUNDRY_SCOPE if dialect == "foundry" else WORKSPACE.guid
            deployments, assets = self._services.deployments, self._services.assets
            if dialect == "foundry":
                record, operation = put_deployment(deployments, name, deployment_request(model_id))
            else:
                body = endpoint_request(model_id, self._services.config.region)
                record, operation = put_endpoint(deployments, assets, WORKSPACE, name, body)
            if operation is None:
                raise ConfigError(f"a deployment named {name} exists already")
            self._timetable.deployment_plans.appendleft(plan)
            self._timetable.add_deployment(scope, record.key)
            self._timetable.update()
        return name

    # -- what was sent -----------------------------------------------------------------------------

    @property
    def requests(self) -> RecordedRequests:
        """The requests that the server received, oldest first. Credentials are redacted."""
        return RecordedRequests(replace(r, body=bytes(body)) for r, body in list(self._requests))

    def record(self, request: RecordedRequest, body: bytearray) -> None:
        """Add a request that arrives. The server calls this.

        Args:
            request: The request, without its body.
            body: Its body, which is filled as it arrives.
        """
        if len(self._requests) < _MAX_REQUESTS:
            self._requests.append((request, body))

    def clear(self) -> None:
        """Forget the recorded requests, and the plans and faults that are left."""
        self._requests.clear()
        self._timetable.job_plans.clear()
        self._timetable.deployment_plans.clear()
        self._faults.clear()
        self.poll_advance_s = 0.0


@contextmanager
def _config_errors() -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        raise ConfigError(error.message) from None


def check_number(
    name: str, value: object, high: float = 1e10, expected: str = "a number of seconds from 0"
) -> None:
    """Raise ``ConfigError`` unless a value is a number from 0 to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
        raise ConfigError(f"{name} must be {expected}")


def _check_texts(**values: object) -> None:
    for name, value in values.items():
        if not isinstance(value, str):
            raise ConfigError(f"{name} must be a text")


def _check_optional_texts(**values: object) -> None:
    _check_texts(**{name: value for name, value in values.items() if value is not None})


def _checked_count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100_000:
        raise ConfigError("count must be a whole number from 1")
    return value


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        matches = get_close_matches(str(value).capitalize(), choices, n=1)
        raise ConfigError(
            f"{name} cannot be {str(value)[:40]!r}",
            hint=f"Did you mean {matches[0]}?" if matches else f"Use {', '.join(choices)}.",
        )
