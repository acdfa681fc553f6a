"""The platforms by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict

from maas_client.errors import ConfigError, UnsupportedError
from maas_client.platforms import aitoolkit, azureml, cluster, kaito, olive
from maas_client.platforms.spec import ExportSpec, Places

Files = dict[str, str]
"""Texts by file name; a name may hold folders."""

EXPORTERS: Mapping[str, Callable[[ExportSpec, Places], Files]] = {
    "azureml": azureml.build_files,
    "kaito": kaito.build_files,
    "cluster": cluster.build_files,
    "olive": olive.build_files,
    "aitoolkit": aitoolkit.build_files,
}


ALIASES = {
    "accelerate": "cluster",
    "torchrun": "cluster",
    "vllm": "cluster",
    "ai-toolkit": "aitoolkit",
}
"""Other names under which people look for a platform."""
MAIN_FILES = {"azureml": "job.yaml", "kaito": "workspace.yaml", "olive": "olive.json"}
"""The one file that matters, where there is one."""


def export_job(spec: ExportSpec, platform: str, places: Places | None = None) -> Files:
    """Return the files that run ``spec`` on a platform.

    Raises ``ConfigError`` for a platform nobody knows, or a place that is missing, and
    ``UnsupportedError`` for what the platform cannot take.
    """
    platform = ALIASES.get(platform, platform)
    if platform not in EXPORTERS:
        raise ConfigError(
            f"no platform is called {platform!r}", hint=f"It is {', '.join(EXPORTERS)}."
        )
    places = places or Places()
    _refuse_unused(spec, platform, places)
    return EXPORTERS[platform](spec, places)


def _refuse_unused(spec: ExportSpec, form: str, places: Places) -> None:
    """What a platform would not look at is an error, not a surprise."""
    told = {name: value for name, value in asdict(places).items() if value not in (None, 1)}
    takes = {"kaito": set(asdict(places)) - {"processes"}, "cluster": {"processes"}}.get(
        form, set()
    )
    if unused := sorted(told.keys() - takes):
        other = "cluster" if unused == ["processes"] else "kaito"
        raise UnsupportedError(
            f"{form} takes no {unused[0].replace('_', ' ')}", hint=f"Only {other} does."
        )
    if spec.compute and form not in ("azureml", "kaito"):
        raise UnsupportedError(
            f"{form} takes no compute=: it runs where you start it",
            hint="azureml and kaito take one.",
        )
