"""Any order of doing, against a model: the store, the jobs, the runtime; and planted defects, to be found.

2,000 examples of 50 steps by default; ``QUIRE_MACHINES=quick`` runs a tenth, ``QUIRE_MACHINES=campaign``
25 times as many, drawn anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from quire.actors import job_in_hand, lease_manager, messages, planner
from quire.actors.desk import Desk
from quire.actors.holdings import Holdings
from quire.actors.lease_manager import LeaseManager
from quire.actors.planner import Planner
from quire.actors.reconciler import Reconciler
from quire.actors.runtime.journal import Journal, Journaled
from quire.actors.runtime.mailbox import Mailbox
from quire.actors.runtime.supervision import Child
from quire.actors.storing import Storing
from quire.events import ledger
from quire.events.facts import (
    AnyEvent,
    JobLeased,
    JobStateChanged,
    JobWaiting,
    LeaseReleased,
    OperationCompleted,
    type_of,
)
from quire.events.fallback import Finish
from quire.events.job import State
from quire.events.projections import JOBS, PARKED_NS, WAITING, claimable_entries, list_prefix
from quire.events.record import Appended, Conflict, Fenced
from quire.store import codec, projecting
from quire.store.domain import QUIRE
from quire.store.lmdb_tables import Tables
from quire.store.memory_store import MemoryStore
from quire.testing import strategies
from quire.testing.hand_scheduler import HandClock
from quire.testing.job_effects import RULES
from quire.testing.job_entry import WAYS
from quire.testing.job_halfway import HALFWAY
from quire.testing.job_lives import LIVES
from quire.testing.job_machine import JobMachine
from quire.testing.played import Shelf
from quire.testing.runtime_machine import RuntimeMachine
from quire.testing.scripted import PROFILE, Imports, budget, script_in, source_of
from quire.testing.store_machine import LmdbStoreMachine, StoreMachine

FIND = settings(
    max_examples=300,
    stateful_step_count=50,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
"""The budget within which a planted defect has to be found."""


JOBS_EXAMPLES, RUNTIME_EXAMPLES = 200, 1480
"""With 300 of the store in memory and 20 of LMDB's, 2,000 in all."""


# Any order of doing


def test_memory_store() -> None:
    """The store in memory is its model, whatever is done to it in whatever order."""
    run_state_machine_as_test(StoreMachine, settings=budget(300))


def test_lmdb_store() -> None:
    """So is LMDB's, closed, copied while open, copied within an append, full and emptied again."""
    run_state_machine_as_test(LmdbStoreMachine, settings=budget(20))


NEVER_TAKEN = {("FINALIZED", "FAILED")}
"""Of the steps that the table holds: bytes that were proved and placed once are not refused later."""
EVENTS = {
    *("takeover", "alone", "poison", "lease_renewed", "shutdown"),
    *("job_listed", "job_requeued", "exhausted", "budget_exhausted"),
    *("job_waiting", "breaker_open", "offline", "clock_set_back", "crash_recovery_event", "stale"),
}
"""Kinds of events and reasons that the log must have seen."""
EFFECTS = {
    *(f"recovery of {kind}" for kind in RULES if kind != "DEDUPE"),
    *("salvage", "died with an object placed", "stopped", "replay of HEAD"),
    *(f"died at {milestone}" for milestone in HALFWAY),
    *(f"{kind} OK" for kind in RULES if kind != "FALLBACK"),
    *(f"{kind} RETRYABLE" for kind in ("HEAD", "STREAM", "FINALIZE", "FALLBACK", "RESOLUTION")),
    *(f"{kind} NON_RETRYABLE" for kind in ("HEAD", "FINALIZE", "FALLBACK")),
    *(f"planned: {what}" for what in ("new", "unfinished", "requeued", "home", "failed", "doubled")),
}
"""What the ledger must have seen. An effect of kind DEDUPE is never in flight: it begins and ends at once."""


def begin_each_life(machine: type[JobMachine]) -> None:
    """Each beginning once, whatever is drawn: what is rare is reached for certain."""
    for life in LIVES:
        state = machine()
        try:
            state.begin(life=life)
        finally:
            state.teardown()


def test_jobs() -> None:
    """Jobs go forward, are held by one, fenced from late owners, never redone; and all of it did occur.

    Every state, every step between states, every kind of effect with its recovery and every rule of the
    machine comes within the budget: what never runs proves nothing.
    """
    seen: Counter[str] = Counter()
    ways: Counter[tuple[str, str]] = Counter()
    rules: Counter[str] = Counter()

    class Counted(JobMachine):
        def release(self) -> None:
            seen.update(_marks(self.store.read()))
            seen.update(self.met + self.book.effects.met)
            ways.update(self.book.ways)
            rules.update(name for name, _ in self.steps)
            super().release()

    begin_each_life(Counted)
    run_state_machine_as_test(Counted, settings=budget(JOBS_EXAMPLES))
    wanted = EVENTS | EFFECTS
    every_way = {(before, after) for before, afters in WAYS.items() for after in afters}
    assert {state for way in ways for state in way} == set(WAYS) == set(State)
    if os.environ.get(PROFILE) != "quick":  # a tenth of the examples is too few for what is left to chance
        assert wanted <= seen.keys(), f"never seen: {wanted - seen.keys()}"
        assert every_way | {("FAILED", "PLANNED")} == ways.keys() | NEVER_TAKEN, every_way - ways.keys()
    named = {rule.function.__name__ for rule in JobMachine().rules}
    assert named <= rules.keys(), f"never taken: {named - rules.keys()}"


def _marks(log: list[Any]) -> list[str]:
    marks = []
    for recorded in log:
        event = recorded.event
        marks.append(type_of(event))
        if isinstance(event, JobLeased):
            marks += ["takeover"] * event.takeover + ["alone"] * event.alone
        elif isinstance(event, JobStateChanged | JobWaiting | LeaseReleased):
            marks.append(event.reason)
        elif isinstance(event, OperationCompleted):
            marks.append(str(event.result.get("reason")))
    return marks


def test_runtime() -> None:
    """Acknowledged is durable, order is kept, restarts follow the policy, nothing is lost without a word."""
    run_state_machine_as_test(RuntimeMachine, settings=budget(RUNTIME_EXAMPLES))


# Planted defects


def _without(kind: type) -> Any:
    """``refused`` that lets one kind of refusal pass."""
    real = codec.refused

    def refused(batch: Any, state: Any) -> Any:
        refusal = real(batch, state)
        return None if isinstance(refusal, kind) else refusal

    return refused


def version_check_skipped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(codec, "refused", _without(Conflict))


def fence_dropped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(codec, "refused", _without(Fenced))


def last_of_a_batch_lost(patch: pytest.MonkeyPatch) -> None:
    real = codec.CommitCodec.encode

    def encode(self: Any, previous: bytes, draft: Any) -> bytes:
        draft.entries = draft.entries[:-1] or draft.entries
        return real(self, previous, draft)

    patch.setattr(codec.CommitCodec, "encode", encode)


def read_off_by_one(patch: pytest.MonkeyPatch) -> None:
    real = MemoryStore._read
    patch.setattr(MemoryStore, "_read", lambda self, after, limit: real(self, after and after - 1, limit))


def stream_read_loses_a_commit(patch: pytest.MonkeyPatch) -> None:
    real = MemoryStore.read_stream

    def read_stream(self: Any, stream: str, after: int = 0, *, limit: int = 10_000) -> Any:
        found = real(self, stream, after, limit=limit)
        return found if after < 2 else found[1:]

    patch.setattr(MemoryStore, "read_stream", read_stream)


def tally_not_updated(patch: pytest.MonkeyPatch) -> None:
    real = projecting._Table._tally_changes

    def changes(self: Any, changed: Any, get: Any) -> Any:
        return real(self, [one for one in changed if one[2] is not None], get)

    patch.setattr(projecting._Table, "_tally_changes", changes)


def refused_batches_commit(patch: pytest.MonkeyPatch) -> None:
    def append(self: Any, batches: Any) -> Any:
        draft = codec.Draft(self._head.position, time_ns=self._clock.wall_ns(), run_id=self._run_id)
        draft.judge(batches, lambda stream: self._streams.get(stream, (0, 0)))
        self._keep(draft)
        return draft.results

    patch.setattr(MemoryStore, "append", append)


def old_tables_stay_at_rebuild(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tables, "_empty", lambda self, txn: None)


def claim_index_stale(patch: pytest.MonkeyPatch) -> None:
    def entries(key: bytes, row: Any) -> Any:
        return claimable_entries(key, msgspec.structs.replace(row, lease=None))

    jobs = next(one for one in QUIRE.projections if one.name == JOBS)
    stale = replace(jobs, indexes={**jobs.indexes, "claimable": entries})
    domain = replace(QUIRE, projections=(stale, *QUIRE.projections[1:]))
    patch.setattr(JobMachine, "open_store", lambda self: MemoryStore(domain, run_id="run", clock=self.clock))


def lease_granted_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LeaseManager, "_is_over", lambda self, job_id, lease: job_id not in self.in_hand)


def dead_owners_jobs_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LeaseManager, "_is_over", lambda self, job_id, lease: False)


def poison_runs_beside_others(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LeaseManager, "_lonely", lambda self, row: False)


def memoised_result_redone(patch: pytest.MonkeyPatch) -> None:
    real = job_in_hand._machine
    patch.setattr(
        job_in_hand,
        "_machine",
        lambda row, plan, now_ms: real(msgspec.structs.replace(row, ops={}), plan, now_ms),
    )


def answers_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(job_in_hand, "_answered", lambda ops, job_id: {})


def leases_expire_by_the_wall_clock(patch: pytest.MonkeyPatch) -> None:
    off_ns = HandClock().wall - HandClock().boot
    real = LeaseManager._is_over

    def is_over(self: Any, job_id: str, lease: Any) -> bool:
        return real(self, job_id, lease) or lease.until_ns < self._clock.wall_ns() - off_ns

    patch.setattr(LeaseManager, "_is_over", is_over)


def parked_jobs_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LeaseManager, "_free_to_us", lambda self, list_id: iter(()))


def parked_jobs_taken_from_the_living(patch: pytest.MonkeyPatch) -> None:
    """As it was until this machine found it: the walk did not look whether a job is still parked."""

    def free(self: Any, list_id: str) -> Any:
        for _, key in self._entries(WAITING, list_prefix(list_id) + PARKED_NS.to_bytes(8, "big")):
            yield from self._row(key)

    patch.setattr(LeaseManager, "_free_to_us", free)


def clock_set_back_holds_jobs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lease_manager, "overslept", lambda store, wall_ns: iter(()))


def clock_set_back_between_runs_holds_jobs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lease_manager, "went_back", lambda store, by_ns: False)


def taken_before_its_gate_opens(patch: pytest.MonkeyPatch) -> None:
    real = LeaseManager._due

    def due(self: Any, list_id: str) -> Any:
        for _, key in self._entries(WAITING, list_prefix(list_id)):
            yield from (
                (job_id, row) for job_id, row in self._row(key) if row.lease is None and row.epoch < 3
            )
        yield from real(self, list_id)

    patch.setattr(LeaseManager, "_due", due)


def gate_costs_a_generation(patch: pytest.MonkeyPatch) -> None:
    def wait(self: Any, job: Any, _wait: Any, events: Any) -> None:
        self._finish_without(job, Finish("no_pdf", "exhausted", may_retry=True), events)

    patch.setattr(Desk, "_wait", wait)


def backoff_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(planner, "backoff_ns", lambda retry, generation: 0)


def dead_letters_go_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Planner, "_may_go_again", lambda self, row: True)


def in_flight_of_the_dead_goes_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger, "in_flight", lambda ops: [])


def finalize_recovered_by_the_wrong_rule(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(ledger.RECOVERY, "FINALIZE", "again")


class Blind:
    """A shelf whose objects nobody sees."""

    def __init__(self, shelf: Any) -> None:
        self.part_path = shelf.part_path

    def has(self, _sha256: str, _size: int) -> bool:
        return False


def object_of_the_dead_not_looked_for(patch: pytest.MonkeyPatch) -> None:
    real = Reconciler.__init__

    def init(self: Any, *, directory: Any, objects: Any) -> None:
        real(self, directory=directory, objects=Blind(objects))

    patch.setattr(Reconciler, "__init__", init)


def part_of_the_dead_not_looked_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Reconciler, "_has_part", lambda self, job_id, epoch, size: False)


def held_work_fetched_anew(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Holdings, "of_work", lambda self, work, *, besides, **_: None)


def same_bytes_indexed_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Holdings, "first_with", lambda self, sha256, *, besides, claimed=None: None)


def duplicate_points_to_itself(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Holdings, "first_with", lambda self, sha256, *, besides, claimed=None: besides)


def skipped_ends_what_was_not_begun(patch: pytest.MonkeyPatch) -> None:
    """As it was until this machine found it: a taken-over job ended the resolution of its dead owner."""
    real = Desk.skip_duplicate

    def skip(self: Any, job: Any, held: Any) -> None:
        job.resolving = job.state != "PLANNED"
        real(self, job, held)

    patch.setattr(Desk, "skip_duplicate", skip)


def lost_finalize_waited_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Storing, "ask_again_for_stale", lambda self, now_ms: None)


def finalised_before_it_is(patch: pytest.MonkeyPatch) -> None:
    """The finalizer's yes to bytes that it has not put in their place."""
    patch.setattr(Shelf, "place", lambda self, asked: True)


def acknowledged_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    def handle_all(self: Any, told: Any) -> None:
        for number, message in enumerate(told, self._store._store.head().position + 1):
            if message.reply_to is not None and message.batch.expected_version is None:
                message.reply_to.answer(Journaled(((message.tag, Appended(number, 1)),)))
        self._commit(told)

    patch.setattr(Journal, "handle_all", handle_all)


def waiting_messages_lost_with_their_actor(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Mailbox, "put_back", lambda self, items: None)


def put_back_in_the_wrong_order(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Mailbox, "put_back", lambda self, items: self._front.extendleft(list(items)))


def restarted_without_end(patch: pytest.MonkeyPatch) -> None:
    real = Child._replace

    def replaced(self: Any, error: BaseException) -> None:
        self._recent.clear()
        real(self, error)

    patch.setattr(Child, "_replace", replaced)


DEFECTS = [
    (StoreMachine, version_check_skipped),
    (StoreMachine, fence_dropped),
    (StoreMachine, last_of_a_batch_lost),
    (StoreMachine, read_off_by_one),
    (StoreMachine, stream_read_loses_a_commit),
    (StoreMachine, tally_not_updated),
    (StoreMachine, refused_batches_commit),
    (LmdbStoreMachine, old_tables_stay_at_rebuild),
    (JobMachine, fence_dropped),
    (JobMachine, claim_index_stale),
    (JobMachine, lease_granted_twice),
    (JobMachine, dead_owners_jobs_forgotten),
    (JobMachine, poison_runs_beside_others),
    (JobMachine, memoised_result_redone),
    (JobMachine, answers_forgotten),
    (JobMachine, leases_expire_by_the_wall_clock),
    (JobMachine, parked_jobs_forgotten),
    (JobMachine, parked_jobs_taken_from_the_living),
    (JobMachine, clock_set_back_holds_jobs),
    (JobMachine, clock_set_back_between_runs_holds_jobs),
    (JobMachine, taken_before_its_gate_opens),
    (JobMachine, gate_costs_a_generation),
    (JobMachine, backoff_ignored),
    (JobMachine, dead_letters_go_again),
    (JobMachine, in_flight_of_the_dead_goes_on),
    (JobMachine, finalize_recovered_by_the_wrong_rule),
    (JobMachine, object_of_the_dead_not_looked_for),
    (JobMachine, part_of_the_dead_not_looked_for),
    (JobMachine, held_work_fetched_anew),
    (JobMachine, same_bytes_indexed_twice),
    (JobMachine, duplicate_points_to_itself),
    (JobMachine, skipped_ends_what_was_not_begun),
    (JobMachine, lost_finalize_waited_for),
    (JobMachine, finalised_before_it_is),
    (RuntimeMachine, acknowledged_before_the_commit),
    (RuntimeMachine, waiting_messages_lost_with_their_actor),
    (RuntimeMachine, put_back_in_the_wrong_order),
    (RuntimeMachine, restarted_without_end),
]


@pytest.mark.parametrize(("machine", "defect"), DEFECTS, ids=lambda one: one.__name__)
def test_a_planted_defect_is_found(machine: Any, defect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each machine fails within its budget where the code has the defect, and with a script."""
    defect(monkeypatch)

    def run() -> None:
        if machine is JobMachine:
            begin_each_life(machine)
        run_state_machine_as_test(machine, settings=FIND)

    with pytest.raises(Exception) as found:
        run()
    assert "TypeError" not in str(found.value), "the defect does not fit the code any more"
    assert f"state = {machine.__name__}()" in script_in(found.value)


# The script of a failure


class LosesTheLast(MemoryStore):
    """Says that all of a batch is there, and keeps all but the last event."""

    def append(self, batches: Any) -> Any:
        kept = [msgspec.structs.replace(one, events=one.events[:-1] or one.events) for one in batches]
        return super().append(kept)


class LosingMachine(StoreMachine):
    def open(self, folder: Any, domain: Any, clock: Any, run_id: str) -> Any:
        return LosesTheLast(domain, run_id=run_id, clock=clock)


def ran(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "again.py"
    file.write_text(script)
    command = [sys.executable, str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=folder)


def test_a_failure_prints_a_script_that_fails_the_same_way(tmp_path: Path) -> None:
    """Saved and run by itself, what the failure says about itself fails with the same words."""
    with pytest.raises(AssertionError) as found:
        run_state_machine_as_test(LosingMachine, settings=replace_phases(FIND))
    script = script_in(found.value)
    again = ran(script, tmp_path)
    assert again.returncode == 1
    assert str(found.value).splitlines()[0] in again.stderr
    assert script.count("state.") <= 3, f"it is shrunk: {script}"
    name = next(line for line in script.splitlines() if line.endswith("import LosingMachine"))
    sound = script.replace(name, "from quire.testing.store_machine import StoreMachine as LosingMachine")
    assert ran(sound, tmp_path).returncode == 0, "without the defect the same steps go well"


def replace_phases(budget: settings) -> settings:
    return settings(budget, phases=[Phase.generate, Phase.shrink])


def test_steps_within_steps_stand_once_in_the_script() -> None:
    """A step that takes others is one line."""
    state = JobMachine()
    state.begin()
    state.die(who=1, how="killed")
    assert [line for line in state.script().splitlines() if line.startswith("state")] == [
        "state = JobMachine()",
        "state.begin()",
        "state.die(who=1, how='killed')",
        "state.teardown()",
    ]
    state.teardown()


# Strategies


def evaluated(value: Any) -> Any:
    imports = Imports()
    source = source_of(value, imports)
    names: dict[str, Any] = {}
    exec("\n".join(imports.lines()), names)
    return eval(source, names)


DRAWN = settings(max_examples=200, database=None, deadline=None, phases=[Phase.generate])
SEEDS = (1, 2, 3)
"""One row of examples leans towards some kinds; several, begun apart, come to all of them."""


def test_every_event_is_drawn_and_survives_the_log() -> None:
    """All twenty kinds come, each is the same after msgpack, and its source gives it again."""
    decoder = msgspec.msgpack.Decoder(AnyEvent)
    seen: set[type] = set()

    def draw(event: Any) -> None:
        seen.add(type(event))
        assert decoder.decode(msgspec.msgpack.encode(event)) == event
        assert evaluated(event) == event

    for number in SEEDS:
        seed(number)(DRAWN(given(strategies.events())(draw)))()
    assert seen == set(AnyEvent.__args__)


def test_every_message_is_drawn() -> None:
    """Every kind of message comes, and its source gives it again."""
    seen: set[type] = set()

    def draw(message: Any) -> None:
        seen.add(type(message))
        assert evaluated(message) == message

    for number in SEEDS:
        seed(number)(DRAWN(given(strategies.messages())(draw)))()
    assert seen == set(messages.Message.__subclasses__())


class Line(msgspec.Struct, frozen=True, array_like=True, tag="line"):
    cents: int
    tax: float
    tags: frozenset[str]
    paid: bool | None = None


@settings(DRAWN, max_examples=50)
@given(strategies.events_of(Line, {"cents": st.integers(1, 9)}))
def test_events_of_another_domain(line: Line) -> None:
    """The structs of anybody's union are drawn from their types, and fields as they are told."""
    assert 1 <= line.cents <= 9
    assert isinstance(line.tags, frozenset)
