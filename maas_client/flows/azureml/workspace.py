"""Look up a workspace: its region, its run history address and its default datastore."""

from __future__ import annotations

from maas_client._messages import Argument, Text
from maas_client._secret import Secret, SignedUrl
from maas_client.errors import StatusError, UnsupportedError
from maas_client.flows._io import IO
from maas_client.wire import azureml as ops
from maas_client.wire import blob
from maas_client.wire.azureml_models import Datastore, Discovery, Workspace


async def get_workspace(io: IO) -> Workspace:
    """Return the workspace; requested once per client."""
    workspace = io.scope.cache.get("workspace")
    if not isinstance(workspace, Workspace):
        workspace = (await io.send(ops.WORKSPACE_GET)).value
        io.scope.cache["workspace"] = workspace
    return workspace


async def data_plane_url(io: IO) -> str:
    """Return the base address of run history and metrics, which the discovery document names."""
    url = io.scope.cache.get("data_plane")
    if not isinstance(url, str):
        url = (await get_discovery(io)).api.rstrip("/")
        io.scope.cache["data_plane"] = url
    return url


async def get_discovery(io: IO) -> Discovery:
    """Return the discovery document of the workspace as it is now: a local server may have been restarted."""
    workspace = await get_workspace(io)
    discovery_url = workspace.properties.discovery_url
    if not discovery_url:
        raise UnsupportedError(
            f"workspace {workspace.name} has no discoveryUrl",
            hint="Name a workspace or a hub-based project whose resource has properties.discoveryUrl.",
        )
    return (await io.send(ops.DISCOVERY_GET, url=discovery_url)).value


async def get_datastore(io: IO) -> Datastore:
    """Return the workspace's default blob datastore."""
    datastore = io.scope.cache.get("datastore")
    if not isinstance(datastore, Datastore):
        datastore = (await io.send(ops.DATASTORE_GET, datastore="workspaceblobstore")).value
        io.scope.cache["datastore"] = datastore
    if datastore.properties.datastore_type.lower() != "azureblob":
        raise UnsupportedError(
            f"the default datastore is of type {datastore.properties.datastore_type}, not AzureBlob",
            hint=Text.format(
                "Upload the file yourself and pass its azureml:// URI as {}.",
                Argument("training_data"),
            ),
        )
    return datastore


async def authorized_container_url(io: IO, *, refresh: bool = False) -> str:
    """Return the container's address with a SAS.

    Without a SAS if the caller's own token gives access: for an identity-based datastore, or one whose
    secrets the caller may not list.
    """
    cached = io.scope.cache.get("container")
    if isinstance(cached, str) and not refresh:
        return cached
    datastore = await get_datastore(io)
    url = blob.container_url(datastore.properties)
    if datastore.properties.credentials.credentials_type.lower() != "none":
        url = await _add_sas(io, datastore, url)
    io.scope.cache["container"] = url
    return url


async def _add_sas(io: IO, datastore: Datastore, url: str) -> str:
    body = {"expirableSecret": True, "expireAfterHours": 1}
    try:
        secret = (await io.send(ops.DATASTORE_SECRETS, body, datastore=datastore.name)).value
    except StatusError as error:
        if error.status not in (400, 403, 409):
            raise
        return url  # as azure-ai-ml does: the caller's own token may still give access
    if secret.sas_token:
        return SignedUrl(f"{url}?{secret.sas_token.lstrip('?')}")
    if secret.key:
        key = Secret(secret.key)
        sas = Secret(await io.call(lambda: blob.create_sas(datastore.properties, key)))
        return SignedUrl(f"{url}?{sas}")
    return url
