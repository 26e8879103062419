"""The network as one search of a source hears it: whether all of its answers came from the HTTP cache."""

from __future__ import annotations

from ..web.exchange import Answer, Download, Gate, Request, Role, Web


class Hearing:
    """A web port that passes everything on and remembers where the answers came from."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._asked = 0
        self._cached = 0

    def __repr__(self) -> str:
        return f"<Hearing {self._cached} of {self._asked} from the cache>"

    @property
    def from_cache(self) -> bool | None:
        """Whether all that was asked was answered by the cache; None when nothing was asked."""
        return self._cached == self._asked if self._asked else None

    async def fetch(self, request: Request) -> Answer:
        """As ``Web.fetch``; an error counts as asked, and not as answered."""
        self._asked += 1
        answer = await self._web.fetch(request)
        self._cached += answer.from_cache
        return answer

    async def open(self, request: Request) -> Download:
        """As ``Web.open``; a PDF is never in the cache."""
        self._asked += 1
        return await self._web.open(request)

    def gate(self, url: str, role: Role) -> Gate | None:
        """As ``Web.gate``."""
        return self._web.gate(url, role)

    async def close(self) -> None:
        """As ``Web.close``."""
        await self._web.close()
