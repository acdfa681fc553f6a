"""What a data uri may name: our own datastore and assets, nothing else anywhere."""

from __future__ import annotations

import pytest

from maas_client.local.resources.assets import Assets, Workspace, parse_registry_uri
from maas_client.local.resources.errors import ApiError
from maas_client.local.state.store import Store

WS = Workspace("S", "Rg", "W")


@pytest.fixture
def assets(tmp_path):
    store = Store(tmp_path / "facts.db", durable=False)
    held = Assets(store, "eastus2")
    uri = "azureml://datastores/workspaceblobstore/paths/LocalUpload/h/train.jsonl"
    held.put_data(WS, "train", "1", {"dataUri": uri, "dataType": "uri_file"})
    held.put_data(WS, "train", "2", {"dataUri": uri + ".2", "dataType": "uri_file"})
    yield held
    store.close()


@pytest.mark.parametrize(
    ("uri", "blob"),
    [
        ("azureml://datastores/workspaceblobstore/paths/a/b c.jsonl", "a/b c.jsonl"),
        ("azureml://subscriptions/S/resourcegroups/Rg/workspaces/W/datastores/workspaceblobstore/paths/x", "x"),
        (f"{WS.arm_id}/data/train/versions/1", "LocalUpload/h/train.jsonl"),
        (f"{WS.arm_id.upper()}/DATA/Train/Versions/1", "LocalUpload/h/train.jsonl"),
        (
            f"azureml://locations/eastus2/workspaces/{WS.guid}/data/train/versions/2",
            "LocalUpload/h/train.jsonl.2",
        ),
        ("azureml:train:1", "LocalUpload/h/train.jsonl"),
        ("azureml:train@latest", "LocalUpload/h/train.jsonl.2"),
    ],
)  # fmt: skip
def test_uris_that_resolve(assets, uri, blob):
    assert assets.resolve_uri(uri, WS) == (WS.container, blob)


@pytest.mark.parametrize(
    "uri",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://account.blob.core.windows.net/c/b?sig=x",
        "file:///etc/passwd",
        "/etc/passwd",
        "\\\\host\\share",
        "wasbs://c@a.blob.core.windows.net/b",
        "azureml://datastores/other/paths/x",
        "azureml://registries/azureml/models/m/versions/1",
        "azureml:train:9",
        "azureml:nothing@latest",
        f"azureml://locations/eastus2/workspaces/{'0' * 8}-0000-0000-0000-{'0' * 12}/data/train/versions/1",
        "",
        "azureml://",
        "gopher://x",
    ],
)
def test_uris_that_do_not(assets, uri):
    with pytest.raises(ApiError) as refused:
        assets.resolve_uri(uri, WS)
    assert refused.value.status == 400


def test_a_uri_is_for_life(assets):
    uri = "azureml://datastores/workspaceblobstore/paths/other"
    with pytest.raises(ApiError, match=r"^Asset paths cannot be updated\.$"):
        assets.put_data(WS, "train", "1", {"dataUri": uri})


def test_a_workspace_is_the_same_whatever_the_case():
    assert WS.guid == Workspace("s", "RG", "w").guid
    assert WS.guid != Workspace("s", "rg", "w2").guid


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("azureml://registries/azureml/models/Phi-4/versions/7", ("azureml", "Phi-4", "7")),
        ("azureml://registries/azureml/models/Phi-4", ("azureml", "Phi-4", None)),
        ("azureml://registries/azureml/models/Phi-4/labels/latest", ("azureml", "Phi-4", None)),
        ("azureml://registries/azureml/models/Phi-4/x/y", None),
        ("Phi-4", None),
    ],
)
def test_registry_uris(uri, found):
    assert parse_registry_uri(uri) == found
