"""Faults between a client and a server: a proxy that carries out plans, and soak tests."""

from maas_client.testing import Fault, FaultPlan
from tests.faults.proxy import FaultProxy

__all__ = ["Fault", "FaultPlan", "FaultProxy"]
