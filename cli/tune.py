"""``quire fallback tune``: changes to the plan that would have paid, found by replaying what was recorded."""

from __future__ import annotations

import argparse
import random
from typing import Any

import msgspec

from ..config.settings import Fallback
from ..errors import UsageError
from ..events.fallback_plan import Plan
from ..store.interface import EventStore
from . import output
from .library import events_in, opened
from .moments import since_ns
from .traces import Trace, traces
from .tuning import Change, Tally, Tuner

TRACES_LEAST = 20
"""Works below which a log says too little for a proposal."""


def tune(args: argparse.Namespace) -> int:
    """Propose order, timeouts and parallelism, with what each would have gained."""
    with opened(args) as (store, _, clock, settings):
        since = since_ns(args.since, clock.wall_ns()) if args.since else 0
        kept = _sample(_traces(store, since), args.works, args.seed)
        plan = Plan.of(settings.fallback)
        tuner = Tuner(kept)
        before = tuner.tally(plan)
        changes = list(tuner.proposals(plan))
    home = sum(trace.home for trace in kept)
    if args.json:
        output.say_json(_as_value(kept, home, before, changes))
        return 0
    output.say(_text(kept, home, before, changes))
    if changes:
        output.say("\nTo take all of them, put this into the library's quire.yaml or a file for --config:\n")
        output.say(_yaml(settings.fallback, changes[-1].plan))
    return 0


def _traces(store: EventStore, since: int) -> list[Trace]:
    found = traces(events_in(store), since_ns=since)
    if len(found) < TRACES_LEAST:
        raise UsageError(
            f"the log holds the turns of {output.many(len(found), 'work')}; a proposal needs "
            f"{TRACES_LEAST} at least: run a list first"
        )
    return found


def _sample(found: list[Trace], works: int, seed: int) -> list[Trace]:
    return found if len(found) <= works else random.Random(seed).sample(found, works)


def _as_value(kept: list[Trace], home: int, before: Tally, changes: list[Change]) -> dict[str, Any]:
    return {
        "works": len(kept),
        "home_recorded": home,
        "replayed": msgspec.to_builtins(before),
        "changes": [
            {
                "setting": change.setting,
                "now": change.now,
                "then": change.then,
                "home": change.home,
                "resolving_ms": change.after.resolving_ms - change.before.resolving_ms,
                "turns": change.after.turns - change.before.turns,
                "recorded": change.after.recorded,
                "drawn": change.after.drawn,
            }
            for change in changes
        ],
    }


def _text(kept: list[Trace], home: int, before: Tally, changes: list[Change]) -> str:
    lines = [
        f"{output.many(len(kept), 'generation')} of works replayed under the plan in force: "
        f"{before.home} papers home (the log says {home}), "
        f"{output.human_time(before.resolving_ms / 1000)} of resolving, "
        f"{output.many(before.turns, 'turn')} ({before.recorded} as recorded, {before.drawn} drawn from "
        "other works)."
    ]
    if not changes:
        return "\n".join([*lines, "No change to order, timeouts or parallelism would have paid."])
    lines.append(
        "Changes that would have paid, each on top of those before: no paper lost, and time and turns\n"
        "together less by 1 % at least (a minus is a saving; a change may save turns and cost some time)."
    )
    rows = [
        (
            f"{change.home:+}",
            _percent(change.before.resolving_ms, change.after.resolving_ms),
            _percent(change.before.turns, change.after.turns),
            _share_drawn(change.after),
            change.setting,
            f"{change.now} → {change.then}",
        )
        for change in changes
    ]
    lines.append(output.table(rows, header=("papers", "time", "turns", "drawn", "setting", "change")))
    lines.append(
        "Drawn: what no record of the work itself says, taken from turns for other works; "
        "the larger the share, the less sure."
    )
    return "\n".join(lines)


def _percent(before: int, after: int) -> str:
    return f"{(after - before) / before:+.1%}" if before else ""


def _share_drawn(tally: Tally) -> str:
    asked = tally.recorded + tally.drawn
    return f"{tally.drawn / asked:.0%}" if asked else ""


def _yaml(settings: Fallback, plan: Plan) -> str:
    """The plan as settings, in the form of defaults.yaml; disabled sources stay where they were."""
    lines = ["fallback:", "  budgets:", f"    max_concurrent: {plan.max_concurrent}", "  tiers:"]
    lines += [
        f"    - {{name: {name}, parallel: {parallel}, sources: [{', '.join(sources)}]}}"
        for name, parallel, sources in plan.tiers
    ]
    lines.append("  policies:")
    for source, timeout_ms in plan.timeouts_ms.items():
        policy = next((p for name, p in settings.policies.items() if name == source), None)
        if policy is not None and policy.timeout_ms != timeout_ms:
            robots = "true" if policy.robots_respect else "false"
            lines.append(
                f"    {source}: {{timeout_ms: {timeout_ms}, retries_max: {policy.retries_max}, "
                f"robots_respect: {robots}}}"
            )
    if lines[-1] == "  policies:":
        lines.pop()
    return "\n".join(lines)
