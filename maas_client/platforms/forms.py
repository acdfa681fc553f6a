"""The platforms by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from maas_client.errors import ConfigError
from maas_client.platforms import aitoolkit, azureml, cluster, kaito, olive
from maas_client.platforms.spec import JobSpec, Places

Files = dict[str, str]
"""Texts by file name; a name may hold folders."""

FORMS: Mapping[str, Callable[[JobSpec, Places], Files]] = {
    "azureml": azureml.files,
    "kaito": kaito.files,
    "cluster": cluster.files,
    "olive": olive.files,
    "aitoolkit": aitoolkit.files,
}


def export(spec: JobSpec, form: str, places: Places | None = None) -> Files:
    """Return the files that run ``spec`` on a platform.

    Raises ``ConfigError`` for a platform nobody knows, or a place that is missing, and
    ``UnsupportedError`` for what the platform cannot take.
    """
    if form not in FORMS:
        raise ConfigError(f"no platform is called {form!r}", hint=f"It is {', '.join(FORMS)}.")
    return FORMS[form](spec, places or Places())
