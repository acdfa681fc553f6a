"""Shared by all tests: none reads the developer's own settings or depends on the machine's speed."""

from __future__ import annotations

import os
import sys
from collections import defaultdict

# Each process of a run, and each pytest that a test starts, would compile all tests and hypothesis again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # noqa: TID251 - for the processes that tests start

import pytest  # noqa: E402 - after the switch
from hypothesis import HealthCheck, settings  # noqa: E402

from maas_client._settings import SETTINGS  # noqa: E402

# As in the processes that train: bitsandbytes, which peft imports, would load torch's compiler.
os.environ["TORCHDYNAMO_DISABLE"] = "1"  # noqa: TID251 - read when torch is imported

# A slow machine is not a fault of the code: no deadline and no check of how fast inputs are drawn.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the modules that have slow tests in each process, so that short ones keep all busy at the end.

    pytest-xdist gives each process a contiguous share of the tests, of which others later take the end.
    """
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    if processes == 1:
        return
    modules = defaultdict(list)
    for item in items:
        modules[item.path].append(item)
    slow = [tests for tests in modules.values() if any(map(_is_slow, tests))]
    quick = [test for tests in modules.values() if not any(map(_is_slow, tests)) for test in tests]
    in_order: list[pytest.Item] = []
    for process in range(processes):
        share = (len(items) - len(in_order)) // (processes - process)
        end = len(slow) // (processes - process)  # neighbours: modules of a folder share fixtures
        first = [test for tests in slow[:end] for test in tests]
        others = max(share - len(first), 0)
        in_order += first + quick[:others]
        del slow[:end], quick[:others]
    items[:] = in_order + quick


def _is_slow(test: pytest.Item) -> bool:
    return test.get_closest_marker("slow") is not None


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in SETTINGS:
        if setting.key in ("ca_file", "hf_home"):
            continue
        for variable in setting.variables:
            monkeypatch.delenv(variable, raising=False)
    # A test must not use the developer's profiles, nor start a server.
    monkeypatch.setenv("MAAS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("MAAS_START_SERVER", "0")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
