"""Read a cloud's hosts from its metadata document (``ARM_CLOUD_METADATA_URL``)."""

from __future__ import annotations

import httpx

from maas_client._transport.clouds import Cloud, from_metadata
from maas_client.errors import ConfigError


def fetch_cloud(url: str, ca_file: str | None) -> Cloud:
    """Download a metadata document and return the cloud it describes.

    Args:
        url: The document's address.
        ca_file: A file of certificate authorities to trust; None for the default ones.

    Raises:
        ConfigError: The document cannot be downloaded, or lacks a required entry.
    """
    from maas_client._transport.http import client_options

    try:
        with httpx.Client(**client_options(ca_file), timeout=20) as client:
            response = client.get(url)
            response.raise_for_status()
            document = response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise ConfigError(
            f"cannot read the cloud metadata document ({type(error).__name__})",
            hint="Check ARM_CLOUD_METADATA_URL.",
        ) from error
    return from_metadata(document)
