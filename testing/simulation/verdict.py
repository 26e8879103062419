"""Judging a life: what its log, its files, the web's ledger and its user's memory say together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...actors.outcome import Outcome
from ...events.job import HOME
from ...events.projections import JOBS, job_row_key
from ...store.objects import Objects
from ..accounts import Account, account_of
from .chosen_world import ChosenWorld
from .disk import Log
from .web import HarmedLedger


def account_of_life(
    log: Log, library: Path, world: ChosenWorld, ledger: HarmedLedger, told: Mapping[str, Outcome]
) -> Account:
    """The account of a library, with every broken promise in words.

    Args:
        log: the open log of the library.
        library: its folder.
        world: the web that it worked on; it knows what could be had.
        ledger: what that web was asked, without the answers that the wire spoiled.
        told: job → the last outcome that a user was told.
    """
    account, _ = account_of(log, Objects(library), world=world, ledger=ledger, works=world.work_ids())
    account.problems += [*_untrue(log, told), *_not_rebuilt(log)]
    account.problems += [f"{url} was asked for without the network" for url in ledger.forbidden]
    return account


def _untrue(log: Log, told: Mapping[str, Outcome]) -> list[str]:
    """What somebody was told to be home must be home, with those bytes."""
    rows = log.rows(JOBS, [job_row_key(job_id) for job_id in told])
    problems = []
    for (job_id, outcome), row in zip(told.items(), rows, strict=True):
        if outcome.state not in HOME:
            continue
        kept = row.artifact.sha256 if row is not None and row.artifact is not None else ""
        if row is None or row.state not in HOME or kept != outcome.sha256:
            problems.append(f"job {job_id} was told to be {outcome.state}, and the log does not have it so")
    return problems


def _not_rebuilt(log: Log) -> list[str]:
    """The tables must be what the log folds to."""
    kept = log.digest()
    log.rebuild()
    return [] if log.digest() == kept else ["the projections are not what the log folds to"]
