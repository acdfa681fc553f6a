"""Faults between a client and a server: plans as data, and a proxy that carries them out."""

from tests.faults.plan import Fault, FaultPlan
from tests.faults.proxy import FaultProxy

__all__ = ["Fault", "FaultPlan", "FaultProxy"]
