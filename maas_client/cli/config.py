"""``maas-client config``: every setting, its value and where it comes from."""

from __future__ import annotations

import argparse

from maas_client._settings import Settings
from maas_client.cli._output import aligned, print_json


def add(parser: argparse.ArgumentParser) -> None:
    """Nothing but what every verb takes."""


def run(args: argparse.Namespace) -> int:
    """Print the table; secrets show their last four characters only."""
    settings = Settings.load(backend=args.backend, url=args.url)
    rows = settings.table()
    if args.json:
        print_json(
            [
                {
                    "name": setting.key,
                    "value": shown,
                    "origin": origin,
                    "variables": setting.variables,
                    "text": setting.text,
                }
                for setting, shown, origin in rows
            ]
        )
        return 0
    heads = ("NAME", "VALUE", "FROM", "VARIABLE", "WHAT IT IS")
    cells = [
        (setting.key, shown or "-", origin, " or ".join(setting.variables), setting.text)
        for setting, shown, origin in rows
    ]
    print(aligned([heads, *cells]))
    return 0
