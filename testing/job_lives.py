"""How an example of JobMachine begins: some way into what chance alone would come to once in a thousand.

Each life is a list of steps of the machine, as a person would tell it. What follows is drawn.
"""

from __future__ import annotations

from typing import Any

from .played import URLS

Life = tuple[tuple[Any, ...], ...]
SOURCES = ("unpaywall_pdf", "arxiv_pdf", "doi_redirect_pdf")
"""Two in the first tier, one in the second."""
FIRST, OTHER = 0, 1
"""Two workers; the first takes the first two jobs, the other the third, unless it is told later."""
STORED = ("hurry", FIRST, 0, "good", URLS[0], 4, True)
"""The first worker brings its first job home."""
FAILS = ("hurry", FIRST, 0, "flaky", URLS[0], 8, True)
"""Its first job fails, for now."""

BOTH_WORK: Life = (("plan", FIRST, 7, 0, False), ("work", FIRST, 0), ("work", OTHER, 0))
ONE_WORKS: Life = BOTH_WORK[:2]
DEADLY: Life = (("plan", FIRST, 1, 0, False), ("work", FIRST, 0), *[("die", FIRST, "killed")] * 3)
"""One job has killed as often as makes it lonely, and runs alone."""

LIVES: dict[str, Life] = {
    "plain": BOTH_WORK,
    "streamed": (*BOTH_WORK, ("hurry", FIRST, 0, "good", URLS[0], 3, True)),
    "part left": (*BOTH_WORK, ("die", FIRST, "killed", 3)),
    "answer lost": (*BOTH_WORK, ("hurry", FIRST, 0, "good", URLS[0], 3, True), ("pass_time", 700.0)),
    "same bytes": (*BOTH_WORK, STORED, ("hurry", FIRST, 0, "good", URLS[1], 4, True)),
    "same work": (*ONE_WORKS, ("hurry", FIRST, 1, "good", URLS[0], 4, True)),
    "same work told": (
        *ONE_WORKS,
        ("hurry", FIRST, 1, "good", URLS[0], 4, True),
        ("hurry", FIRST, 1, "good", URLS[0], 1, True),
    ),
    "same work at once": (
        *BOTH_WORK,
        ("hurry", FIRST, 1, "good", URLS[0], 4, True),
        ("die", OTHER, "killed"),
        ("hurry", OTHER, 0, "good", URLS[0], 1, True),
    ),
    "known answer": (
        *BOTH_WORK,
        ("hurry", FIRST, 0, "bad", URLS[0], 2, False),
        ("hurry", FIRST, 0, "good", URLS[0], 1, True),
    ),
    "answer of the dead": (
        *BOTH_WORK,
        ("hurry", FIRST, 0, "bad", URLS[0], 2, False),
        ("die", FIRST, "killed"),
    ),
    "turn of the dead": (
        *BOTH_WORK,
        ("hurry", FIRST, 0, "bad", URLS[0], 1, True),
        ("die", FIRST, "killed"),
    ),
    "refused bytes": (*BOTH_WORK, ("hurry", FIRST, 0, "bad", URLS[0], 4, False)),
    "lost bytes": (*BOTH_WORK, ("hurry", FIRST, 0, "flaky", URLS[0], 4, False)),
    "broken stream": (*BOTH_WORK, ("hurry", FIRST, 0, "flaky", URLS[0], 3, False)),
    "broken and failed": (*BOTH_WORK, ("hurry", FIRST, 0, "flaky", URLS[0], 3, False), FAILS),
    "busy host": (*BOTH_WORK, ("hurry", FIRST, 0, "flaky", URLS[0], 2, False)),
    "cut stream": (*BOTH_WORK, ("hurry", FIRST, 0, "good", URLS[0], 2, True), ("die", FIRST, "killed")),
    "cut question": (*BOTH_WORK, ("hurry", FIRST, 0, "good", URLS[0], 1, True), ("die", FIRST, "killed")),
    "stopped": (*BOTH_WORK, ("die", FIRST, "stopped")),
    "asked again": (*BOTH_WORK, STORED, FAILS, ("plan", FIRST, 7, 1, False)),
    "failed": (*BOTH_WORK, FAILS),
    "dead letter": (*BOTH_WORK, FAILS, ("plan", FIRST, 7, 0, True), ("work", FIRST, 0), FAILS, FAILS),
    "halfway": (*BOTH_WORK, ("die", FIRST, "HEAD_DONE"), FAILS, FAILS),
    "halfway on": (*BOTH_WORK, ("die", FIRST, "RESUME_OK"), FAILS, FAILS),
    "resumed": (*BOTH_WORK, ("die", FIRST, "RESUME_OK"), STORED, STORED),
    "not indexed": (*BOTH_WORK, ("die", FIRST, "FINALIZED", 3)),
    "not told": (*BOTH_WORK, ("die", FIRST, "placed", 3)),
    "deadly": DEADLY,
    "poison": (*DEADLY, ("die", FIRST, "killed")),
    "poison unstarted": (
        *ONE_WORKS,
        ("hurry", FIRST, 1, "good", URLS[0], 4, True),
        ("hurry", FIRST, 0, "good", URLS[1], 4, True),
        *[("die", FIRST, "killed")] * 4,
    ),
    "late": (*BOTH_WORK, ("sleep_or_wake", FIRST), ("pass_time", 130.0), ("sleep_or_wake", FIRST)),
    "parked": (
        *BOTH_WORK,
        *(("die", who, "killed", 0, offline) for offline in (True, False) for who in (FIRST, OTHER)),
        STORED,
        ("pass_time", 0.3),
    ),
    "clock set back": (
        *(("shut_a_gate", source, 100) for source in SOURCES),
        *BOTH_WORK,
        ("clock_jumps", -1),
        ("pass_time", 130.0),
    ),
    "clock set back between runs": (
        *(("shut_a_gate", source, 100) for source in SOURCES),
        *BOTH_WORK,
        *(("sleep_or_wake", who) for who in (FIRST, OTHER)),
        ("clock_jumps", -1),
        *(("die", who, "killed") for who in (FIRST, OTHER)),
        ("pass_time", 130.0),
    ),
    "clock set on": (*BOTH_WORK, ("clock_jumps", 1)),
}
