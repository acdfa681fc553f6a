"""The law for data sets, parsed once: JSON Schema 2020-12 from ``schemas/``."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from maas_client._package_data import read_schema

CHAT_LINE_SCHEMA = "chat_line.schema.json"
REPORT_SCHEMA = "report.schema.json"


@lru_cache(maxsize=8)
def load_schema(name: str = CHAT_LINE_SCHEMA) -> dict[str, Any]:
    """Return one of the project's schemas, parsed. Raises ``FileNotFoundError``."""
    found: dict[str, Any] = json.loads(read_schema(name))
    return found
