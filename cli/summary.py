"""The summary of a run for people: what was there before, and what this run brought."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..events.job import HOME, State
from . import output
from .library import Tables, counts_of, under

_BROUGHT = (
    ("finalized", State.INDEXED, "finalized"),
    ("deduped", State.DEDUPED, "deduped"),
    ("skipped_duplicate", State.SKIPPED_DUPLICATE, "held already"),
    ("failed", State.FAILED, "failed"),
)
"""Name in the JSON, state, and what people read."""


class Standing(NamedTuple):
    """How a list stood when its works were planned and none of them was taken up yet."""

    states: dict[str, int]
    """State → jobs; failures that this run tries again are planned anew and no failures here."""

    @classmethod
    def of(cls, tables: Tables, list_id: str) -> Standing:
        """How it stands now."""
        return cls(under(counts_of(tables, list_id), "state"))

    @property
    def home(self) -> int:
        """Jobs whose PDF was on disk."""
        return sum(self.states.get(state, 0) for state in HOME)

    @property
    def failed(self) -> int:
        """Jobs that had failed, and are not tried again."""
        return self.states.get(State.FAILED, 0)


def summary_text(summary: dict[str, Any], counts: dict[str, int], before: Standing) -> str:
    """The summary.

    Args:
        summary: the object of ``--json``, whose counts are those of the whole list.
        counts: the tallies of the list at the end of the run.
        before: how it stood at the start; what other processes brought since counts as this run's.
    """
    lines = [
        f"{output.many(summary['jobs'], 'job')} of {output.many(summary['works'], 'work')}"
        f"{_repeated(summary)} in {output.human_time(summary['elapsed_s'])}: "
        f"{_past(before)}{_brought(summary, before)}",
        f"  {output.human_bytes(summary['bytes'])} in {output.many(summary['requests'], 'request')}",
    ]
    if before.home or before.failed:
        lines.append("  the whole list, with what was there before:")
    if summary["bad_lines"]:
        lines.append(f"  {output.many(summary['bad_lines'], 'line')} refused, named above")
    for title, kind in (("by source", "source"), ("failed", "reason"), ("waiting", "waiting")):
        if found := under(counts, kind):
            lines.append(f"  {title:<9}  {output.counted(found)}")
    if others := under(counts, "title_check").get("mismatch", 0):
        lines.append(
            f"  {output.many(others, 'paper')} whose text does not show the work's title: "
            "quire list --title-check mismatch"
        )
    if summary["failures_file"]:
        lines.append(
            f"  the failures, to be fed back in: {summary['failures_file']} "
            "(with --retry-failed, also those that failed for good)"
        )
    return "\n".join(lines)


def _repeated(summary: dict[str, Any]) -> str:
    """Of the works of the list: how many said nothing new."""
    told = (
        (summary["named_twice"], "named twice"),
        (summary["other_names"], "under another name"),
        (summary["home_before"], "already home"),
    )
    said = ", ".join(f"{count} {what}" for count, what in told if count)
    return f" ({said})" if said else ""


def _past(before: Standing) -> str:
    told = [(before.home, "home"), (before.failed, "failed")]
    said = " and ".join(f"{count} {what}" for count, what in told if count)
    return f"{said} before; this run: " if said else ""


def _brought(summary: dict[str, Any], before: Standing) -> str:
    parts = [
        f"{max(0, summary[name] - before.states.get(state, 0))} {what}" for name, state, what in _BROUGHT
    ]
    return ", ".join([*parts, f"{summary['waiting']} waiting"])
