"""A workspace, its blobs and its jobs in memory, behind the scripted port."""

from __future__ import annotations

from typing import Any

from maas_client.errors import NotFoundError
from maas_client.wire.operation import Response
from tests.unit.fake_port import FakePort, Sent

WS_ID = (
    "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"
)


def workspace(port: FakePort) -> FakePort:
    port.on(
        "workspace.get",
        {
            "id": WS_ID,
            "name": "ws",
            "location": "eastus2",
            "properties": {
                "workspaceId": "guid",
                "discoveryUrl": "https://eastus2.api.azureml.ms/discovery",
            },
        },
    )
    port.on("discovery.get", {"api": "https://eastus2.api.azureml.ms"})
    port.on(
        "datastores.get",
        {
            "name": "workspaceblobstore",
            "properties": {
                "datastoreType": "AzureBlob",
                "accountName": "st1",
                "containerName": "c1",
                "endpoint": "core.windows.net",
                "protocol": "https",
                "credentials": {"credentialsType": "AccountKey"},
            },
        },
    )
    port.on("data_versions.get", NotFoundError("no version", status=404))
    port.on("datastores.secrets", {"secretsType": "Sas", "sasToken": "sv=1&sig=S1"})
    return port


class FakeBlobs:
    """The blobs of the container, with responses like the service's."""

    def __init__(self, port: FakePort) -> None:
        self.contents: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.blocks: dict[str, dict[str, bytes]] = {}
        port.on("blobs.head", self.head)
        port.on("blobs.put", self.put)
        port.on("blocks.put", self.block)
        port.on("blocks.commit", self.commit)
        port.on("blocks.list", self.listing)

    def head(self, sent: Sent) -> Any:
        if sent.path["blob"] not in self.contents:
            return NotFoundError("no blob", status=404, code="BlobNotFound")
        data, meta = self.contents[sent.path["blob"]]
        return Response(None, 200, {"content-length": str(len(data)), **meta})

    def _meta(self, sent: Sent) -> dict[str, str]:
        return {k: v for k, v in sent.headers.items() if k.startswith("x-ms-meta-")}

    def put(self, sent: Sent) -> Any:
        self.contents[sent.path["blob"]] = (b"".join(sent.body), self._meta(sent))
        return None

    def block(self, sent: Sent) -> Any:
        self.blocks.setdefault(sent.path["blob"], {})[sent.query["blockid"]] = b"".join(sent.body)
        return None

    def commit(self, sent: Sent) -> Any:
        import re

        ids = re.findall(r"<Latest>([^<]+)</Latest>", sent.body.decode())
        data = b"".join(self.blocks[sent.path["blob"]][i] for i in ids)
        self.contents[sent.path["blob"]] = (data, self._meta(sent))
        return None

    def listing(self, sent: Sent) -> Any:
        names = self.blocks.get(sent.path["blob"])
        if names is None:
            return NotFoundError("no blob", status=404)
        rows = "".join(f"<Block><Name>{n}</Name><Size>1</Size></Block>" for n in names)
        return f"<BlockList><UncommittedBlocks>{rows}</UncommittedBlocks></BlockList>".encode()


class FakeJobs:
    """The jobs of the workspace by name."""

    def __init__(self, port: FakePort) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        port.on("jobs.get", self.get)
        port.on("jobs.create", self.put)

    def get(self, sent: Sent) -> Any:
        return self.jobs.get(sent.path["job"], NotFoundError("no job", status=404))

    def put(self, sent: Sent) -> Any:
        name = sent.path["job"]
        body = {"id": f"{WS_ID}/jobs/{name}", "name": name, **sent.body}
        body["properties"] = {**body["properties"], "status": "NotStarted"}
        self.jobs[name] = body
        return Response(body, 201)

    def set_status(self, name: str, status: str) -> None:
        self.jobs[name]["properties"]["status"] = status
