"""Where the actors of one session are found; filled by the session before the first message flows."""

from __future__ import annotations

from dataclasses import dataclass, field

from .runtime.address import Address


@dataclass
class Directory:
    """The addresses of one session's actors."""

    journal: Address = field(init=False)
    planner: Address = field(init=False)
    leases: Address = field(init=False)
    reconciler: Address = field(init=False)
    resolver: Address = field(init=False)
    finalizer: Address = field(init=False)
    breakers: Address = field(init=False)
    adapters: dict[str, Address] = field(default_factory=dict)
