"""Writes the tables of ``sources.md`` from the code and the defaults, between their markers.

``python docs/tables.py`` after a change of a source, a policy or a reason; a test compares. What a source can
say is read from its module: the codes that stand in it, and those of the shared readers that it imports.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from quire.actors.sources.finding import REASONS
from quire.config.loader import load
from quire.config.settings import SOURCES

HOUSE = Path(__file__).resolve().parents[1]
PAGE = HOUSE / "docs" / "sources.md"
ROOM = HOUSE / "actors" / "sources"
WEB = HOUSE / "actors" / "web"
READS_PAGES = ("page.py", "page_anchors.py", "walls.py")
"""Files of ``actors/web`` that judge a page: what they say is the landing reader's word."""
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
IDENTIFIER = "crossref"


def literals(node: ast.AST) -> set[str]:
    """The reason codes that stand in a piece of code."""
    texts = {
        one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)
    }
    codes = texts & REASONS.keys()
    return codes | {"http_NNN"} if "http_" in texts else codes


def of_file(path: Path) -> set[str]:
    """The reason codes of a module."""
    return literals(ast.parse(path.read_text(encoding="utf-8")))


def of_source(name: str) -> set[str]:
    """The codes that a source gives itself, before any candidate is opened."""
    module = ast.parse((ROOM / f"{name.removesuffix('_pdf')}.py").read_text(encoding="utf-8"))
    imported = {
        alias.name for one in ast.walk(module) if isinstance(one, ast.ImportFrom) for alias in one.names
    }
    shared = ast.parse((ROOM / "finding.py").read_text(encoding="utf-8"))
    codes = literals(module)
    for one in shared.body:
        if isinstance(one, ast.FunctionDef) and one.name in imported:
            codes |= literals(one)
    if "read_page" in imported:
        codes = codes.union(*(of_file(WEB / file) for file in READS_PAGES))
    return codes


def of_network() -> set[str]:
    """The codes of the network and of our manners, which any request of any source can meet."""
    files = (path for path in WEB.glob("*.py") if path.name not in READS_PAGES)
    return {"http_NNN"}.union(*(of_file(path) for path in files))


def of_disk() -> set[str]:
    """The codes of the proof, and of what else can be wrong with bytes on disk."""
    return of_file(HOUSE / "store" / "proof.py") | of_file(HOUSE / "actors" / "finalizer.py")


def everyday() -> set[str]:
    """Codes that are everyday words, the kinds of a file: codes only where the proof says them."""
    proof = ast.parse((HOUSE / "store" / "proof.py").read_text(encoding="utf-8"))
    return set().union(
        *(literals(one) for one in proof.body if isinstance(one, ast.FunctionDef) and one.name == "_kind_of")
    )


def reasons(codes: Iterable[str]) -> str:
    """Codes with their sentences, in the order of the table in ``finding.py``."""
    wanted = set(codes)
    return table(
        ("code", "what it means", "what you can do"),
        ((f"`{code}`", reason.means, reason.advice) for code, reason in REASONS.items() if code in wanted),
    )


def table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def plan() -> str:
    """Tier and policy of each source."""
    fallback = load([], environ={}).settings.fallback
    rows = []
    for tier in fallback.tiers:
        for name in tier.sources:
            policy = fallback.policies[name]
            robots = "yes" if policy.robots_respect else "no"
            rows.append(
                (f"`{name}`", tier.name, tier.parallel, policy.timeout_ms, policy.retries_max, robots)
            )
    return table(("source", "tier", "at once in the tier", "timeout_ms", "retries_max", "robots.txt"), rows)


def endpoints() -> str:
    """Each setting of each source with its default."""
    sources = msgspec.to_builtins(load([], environ={}).settings.sources)
    rows = [
        (f"`sources.{source}.{name}`", f"`{value}`")
        for source, values in sources.items()
        for name, value in values.items()
    ]
    return table(("setting", "default"), rows)


def limits() -> str:
    """Requests per second by role and host."""
    values = load([], environ={}).settings.web.limits
    roles = [("metadata", values.metadata_per_s), ("landing", values.landing_per_s)]
    roles += [("artifact", values.artifact_per_s)]
    rows = [(f"role `{role}`, each host", f"{rate:g}") for role, rate in roles]
    rows += [(f"`{host}`, all roles together", f"{rate:g}") for host, rate in values.hosts_per_s.items()]
    return table(("what", "requests a second"), rows)


def tables() -> dict[str, str]:
    """Every generated table by the name of its marker."""
    kinds, disk = everyday(), of_disk()
    own = {name: of_source(name) - kinds for name in (*SOURCES, IDENTIFIER)}
    network = of_network() - kinds
    course = REASONS.keys() - network.union(disk, *own.values())
    made = {"plan": plan(), "endpoints": endpoints(), "limits": limits()}
    made |= {name: reasons(codes) for name, codes in own.items()}
    return made | {"network": reasons(network), "disk": reasons(disk), "course": reasons(course)}


def filled(text: str) -> str:
    """The page with its tables as the code has them."""
    made = tables()
    return BLOCK.sub(lambda block: f"{block[1]}{made[block[2]]}{block[3]}", text)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
