"""The test kit, each part once and small: what ``python -m quire.testing.mutants --kit`` tries defects with.

No check knows the insides of the code: each is a part of ``quire.testing``, on a budget of seconds; that of
``fallback(job)`` is the machine of ``test_fallback``. pytest collects this file only where it is named; the
seeds are fixed, so that what kills a defect today does so tomorrow.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from quire.events.fallback import Finish
from quire.store.lmdb_store import LmdbStore
from quire.testing.disk import powerloss, session, session_script, syscalls
from quire.testing.disk.shim import Order
from quire.testing.disk.simulated_disk import Chosen, Honoured, SimulatedDisk
from quire.testing.disk.syscalls import Trial
from quire.testing.fencing.appends import duels
from quire.testing.job_machine import JobMachine
from quire.testing.mutants.refused_puts import refused_puts
from quire.testing.runtime_machine import RuntimeMachine
from quire.testing.simulation.life import live
from quire.testing.store_contract import EventStoreContract
from quire.testing.store_machine import LmdbStoreMachine, StoreMachine
from quire.testing.web import serve

sys.path.insert(0, str(Path(__file__).parent))
import faulty_disk
from faulty_disk import ROUNDS, needs_shim
from test_fallback import AnyInterleaving
from test_state_machines import FIND

folder, runs = faulty_disk.folder, faulty_disk.runs
SEEDS = range(1, 41)
"""Lives of the simulation, each with another script of deaths, pauses and weather."""
IMAGES = 120
NO_BYTES = Chosen("names", lambda _change, _sector: False, lambda _naming: True)
"""What a disk may keep: every name, and no byte that was not synced."""


def few(examples: int) -> settings:
    """So many examples of 50 steps, the same ones each time; one that fails is not made smaller."""
    return settings(FIND, max_examples=examples)


class FallbackLaws(AnyInterleaving):
    """The machine of ``fallback(job)``, with three laws more: wins and late turns end, others go on."""

    streamed = False

    @invariant()
    def late_turns_are_cancelled(self):
        self.streamed = self.streamed or self.streaming if hasattr(self, "machine") else False
        if hasattr(self, "machine") and not self.streamed and not self.won:  # a stream moves the deadlines
            assert all(cancelled or deadline > self.now for _, cancelled, deadline in self.flight.values())

    @invariant()
    def a_win_is_the_end(self):
        assert not getattr(self, "won", False) or self.machine.over

    @precondition(lambda self: self.streaming or self.won)
    @rule()
    def asked_to_go_on(self):
        """A gate opens beside a stream, or behind a win: nothing starts."""
        assert self.machine.advance(self.now, self._look) == []

    def _concluded(self, command):
        super()._concluded(command)
        if isinstance(command, Finish) and command.reason == "exhausted":
            assert command.may_retry or "retryable" not in self.ends.values()


class TestContract(EventStoreContract):
    """The contract of an event store, by LMDB's."""

    def open(self, folder, domain, clock, run_id):
        return LmdbStore(folder / "events", domain, run_id=run_id, clock=clock, map_size=1 << 26)


def test_refused_puts(tmp_path):
    """What LMDB did not keep is not acknowledged."""
    heard = refused_puts(tmp_path)
    assert heard.problems == []
    assert heard.puts > 5


def test_store_machine():
    """The store is its model, whatever is done to it."""
    run_state_machine_as_test(StoreMachine, settings=few(60))
    run_state_machine_as_test(LmdbStoreMachine, settings=few(10))


def test_runtime_machine():
    """What a journal answered for is durable, and each message has one end."""
    run_state_machine_as_test(RuntimeMachine, settings=few(300))


def test_job_machine():
    """Jobs go forward, are held by one, and nothing that ended is done again."""
    run_state_machine_as_test(JobMachine, settings=few(300))


def test_fallback_machine():
    """Turns start, end, are cancelled and taken over in any order, against books of its own."""
    run_state_machine_as_test(FallbackLaws, settings=few(800))


@pytest.mark.parametrize("seed", SEEDS)
def test_simulation(seed):
    """A whole life of the system, with deaths at drawn moments, breaks no promise."""
    assert live(seed, works=6, store="lmdb" if seed % 4 == 0 else "memory").problems == []


def test_fencing(tmp_path):
    """Late words are refused, and no other."""
    found = duels(tmp_path, rounds=200, seed=2)
    assert (found.stale, found.misjudged) == (0, [])


@needs_shim
def test_syscalls(runs, folder):
    """A fault at every write-path call of the script: nothing acknowledged is lost."""
    whole = Trial(runs, folder, seed=2, rounds=ROUNDS).run(Order())
    found = syscalls.campaign(runs, folder, seed=2, rounds=ROUNDS, count=len(whole.counted))
    assert found.violations == []


@needs_shim
def test_session_syscalls(runs, folder):
    """The same in a whole session, at a few of its calls."""
    assert session.campaign(runs, folder, seed=3, count=6).violations == []


@needs_shim
def test_rotten_parts(runs, folder):
    """A disk that keeps another bit of a part than it was given: no such bytes come into the library."""
    with serve(session_script.world(3)) as served:
        trial = session.SessionTrial(runs, folder, served, seed=3)
        ran = trial.run(Order(), defect="rotten-parts")
        assert not ran.promised.objects
        assert list(trial.judged(ran)) == []


@needs_shim
def test_durable_names(runs, folder):
    """An object has its name only when its bytes would outlast a power loss at that call."""
    disk, named = SimulatedDisk(Honoured()), 0
    for call in powerloss.record(runs, folder, seed=2, rounds=ROUNDS).calls:
        if call.name.startswith("rename") and "/objects/" in call.other:
            named += 1
            assert disk.image(NO_BYTES)[call.path] == disk.whole()[call.path], f"{call.path} is not synced"
        disk.do(call)
    assert named


@needs_shim
@pytest.mark.parametrize("seed", [2, 1])
def test_power_loss(runs, folder, seed):
    """The power goes within each call of the script, also after a kill: nothing promised is lost."""
    assert powerloss.campaign(runs, folder, count=IMAGES, seed=seed, rounds=ROUNDS).violations == []


@needs_shim
def test_power_loss_of_a_session(runs, folder):
    """The same in a whole session, on a disk that is slow to sync folders: nobody is told before."""
    found = powerloss.campaign(runs, folder, count=IMAGES, seed=2, session_every=1, defect="slow-folders")
    assert found.violations == []
