"""The cloud metadata document: hosts of a cloud we do not know by name."""

from __future__ import annotations

import httpx

from maas_client._transport.clouds import Cloud, from_metadata
from maas_client.errors import ConfigError


def fetch_cloud(url: str, ca_file: str | None) -> Cloud:
    """Read the document behind ``ARM_CLOUD_METADATA_URL``. Raises ``ConfigError``."""
    from maas_client._transport.http import client_options

    try:
        with httpx.Client(**client_options(ca_file), timeout=20) as client:
            answer = client.get(url)
            answer.raise_for_status()
            document = answer.json()
    except (httpx.HTTPError, ValueError) as bad:
        raise ConfigError(
            f"the cloud metadata document cannot be read ({type(bad).__name__})",
            hint="Check ARM_CLOUD_METADATA_URL.",
        ) from bad
    return from_metadata(document)
