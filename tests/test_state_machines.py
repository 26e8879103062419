"""Any order of doing, against a model: the store, the jobs, the runtime; and planted defects, to be found.

2,000 examples of 50 steps by default; ``QUIRE_MACHINES=quick`` runs a tenth, ``QUIRE_MACHINES=campaign``
25 times as many, drawn anew.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from quire.actors import job_in_hand, messages
from quire.actors.lease_manager import LeaseManager
from quire.actors.runtime.journal import Journal, Journaled
from quire.actors.runtime.mailbox import Mailbox
from quire.actors.runtime.supervision import Child
from quire.events.facts import AnyEvent, JobLeased, JobStateChanged, type_of
from quire.events.projections import JOBS, claimable_entries
from quire.events.record import Appended, Conflict, Fenced
from quire.store import codec, projecting
from quire.store.domain import QUIRE
from quire.store.lmdb_store import LmdbStore
from quire.store.memory_store import MemoryStore
from quire.testing import strategies
from quire.testing.job_machine import JobMachine
from quire.testing.runtime_machine import RuntimeMachine
from quire.testing.scripted import Imports, budget, script_in, source_of
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


# Any order of doing


def test_memory_store() -> None:
    """The store in memory is its model, whatever is done to it in whatever order."""
    run_state_machine_as_test(StoreMachine, settings=budget(300))


def test_lmdb_store() -> None:
    """So is LMDB's, closed, copied while open, copied within an append, full and emptied again."""
    run_state_machine_as_test(LmdbStoreMachine, settings=budget(20))


def test_jobs() -> None:
    """Jobs go forward, are held by one, fenced from late owners, never redone; and all of it did occur."""
    seen: Counter[str] = Counter()

    class Counted(JobMachine):
        def release(self) -> None:
            seen.update(_marks(self.store.read()))
            super().release()

    run_state_machine_as_test(Counted, settings=budget(380))
    wanted = {"takeover", "alone", "INDEXED", "FAILED", "job_requeued", "job_waiting", "crash_recovery_event"}
    wanted |= {"lease_renewed", "idempotency_replay", "job_listed"}
    assert wanted <= seen.keys(), f"never seen: {wanted - seen.keys()}"


def _marks(log: list[Any]) -> list[str]:
    marks = []
    for recorded in log:
        event = recorded.event
        marks.append(type_of(event))
        if isinstance(event, JobLeased):
            marks += ["takeover"] * event.takeover + ["alone"] * event.alone
        elif isinstance(event, JobStateChanged):
            marks += [event.state, event.reason]
    return marks


def test_runtime() -> None:
    """Acknowledged is durable, order is kept, restarts follow the policy, nothing is lost without a word."""
    run_state_machine_as_test(RuntimeMachine, settings=budget(1300))


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
    patch.setattr(LmdbStore, "_empty_tables", lambda self, txn: None)


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
    patch.setattr(job_in_hand, "_answered", lambda ops: {})


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
    (RuntimeMachine, acknowledged_before_the_commit),
    (RuntimeMachine, waiting_messages_lost_with_their_actor),
    (RuntimeMachine, put_back_in_the_wrong_order),
    (RuntimeMachine, restarted_without_end),
]


@pytest.mark.parametrize(("machine", "defect"), DEFECTS, ids=lambda one: one.__name__)
def test_a_planted_defect_is_found(machine: Any, defect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each machine fails within its budget where the code has the defect, and with a script."""
    defect(monkeypatch)
    with pytest.raises(Exception) as found:
        run_state_machine_as_test(machine, settings=FIND)
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
    name = next(line for line in script.splitlines() if line.startswith("LosingMachine ="))
    sound = script.replace(name, "from quire.testing.store_machine import StoreMachine as LosingMachine")
    assert ran(sound, tmp_path).returncode == 0, "without the defect the same steps go well"


def replace_phases(budget: settings) -> settings:
    return settings(budget, phases=[Phase.generate, Phase.shrink])


def test_steps_within_steps_stand_once_in_the_script() -> None:
    """A step that takes others is one line."""
    state = JobMachine()
    state.begin()
    state.die(who=1)
    assert [line for line in state.script().splitlines() if line.startswith("state")] == [
        "state = JobMachine()",
        "state.begin()",
        "state.die(who=1)",
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


DRAWN = settings(max_examples=600, derandomize=True, database=None, deadline=None, phases=[Phase.generate])


def test_every_event_is_drawn_and_survives_the_log() -> None:
    """All twenty kinds come, each is the same after msgpack, and its source gives it again."""
    decoder = msgspec.msgpack.Decoder(AnyEvent)
    seen: set[type] = set()

    @DRAWN
    @given(strategies.events())
    def draw(event: Any) -> None:
        seen.add(type(event))
        assert decoder.decode(msgspec.msgpack.encode(event)) == event
        assert evaluated(event) == event

    draw()
    assert seen == set(AnyEvent.__args__)


def test_every_message_is_drawn() -> None:
    """Every kind of message comes, and its source gives it again."""
    seen: set[type] = set()

    @DRAWN
    @given(strategies.messages())
    def draw(message: Any) -> None:
        seen.add(type(message))
        assert evaluated(message) == message

    draw()
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
