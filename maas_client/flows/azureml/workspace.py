"""Looking around in a workspace: where it is, where its run history and its training files live."""

from __future__ import annotations

from maas_client.errors import StatusError, UnsupportedError
from maas_client.flows._io import IO
from maas_client.wire import azureml as ops
from maas_client.wire import blob
from maas_client.wire.azureml_models import Datastore, Workspace


async def get_workspace(io: IO) -> Workspace:
    """Return the workspace; looked up once per client."""
    held = io.scope.cache.get("workspace")
    if not isinstance(held, Workspace):
        held = (await io.send(ops.WORKSPACE_GET)).value
        io.scope.cache["workspace"] = held
    return held


async def data_plane_url(io: IO) -> str:
    """Return the base address of run history and metrics, found through the discovery document."""
    held = io.scope.cache.get("data_plane")
    if not isinstance(held, str):
        here = await get_workspace(io)
        url = here.properties.discovery_url
        if not url:
            raise UnsupportedError(f"workspace {here.name} names no discovery address")
        held = (await io.send(ops.DISCOVERY_GET, url=url)).value.api.rstrip("/")
        io.scope.cache["data_plane"] = held
    return held


async def get_datastore(io: IO) -> Datastore:
    """Return the workspace's default blob datastore."""
    held = io.scope.cache.get("datastore")
    if not isinstance(held, Datastore):
        held = (await io.send(ops.DATASTORE_GET, datastore="workspaceblobstore")).value
        io.scope.cache["datastore"] = held
    if held.properties.datastore_type.lower() != "azureblob":
        raise UnsupportedError(
            f"the default datastore is of type {held.properties.datastore_type}, not AzureBlob",
            hint="Upload the file yourself and pass its azureml:// uri as training_data=.",
        )
    return held


async def authorized_container_url(io: IO, *, refresh: bool = False) -> str:
    """Return the container's address with what opens it: a SAS, or nothing where the caller's own
    token does (an identity-based datastore, or one whose secrets may not be listed)."""
    held = io.scope.cache.get("container")
    if isinstance(held, str) and not refresh:
        return held
    store = await get_datastore(io)
    url = blob.container_url(store.properties)
    opened = url
    if store.properties.credentials.credentials_type.lower() != "none":
        opened = await _with_secret(io, store, url)
    io.scope.cache["container"] = opened
    return opened


async def _with_secret(io: IO, store: Datastore, url: str) -> str:
    body = {"expirableSecret": True, "expireAfterHours": 1}
    try:
        secret = (await io.send(ops.DATASTORE_SECRETS, body, datastore=store.name)).value
    except StatusError as refused:
        if refused.status not in (400, 403, 409):
            raise
        return url  # as azure-ai-ml does: the caller's own token may still open it
    if secret.sas_token:
        return f"{url}?{secret.sas_token.lstrip('?')}"
    if secret.key:
        sas = await io.call(lambda: blob.create_sas(store.properties, secret.key or ""))
        return f"{url}?{sas}"
    return url
