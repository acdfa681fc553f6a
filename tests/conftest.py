"""Shared by all rings: no test reads the developer's own settings."""

from __future__ import annotations

import pytest

from maas_client._settings import SETTINGS


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in SETTINGS:
        if setting.key in ("ca_file", "hf_home"):
            continue
        for variable in setting.variables:
            monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
