"""Read a cloud's hosts from its metadata document (``ARM_CLOUD_METADATA_URL``)."""

from __future__ import annotations

import json
import time

from maas_client._secret import without_query
from maas_client._transport.clouds import Cloud, from_metadata, is_valid_url
from maas_client._transport.http import HttpRequest, run_sync
from maas_client._transport.sync_http import SyncHttpClient
from maas_client.errors import ConfigError, TransportError

_TIMEOUT_S = 20.0
_MAX_BYTES = 2**20


def fetch_cloud(url: str, ca_file: str | None) -> Cloud:
    """Download a metadata document and return the cloud it describes.

    Args:
        url: The document's address.
        ca_file: A file of certificate authorities to trust; None for the default ones.

    Raises:
        ConfigError: The document cannot be downloaded, or lacks a required entry.
    """
    if not is_valid_url(url):
        raise ConfigError(
            "ARM_CLOUD_METADATA_URL is not a URL", hint="Set it to one that starts with https://."
        )
    deadline = time.monotonic() + _TIMEOUT_S
    http = SyncHttpClient(ca_file=ca_file)
    try:
        reply = run_sync(http.send(HttpRequest("GET", url, {}, None, None, deadline, _MAX_BYTES)))
        if reply.status != 200:
            raise ValueError(f"status {reply.status}")
        document = json.loads(reply.body)
    except (TransportError, ValueError, RecursionError) as error:
        reason = str(error) if str(error).startswith("status") else type(error).__name__
        raise ConfigError(
            f"cannot read the cloud metadata document at {without_query(url)} ({reason})",
            hint="Check ARM_CLOUD_METADATA_URL.",
        ) from error
    finally:
        http.close()
    return from_metadata(document)
