"""Services of the local server: state, queue, engines and timers, created once and used by the routes."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from maas_client import _clock
from maas_client._local_server.record import LOCK_FILE
from maas_client.errors import ConfigError
from maas_client.local.config import ServerConfig
from maas_client.local.machine.child_processes import ProcessPool
from maas_client.local.resources.arm_resources import ArmResources
from maas_client.local.resources.assets import Assets
from maas_client.local.resources.azure_limits import AzureLimits
from maas_client.local.resources.blobs import BlobStore
from maas_client.local.resources.deployments import DEPLOYMENT_KIND, Deployments, served_model
from maas_client.local.resources.errors import ApiError
from maas_client.local.resources.jobs import Jobs
from maas_client.local.services.auto_delete import AutoDelete
from maas_client.local.services.chat_engines import (
    ChatEngine,
    InstantChatEngine,
    ProcessChatEngine,
)
from maas_client.local.services.rate_limiter import RateLimiter
from maas_client.local.services.scheduler import Scheduler
from maas_client.local.services.timetable import Timetable
from maas_client.local.sessions.service import Sessions
from maas_client.local.state.files import (
    STORE_FILE,
    FileStore,
    check_state_folder,
    check_store_present,
    make_private_folder,
    reset_state,
)
from maas_client.local.state.store import Record, Store, lock_state_dir
from maas_client.wire.operation import Dialect
from maas_client.wire.statuses import BASE_PROPERTY, NOT_TRAINED_PROPERTY

_LOG = logging.getLogger(__name__)
_HOUR_S = 3600.0


class Services:
    """All services of one server. ``start`` and ``stop`` run on its event loop."""

    def __init__(self, config: ServerConfig) -> None:
        root = make_private_folder(config.state_dir)
        check_state_folder(root)
        self.config = config
        self._root = root
        with ExitStack() as opened:  # what is closed again if a later step fails
            self._lock_fd = lock_state_dir(root)
            opened.callback(os.close, self._lock_fd)
            if config.reset:
                reset_state(root)
            self.files = FileStore(root)
            check_store_present(root)
            self.store = self._store(root)
            opened.callback(self.store.close)
            self.secret = _load_or_create_secret(self.store)
            self.assets = Assets(self.store, config.region)
            self.arm_resources = ArmResources(self.store)
            self.blobs = BlobStore(self.store, self.files, durable=config.durable)
            self.jobs = Jobs(self.store, self.files)
            self.azure_limits = AzureLimits(enabled=config.realistic)
            self.rate_limiter = RateLimiter(self.azure_limits)
            self.deployments = Deployments(self.store, self.base_for, self.azure_limits)
            uses_torch = config.engine == "peft"
            self.compute = ProcessPool(root, config.process_threads, config.device, warm=uses_torch)
            self.timetable = (
                Timetable(self.jobs, self.deployments, self.files, config)
                if config.control
                else None
            )
            """For tests: jobs and deployments on a virtual clock."""
            self.chat_engine: ChatEngine = (
                ProcessChatEngine(self.compute, self.files, config.precision)
                if uses_torch
                else InstantChatEngine(self.files)
            )
            self.scheduler = self.timetable or Scheduler(
                self.jobs, self.compute, self.files, config, self.chat_engine.warm_up
            )
            self.sessions = Sessions(self.store, self.files, self.compute, config, self.base_for)
            self.auto_delete = AutoDelete(self.deployments, self.unload_unused)
            self._tasks: set[asyncio.Task[Any]] = set()
            self._loop: asyncio.AbstractEventLoop | None = None
            opened.pop_all()

    def _store(self, root: Path) -> Store:
        """Open the store; on a full disk, release the reserved disk space first."""
        try:
            return Store(root / STORE_FILE, durable=self.config.durable)
        except ConfigError:
            if not self.files.reserve.release():
                raise
        return Store(root / STORE_FILE, durable=self.config.durable)

    @property
    def simulated(self) -> bool:
        """Return whether jobs and answers of this server are simulated."""
        return self.config.engine == "instant"

    @property
    def deployment_tags(self) -> dict[str, str]:
        """Return the tags that say how deployments answer, if not with trained and unquantised weights."""
        if self.simulated:
            return {"simulated": "true"}
        return {} if self.config.precision == "auto" else {"precision": self.config.precision}

    def tags_of(self, deployment: Record) -> dict[str, str]:
        """Return a deployment's own tags, and those that say how it answers and on which base."""
        base = {} if self.simulated else {BASE_PROPERTY: deployment.body["target"]["base"]["name"]}
        tags = deployment.body["request"].get("tags") or {}
        return {**tags, **base, **self.deployment_tags}

    def base_for(self, model: str) -> dict[str, Any]:
        """Return the base that a model name runs on here; raise ``ApiError`` for an unknown model."""
        from maas_client.local.resources.base_models import base_record

        return base_record(model, self.config)

    def required_examples(self, dialect: Dialect) -> int:
        """Return how many training examples a job needs; 0 where tests decide how jobs end."""
        return 0 if self.timetable else self.config.required_examples(dialect)

    def job_properties(self, job: dict[str, Any]) -> dict[str, str]:
        """Return the properties that the server adds to a job.

        A server that trains marks the jobs that the instant engine simulated before in its state
        directory, so that a client does not return one of them for a new call with the same inputs.
        """
        is_simulated = job["base"].get("simulated", False)
        mark = {NOT_TRAINED_PROPERTY: "true"} if is_simulated and not self.simulated else {}
        return {**job["properties"], **mark}

    async def start(self) -> None:
        """Start the queue, the engines and the timers, and resume the work of the previous server."""
        self._loop = asyncio.get_running_loop()
        if self.timetable:
            _clock.set_current(self.timetable.clock)
        await asyncio.to_thread(
            lambda: self.files.collect_garbage(self.store.read.referenced_contents())
        )
        await asyncio.to_thread(self.files.reserve.allocate)
        await self.scheduler.start()
        await self.sessions.start()
        if await asyncio.to_thread(self.store.read.all, DEPLOYMENT_KIND):
            self._spawn(self.chat_engine.warm_up())  # otherwise the first job or deployment does
        self._spawn(self.auto_delete.run())
        for scope, key in await asyncio.to_thread(self.deployments.list_creating):
            self.provision(scope, key)
        if self.config.retention_days is not None:
            self._spawn(self._delete_expired_jobs(self.config.retention_days))

    async def _delete_expired_jobs(self, days: float) -> None:
        while True:
            deleted = await asyncio.to_thread(self.jobs.delete_expired, days)
            if deleted:
                _LOG.info("deleted %d jobs that ended more than %g days ago", deleted, days)
            await asyncio.sleep(_HOUR_S)

    def provision(self, scope: str, key: str) -> None:
        """Load the model of a deployment in the background. Callable from any thread."""
        self.auto_delete.check_now()
        if self.timetable:
            self.timetable.add_deployment(scope, key)
            return
        assert self._loop is not None
        self._loop.call_soon_threadsafe(lambda: self._spawn(self._provision(scope, key)))

    def unload_unused(self, endpoint: Any) -> None:
        """Unload what only a deleted deployment used. Callable from any thread."""
        assert self._loop is not None
        remaining = self.store.read.all(DEPLOYMENT_KIND)
        if any(served_model(candidate) == served_model(endpoint) for candidate in remaining):
            return
        unload = self.chat_engine.unload
        self._loop.call_soon_threadsafe(lambda: self._spawn(unload(served_model(endpoint))))

    async def _provision(self, scope: str, key: str) -> None:
        endpoint = self.store.read.get(DEPLOYMENT_KIND, scope, key)
        if endpoint is None:
            return
        problem = None
        try:
            await self.chat_engine.load(served_model(endpoint))
        except ApiError as error:
            problem = error.message
        except Exception:
            _LOG.exception("could not load the model of deployment %s", key)
            problem = "The model could not be loaded. See the server's log for details."
        await asyncio.to_thread(self.deployments.finish_provisioning, scope, key, problem)

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Stop all tasks and child processes. State on disk stays as it is."""
        for task in list(self._tasks):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
        await self.scheduler.close()
        await self.sessions.close()
        await self.chat_engine.close()
        await self.compute.close()

    def has_state_dir(self) -> bool:
        """Return whether the state directory is still the one that this server has locked."""
        try:
            found = os.stat(self._root / LOCK_FILE)
        except OSError:
            return False
        return os.path.samestat(found, os.fstat(self._lock_fd))

    def close(self) -> None:
        """Close the store and release the lock of the state directory."""
        self.store.close()
        os.close(self._lock_fd)


def _load_or_create_secret(store: Store) -> bytes:
    """Return the key that signs SAS and access tokens; it is kept across restarts."""
    with store.write() as writer:
        record = writer.get("server", "", "sas")
        if record:
            return bytes.fromhex(record.body["key"])
        key = secrets.token_hex(32)
        writer.put("server", "", "sas", {"key": key})
        return bytes.fromhex(key)
