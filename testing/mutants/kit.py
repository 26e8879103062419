"""Which parts of the test kit are held against which defects: ``python -m quire.testing.mutants --kit``.

The other tests of a defect are the narrowest that must notice, most of them written for the very code that it
spoils. The checks named here (``tests/kit_checks.py``) know nothing of that code: they are what somebody has
who embeds the runtime with another domain. A defect that they do not notice stays in the list, and survives.
"""

from __future__ import annotations

from ...errors import UsageError

KIT_FILE = "tests/kit_checks.py"
KIT: dict[str, str] = {
    # The issue's own list.
    "ack_before_commit": "runtime_machine",
    "version_unchecked": "contract",
    "fence_dropped": "contract",
    "read_off_by_one": "contract",
    "last_of_batch_lost": "contract",
    "put_false_ignored": "refused_puts",
    "rename_before_fsync": "durable_names power_loss",
    "loser_not_cancelled": "fallback_machine",
    "budget_not_reserved": "fallback_machine",
    "final_not_memoised": "job_machine simulation",
    # The store and its files.
    "small_put_ignored": "refused_puts",
    "putmulti_ignored": "contract refused_puts",
    "unguarded_append": "contract",
    "batch_blind_to_earlier": "contract",
    "stream_read_off_by_one": "contract",
    "stream_index_off": "contract",
    "projections_lag": "contract",
    "rebuild_loses_the_rest": "contract",
    "rebuild_keeps_old_rows": "contract",
    "tally_only_grows": "contract store_machine",
    "index_entry_stays": "contract store_machine",
    "part_not_synced": "durable_names power_loss",
    # The journal.
    "results_shifted": "runtime_machine",
    "answers_cut": "runtime_machine",
    "store_error_survived": "runtime_machine simulation",
    # Leases.
    "living_owner_robbed": "job_machine",
    "dead_owner_kept": "job_machine",
    "expiry_unseen": "job_machine",
    "takeover_not_told": "job_machine",
    "takeovers_uncounted": "job_machine",
    "other_boot_is_alive": "job_machine simulation",
    "first_never_renewed": "job_machine simulation",
    # The ledger.
    "death_not_written": "job_machine",
    "salvage_unseen": "job_machine simulation",
    "append_without_epoch": "job_machine",
    "fenced_recovery_goes_on": "job_machine simulation",
    "refused_append_ignored": "job_machine simulation",
    # fallback(job).
    "time_not_reserved": "fallback_machine",
    "gate_costs_attempt": "fallback_machine",
    "concurrency_ignored": "fallback_machine",
    "parallel_off_by_one": "fallback_machine",
    "held_is_exhausted": "fallback_machine",
    "tiers_at_once": "fallback_machine",
    "broken_front_stays": "fallback_machine",
    "exhausted_is_final": "fallback_machine",
    "starts_after_win": "fallback_machine",
    "starts_beside_front": "fallback_machine",
    "beaten_not_put_back": "fallback_machine",
    "deadline_ignored": "fallback_machine",
    # The finalizer.
    "told_before_durable": "power_loss_of_a_session",
    "changed_part_placed": "rotten_parts",
}
"""Defect → the checks that are tried, in that order, without their ``test_``."""


def kit_of(name: str) -> tuple[str, ...]:
    """What is given to pytest for a defect.

    Raises:
        UsageError: no check is named for it.
    """
    if name not in KIT:
        raise UsageError(f"mutant {name}: no check of the kit is named for it in testing/mutants/kit.py")
    return tuple(f"{KIT_FILE}::{_full(check)}" for check in KIT[name].split())


def _full(check: str) -> str:
    return "TestContract" if check == "contract" else f"test_{check}"
