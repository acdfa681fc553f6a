"""``maas-client config``: every setting, its value and where it comes from."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from maas_client._settings import Setting, Settings
from maas_client.cli._output import align_columns, print_json


def add(parser: argparse.ArgumentParser) -> None:
    """Nothing but what every verb takes."""


def run(args: argparse.Namespace) -> int:
    """Print the table; secrets show their last four characters only."""
    settings = Settings.load(backend=args.backend, url=args.url)
    rows = list(_with_workspace(settings.to_rows()))
    if args.json:
        print_json(
            [
                {
                    "name": setting.key,
                    "value": shown,
                    "origin": origin,
                    "variables": setting.variables,
                    "text": setting.description,
                }
                for setting, shown, origin in rows
            ]
        )
        return 0
    heads = ("NAME", "VALUE", "FROM", "VARIABLE", "WHAT IT IS")
    cells = [
        (setting.key, shown or "-", origin, " or ".join(setting.variables), setting.description)
        for setting, shown, origin in rows
    ]
    print(align_columns([heads, *cells]))
    return 0


_PARTS = {
    "subscription_id": "subscription",
    "resource_group": "resource_group",
    "workspace": "workspace",
}


def _with_workspace(
    rows: Iterable[tuple[Setting, str | None, str]],
) -> Iterator[tuple[Setting, str | None, str]]:
    """Yield the rows with what Studio's ``config.json`` says where nothing else does, as a client reads it."""
    from maas_client._connect import studio_config

    place, held = studio_config()
    for setting, shown, origin in rows:
        part = None if shown else held.get(_PARTS.get(setting.key, ""))
        yield (setting, part, str(place)) if part else (setting, shown, origin)
