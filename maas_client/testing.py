"""A pytest plugin with the local server as a fixture. It is active when maas-client is installed.

Example::

    def test_my_application(maas_server):
        my_application.main()  # uses maas.Client.from_env()
        assert list(maas_server.client().jobs.list())

Each test that uses ``maas_server`` gets its own server with its own port and state. By default it uses the
instant engine: no torch, and simulated training and answers. During the test, ``MAAS_BACKEND``,
``MAAS_DIALECT``, ``MAAS_URL`` and ``MAAS_OFFLINE`` make ``Client.from_env()`` connect to it and stop this
library from reaching any other host.

``@pytest.mark.maas_training`` trains for real on the ``tiny`` base. The mark takes the options of
``maas_client.local.serve``, for example ``@pytest.mark.maas_training(base="smollm2-135m")``.

``@pytest.mark.maas_faults(Fault("PUT", "/jobs/", disconnect=True))`` makes requests fail on purpose, to test
how an application handles them; ``maas_server.faults.count`` is how many did.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from maas_client.local.fault_plan import Fault, FaultPlan

if TYPE_CHECKING:
    from maas_client.local.embedded_server import LocalServer

__all__ = ["Fault", "FaultPlan", "maas_server", "pytest_configure"]

_UNSET = ("MAAS_API_KEY", "MAAS_CATALOG", "MAAS_STATE_DIR")
"""Variables of the developer's shell that a test must not see."""


def pytest_configure(config: pytest.Config) -> None:
    """Register the ``maas_training`` mark.

    Args:
        config: The pytest configuration.
    """
    config.addinivalue_line(
        "markers",
        "maas_training(**options): the maas_server fixture trains for real (needs maas-client[local])",
    )
    config.addinivalue_line(
        "markers", "maas_faults(*faults): requests to the maas_server fixture fail on purpose"
    )


@pytest.fixture
def maas_server(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalServer]:
    """Provide a running local server, a new one for each test.

    Args:
        request: The pytest request. A ``maas_training`` mark on the test sets the server's options.
        monkeypatch: Sets the ``MAAS_*`` variables for the duration of the test.

    Yields:
        A ``LocalServer``: ``.url``, ``.client()`` and ``.async_client()`` connect to it.

    Raises:
        MissingExtraError: A package is missing. The message says what to install.

    Example:
        ::

            def test_upload(maas_server):
                dataset = maas_server.client().datasets.upload("train.jsonl")
                assert dataset.id
    """
    from maas_client.local.embedded_server import serve

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
    faults = request.node.get_closest_marker("maas_faults")
    options = {"faults": FaultPlan(faults.args, **faults.kwargs)} if faults else {}
    mark = request.node.get_closest_marker("maas_training")
    if mark is None:
        return {"engine": "instant", **options}
    return {"engine": "peft", "base": "tiny", **options, **mark.kwargs}
