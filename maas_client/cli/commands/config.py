"""``maas-client config``: every setting, its value and where it comes from."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from maas_client._settings import Setting, Settings, read_profiles
from maas_client.cli._output import align_columns, print_json, print_note


def add(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has only the common options."""


def run(args: argparse.Namespace) -> int:
    """Print the settings; of secrets only the last four characters."""
    profiles = read_profiles()
    settings = Settings.load(backend=args.backend, url=args.url)
    rows = list(_with_workspace(settings.to_rows()))
    if args.json:
        print_json(
            [
                {
                    "name": setting.key,
                    "value": value,
                    "origin": origin,
                    "variables": setting.variables,
                    "text": setting.description,
                }
                for setting, value, origin in rows
            ]
        )
        return 0
    headers = ("NAME", "VALUE", "FROM", "VARIABLE", "DESCRIPTION")
    cells = [
        (setting.key, value or "-", origin, " or ".join(setting.variables), setting.description)
        for setting, value, origin in rows
    ]
    print(align_columns([headers, *cells]))
    if profiles.values:
        print_note(f"profiles in {profiles.path}: {', '.join(profiles.values)}")
    return 0


_CONFIG_KEYS = {
    "subscription_id": "subscription",
    "resource_group": "resource_group",
    "workspace": "workspace",
}
"""Setting to its key in ``studio_config``."""


def _with_workspace(
    rows: Iterable[tuple[Setting, str | None, str]],
) -> Iterator[tuple[Setting, str | None, str]]:
    """Yield the rows, with values of Studio's ``config.json`` for settings that are not set elsewhere."""
    from maas_client._connect.azure_resources import studio_config

    path, config = studio_config()
    for setting, value, origin in rows:
        default = None if value else config.get(_CONFIG_KEYS.get(setting.key, ""))
        yield (setting, default, str(path)) if default else (setting, value, origin)
