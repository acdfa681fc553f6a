"""A pytest plugin (installed with maas-client): the local server as a fixture.

    def test_my_application(maas_server):
        my_application.main()                       # uses maas.Client.from_env()
        assert maas_server.client().jobs.list()

``maas_server`` starts a server of its own for each test: instant engine (no torch, simulated answers),
own port, own state. While the test runs, ``MAAS_BACKEND``, ``MAAS_URL`` and ``MAAS_OFFLINE`` point
``Client.from_env()`` at it and keep every other request of this library on this machine.
``@pytest.mark.maas_training`` trains for real on the ``tiny`` base; the mark takes what
``maas_client.local.serve`` takes, e.g. ``@pytest.mark.maas_training(base="smollm2-135m")``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from maas_client.local.embed import LocalServer

_UNSET = ("MAAS_API_KEY", "MAAS_CATALOG", "MAAS_STATE_DIR")
"""What a developer's own shell may hold and a test must not see."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line(
        "markers",
        "maas_training(**options): the maas_server fixture trains for real (needs maas-client[local])",
    )


@pytest.fixture
def maas_server(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalServer]:
    """Yield a running local server; ``.url``, ``.client()`` and ``.async_client()`` reach it."""
    from maas_client.local.embed import serve

    with serve(**_options(request)) as server:
        for name in _UNSET:
            monkeypatch.delenv(name, raising=False)
        for name, value in {
            "MAAS_BACKEND": "local",
            "MAAS_DIALECT": "azureml",
            "MAAS_URL": server.url,
            "MAAS_OFFLINE": "1",
        }.items():
            monkeypatch.setenv(name, value)
        yield server


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    mark = request.node.get_closest_marker("maas_training")
    if mark is None:
        return {"engine": "instant"}
    return {"engine": "peft", "base": "tiny", **mark.kwargs}
