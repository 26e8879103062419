"""What the web port reads of the settings, for a client and for each of its parts."""

from __future__ import annotations

from typing import NamedTuple

from ...config.settings import Download, Gates, Quire, Thresholds, Web
from ...errors import UsageError


class ClientSettings(NamedTuple):
    """The four sections that say how the network is asked."""

    web: Web
    thresholds: Thresholds
    gates: Gates
    download: Download

    @classmethod
    def of(cls, settings: Quire) -> ClientSettings:
        """The sections of all settings."""
        return cls(settings.web, settings.fallback.thresholds, settings.fallback.gates, settings.download)

    def check(self) -> None:
        """Raise UsageError where they contradict each other."""
        if self.web.pacing == "none" and not self.web.stand_in:
            raise UsageError(
                "web.pacing: none is for rehearsals: set web.stand_in as well, or leave it polite"
            )
