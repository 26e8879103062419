"""The fallback machine keeps its rules whatever it is told in whatever order."""

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from quire.config.loader import load
from quire.errors import InvariantError
from quire.events.fallback import (
    GATES,
    MET_GATE_MS,
    Cancel,
    Ended,
    Fallback,
    Finish,
    Look,
    Skip,
    Start,
    Wait,
)
from quire.events.fallback_plan import Plan

TIERS = (("first", 2, ("a", "b", "c")), ("second", 1, ("d",)), ("third", 2, ("e", "f")))
SOURCES = tuple(source for _, _, sources in TIERS for source in sources)
TIER_OF = {source: name for name, _, sources in TIERS for source in sources}
NO_PDF = Ended("no_pdf", "none")
CANCELLED = Ended("error", "cancelled")


def plan(**changes):
    fields = {
        "tiers": TIERS,
        "timeouts_ms": dict.fromkeys(SOURCES, 1_000),
        "total_timeout_ms": 60_000,
        "total_attempts": 20,
        "max_concurrent": 3,
    }
    return Plan(**{**fields, **changes})


def free(source):
    return Look(host=f"{source}.org")


def starts(commands):
    return [command.source for command in commands if isinstance(command, Start)]


@dataclass
class Driver:
    """What the resolver does with a machine, without log and network; it also keeps the books."""

    machine: Fallback
    look: object = free
    now: int = 0
    final: object = None
    said: list = field(default_factory=list)

    def do(self, commands):
        for command in commands:
            self.said.append(command)
            if isinstance(command, Finish | Wait):
                assert self.final is None
                self.final = command
        return commands

    def advance(self):
        return self.do(self.machine.advance(self.now, self.look))

    def end(self, source, end=NO_PDF):
        """A turn ends; then the machine goes on, as ``Resolver._end_turn`` has it."""
        counted = self.machine.ended(source, self.machine.turns[source].attempt, end, self.now)
        if self.machine.front is None:
            settled = self.do(self.machine.settle())
            if not settled:
                self.advance()
        return counted

    def front(self, source):
        return self.do(self.machine.fronted(source, self.machine.turns[source].attempt, self.now))

    def tick(self):
        return self.do(self.machine.tick(self.now))

    def run_out(self, end=NO_PDF):
        """End every turn until the machine is done."""
        for _ in range(50):
            if self.final:
                return self.final
            self.end(next(iter(self.machine.turns)), end)
        raise AssertionError("the machine does not end")


def driver(look=free, **changes):
    return Driver(Fallback(plan(**changes), now_ms=0), look)


# One example for each setting: it would notice if the setting took no effect


def test_policy_timeout_takes_effect():
    """A turn is cancelled when its own policy's time is over, not before, and others run on."""
    one = driver(timeouts_ms={**dict.fromkeys(SOURCES, 1_000), "a": 400})
    assert [(c.source, c.timeout_ms) for c in one.advance()] == [("a", 400), ("b", 1_000)]
    one.now = 399
    assert one.tick() == []
    one.now = 400
    assert one.tick() == [Cancel("a", 1, "deadline")]
    assert one.tick() == []
    assert one.end("a", CANCELLED) == Ended("timeout", "deadline")


def test_per_source_timeout_stands_in_for_a_missing_policy():
    """The plan of the settings takes a policy's timeout, and the budget's where it names none."""
    settings_ = load(environ={}).settings.fallback
    timeouts = Plan.of(settings_).timeouts_ms
    assert timeouts["unpaywall_pdf"] == 6_000
    assert timeouts["landing_scrape_pdf"] == 12_000
    bare = msgspec.structs.replace(settings_, policies={})
    assert set(Plan.of(bare).timeouts_ms.values()) == {10_000}
    fewer = msgspec.structs.replace(settings_, disabled=("wayback_pdf",))
    assert "wayback_pdf" not in [s for _, _, sources in Plan.of(fewer).tiers for s in sources]


def test_parallel_takes_effect():
    """A tier runs as many turns at once as it says."""
    assert starts(driver().advance()) == ["a", "b"]
    tiers = (("first", 3, ("a", "b", "c")),)
    assert starts(driver(tiers=tiers).advance()) == ["a", "b", "c"]


def test_max_concurrent_takes_effect():
    """A work has no more turns in flight than it may, whatever its tier would allow."""
    assert starts(driver(max_concurrent=1).advance()) == ["a"]


def test_cancelled_turn_keeps_its_place_until_it_ends():
    """A cancelled turn counts as in flight until its end is told."""
    one = driver(max_concurrent=1)
    one.advance()
    one.now = 1_000
    one.tick()
    assert starts(one.advance()) == []
    one.end("a", CANCELLED)
    assert list(one.machine.turns) == ["b"]


def test_total_attempts_takes_effect():
    """No turn starts beyond the budget, and the work ends as out of budget."""
    one = driver(total_attempts=3)
    one.advance()
    assert one.run_out() == Finish("timeout", "budget_exhausted", may_retry=True)
    assert starts(one.said) == ["a", "b", "c"]


def test_budget_that_is_just_enough_is_no_lack():
    """The last turn of the budget may be the last source: that is exhaustion."""
    one = driver(total_attempts=len(SOURCES))
    one.advance()
    assert one.run_out() == Finish("no_pdf", "exhausted", may_retry=False)


def test_total_timeout_takes_effect():
    """When the total time is over everything is cancelled, nothing starts, and the work is out of budget."""
    one = driver(total_timeout_ms=500)
    assert [c.timeout_ms for c in one.advance()] == [500, 500]
    one.now = 500
    assert [c.why for c in one.tick()] == ["budget", "budget"]
    assert one.end("a", CANCELLED) == Ended("timeout", "budget_exhausted")
    assert one.final is None
    one.end("b", CANCELLED)
    assert one.final == Finish("timeout", "budget_exhausted", may_retry=True)
    assert starts(one.said) == ["a", "b"]


def test_streaming_does_not_count_as_resolving():
    """While a front-runner streams no time runs; when it broke, its turn goes on with what it had left."""
    one = driver(total_timeout_ms=2_000)
    one.advance()
    one.now = 300
    one.front("a")
    one.end("b", CANCELLED)
    one.now = 100_000
    assert one.machine.deadline_ms(one.now) is None
    assert one.tick() == []
    assert one.machine.spent_ms(one.now) == 300
    one.do(one.machine.broken("a", one.now))
    assert one.machine.deadline_ms(one.now) == one.now + 700
    one.now += 699
    assert one.tick() == []
    one.now += 1
    assert one.tick() == [Cancel("a", 1, "deadline")]


@pytest.mark.parametrize("gate", sorted(GATES))
def test_each_gate_takes_effect(gate):
    """A gate holds a source back at no cost to the budget, and the work waits instead of being exhausted."""
    one = driver(lambda source: Look(gate=gate, wait_ms=7_000) if source == "d" else free(source))
    one.advance()
    assert one.run_out() == Wait(gate, 7_000, ("d",))
    assert Skip("d", "second", gate) in one.said
    assert one.machine.attempts == len(SOURCES) - 1


def test_gate_within_a_turn_is_held_and_costs_nothing():
    """A turn that meets a gate gives its attempt back; its source comes to its turn later, not at once."""
    one = driver()
    one.advance()
    one.end("a", Ended("skipped", "breaker_open"))
    assert one.machine.attempts == 2, "a's was given back, b and c run"
    assert one.run_out() == Wait("breaker_open", MET_GATE_MS, ("a",))


@pytest.mark.parametrize(("told_ms", "waits_ms"), [(60_000, 60_000), (1_000, MET_GATE_MS), (0, MET_GATE_MS)])
def test_gate_within_a_turn_is_waited_for_as_long_as_it_said(told_ms, waits_ms):
    """A gate that says when it opens is waited for until then, but never less than each new try is worth."""
    one = driver()
    one.advance()
    one.end("a", Ended("skipped", "rate_wait", told_ms))
    assert one.run_out() == Wait("rate_wait", waits_ms, ("a",))


def test_wait_is_for_the_gate_that_opens_first():
    """Of several gates time opens, the soonest is named; a setting that closes some sources hides none."""
    gates = {"a": Look(gate="offline"), "b": Look(gate="breaker_open", wait_ms=60_000),
             "e": Look(gate="rate_wait", wait_ms=9_000)}  # fmt: skip
    one = driver(lambda source: gates.get(source) or free(source))
    one.advance()
    assert one.run_out() == Wait("rate_wait", 9_000, ("e", "b", "a"))


def test_source_that_lacks_what_it_needs_is_over():
    """A source that cannot begin is skipped at no cost, and is no reason to wait."""
    one = driver(lambda source: Look(lacks="no_doi") if source in "ad" else free(source))
    one.advance()
    assert one.run_out() == Finish("no_pdf", "exhausted", may_retry=False)
    assert one.machine.attempts == len(SOURCES) - 2


def test_a_source_that_gets_what_it_lacked_has_its_turn():
    """Reopened, it is started before the later tiers go on; reopening what lacked nothing changes nothing."""
    lacks = {"a"}
    one = driver(lambda source: Look(lacks="no_doi") if source in lacks else free(source))
    one.advance()
    assert one.machine.lacking() == ["a"]
    lacks.clear()
    one.machine.reopen("a")
    one.machine.reopen("b")
    assert one.run_out() == Finish("no_pdf", "exhausted", may_retry=False)
    assert one.machine.attempts == len(SOURCES)


def test_other_hosts_go_first():
    """Where two sources of a tier ask the same host, another host's goes first."""
    hosts = {"a": "same.org", "b": "same.org", "c": "other.org"}
    one = driver(lambda source: Look(host=hosts.get(source, source)))
    assert starts(one.advance()) == ["a", "c"]


def test_the_beaten_take_their_turn_again():
    """When the front-runner's bytes are no paper, those that it beat are asked again."""
    one = driver()
    one.advance()
    assert one.front("a") == [Cancel("b", 2, "beaten")]
    assert one.end("b", CANCELLED) == Ended("skipped", "beaten")
    assert one.advance() == []
    one.do(one.machine.broken("a", one.now))
    one.end("a")
    assert set(one.machine.turns) == {"b", "c"}
    assert one.machine.turns["b"].attempt > 2


def test_nothing_starts_after_the_win():
    """Stored bytes end the machine."""
    one = driver()
    one.advance()
    one.front("a")
    one.machine.stored("a")
    assert one.machine.over
    assert one.advance() == one.tick() == []
    one.end("b", CANCELLED)
    assert one.final is None


def test_only_the_front_runner_can_be_stored():
    """Bytes of another than the front-runner are a defect, and said so."""
    one = driver()
    one.advance()
    with pytest.raises(InvariantError, match="front-runner"):
        one.machine.stored("a")


def test_failures_that_may_pass_make_the_work_worth_another_generation():
    """Exhausted with a timeout or a retryable answer among the ends: another generation can help."""
    one = driver()
    one.advance()
    one.end("a", Ended("retryable", "http_503"))
    assert one.run_out() == Finish("no_pdf", "exhausted", may_retry=True)


def test_takeover_goes_on_where_the_ledger_stands():
    """A machine made from the ledger asks no source twice, and keeps attempts and time spent."""
    ended = {"a": NO_PDF, "b": NO_PDF, "c": NO_PDF}
    machine = Fallback(plan(total_attempts=5), now_ms=0, spent_ms=59_000, attempts=3, started=4, ended=ended)
    one = Driver(machine)
    assert one.advance() == [Start("d", "second", 5, 1_000)]
    one.now = 1_000
    one.tick()
    one.end("d", CANCELLED)
    assert one.final == Finish("timeout", "budget_exhausted", may_retry=True)


def test_stop_cancels_all_and_concludes_nothing():
    """A machine that is let go cancels its turns and says nothing of the work."""
    one = driver()
    one.advance()
    assert [c.why for c in one.do(one.machine.stop("stopped"))] == ["stopped", "stopped"]
    one.end("a", CANCELLED)
    one.end("b", CANCELLED)
    assert one.final is None
    assert not one.machine.ended_by


def test_a_turn_is_cancelled_once():
    """A front-runner that was stopped and then breaks is not cancelled a second time."""
    one = driver()
    one.advance()
    one.front("a")
    assert one.machine.stop("stopped") == [Cancel("a", 1, "stopped")]
    assert one.machine.broken("a", one.now) == []


# Any interleaving

ENDS = st.sampled_from(
    [
        NO_PDF,
        Ended("nonretryable", "http_404"),
        Ended("retryable", "http_503"),
        Ended("error", "malformed"),
        Ended("timeout", "read"),
        Ended("skipped", "no_email"),
        *(Ended("skipped", gate) for gate in sorted(GATES)),
    ]
)
GATED = st.sampled_from(["", "", "", "", "lacks", *sorted(GATES)])


class AnyInterleaving(RuleBasedStateMachine):
    """The books are kept here, from the commands alone; the rules of SPEC 6 are checked against them."""

    @initialize(
        parallels=st.tuples(*[st.integers(1, 3)] * 3),
        max_concurrent=st.integers(1, 4),
        total_attempts=st.integers(1, 12),
        total_timeout_ms=st.sampled_from([800, 3_000, 60_000]),
        gates=st.tuples(*[GATED] * len(SOURCES)),
        hosts=st.tuples(*[st.sampled_from("xyz")] * len(SOURCES)),
    )
    def begin(self, parallels, gates, hosts, **budgets):
        tiers = tuple((name, p, s) for (name, _, s), p in zip(TIERS, parallels, strict=True))
        self.plan = plan(tiers=tiers, **budgets)
        self.parallel = {name: p for name, p, _ in tiers}
        self.gates = dict(zip(SOURCES, gates, strict=True))
        self.hosts = dict(zip(SOURCES, hosts, strict=True))
        self.now = 1_000_000
        self.charged = 0  # attempts that count
        self.numbered = 0  # attempts given out
        self.flight = {}  # source -> [attempt, cancelled, deadline]
        self.final = None
        self.won = self.streaming = False
        self.ends = {}  # source -> how its turn ended for good
        self.held = set()
        self.spent = 0
        self.machine = Fallback(self.plan, now_ms=self.now)
        self._advance()

    # The resolver's part

    def _look(self, source):
        gate = self.gates[source]
        if gate == "lacks":
            return Look(lacks="no_doi")
        return Look(host=self.hosts[source], gate=gate, wait_ms=3_000 if gate in ("rate_wait",) else 0)

    def _advance(self):
        self._take(self.machine.advance(self.now, self._look))

    def _take(self, commands):
        for command in commands:
            assert self.final is None, "nothing is said after the end"
            if isinstance(command, Start):
                self._started(command)
            elif isinstance(command, Skip):
                self._skipped(command)
            elif isinstance(command, Cancel):
                flight = self.flight[command.source]
                assert flight[0] == command.attempt
                assert not flight[1], "a turn is cancelled once"
                flight[1] = command.why
            else:
                self._concluded(command)

    def _started(self, start):
        source, tier = start.source, start.tier
        assert not self.streaming, "nothing starts while a front-runner streams"
        assert not self.won, "nothing starts after a win"
        assert source not in self.ends, "a source that is over gets no turn"
        assert source not in self.flight
        assert not self.gates[source], "a gate holds its source back"
        self.charged += 1
        self.numbered += 1
        assert start.attempt == self.numbered, "attempts are numbered without gaps"
        assert self.charged <= self.plan.total_attempts, "attempts are reserved before the start"
        assert 0 < start.timeout_ms <= self.plan.timeouts_ms[source]
        assert self.spent + start.timeout_ms <= self.plan.total_timeout_ms, (
            "time is reserved before the start"
        )
        self.flight[source] = [start.attempt, None, self.now + start.timeout_ms]
        assert len(self.flight) <= self.plan.max_concurrent
        mates = [s for s in self.flight if TIER_OF[s] == tier]
        assert len(mates) <= self.parallel[tier]
        for name, _, sources in self.plan.tiers:
            if name == tier:
                break
            for before in sources:
                assert before in self.ends or before in self.held, "tiers in order"
                assert before not in self.flight

    def _skipped(self, skip):
        assert skip.source not in self.flight
        if skip.reason in GATES:
            self.held.add(skip.source)
        else:
            self.ends[skip.source] = "skipped"

    def _concluded(self, command):
        assert not self.flight
        assert not self.won
        self.final = command
        left = set(SOURCES) - set(self.ends) - self.held
        broke = self.charged >= self.plan.total_attempts or self.spent >= self.plan.total_timeout_ms
        if isinstance(command, Wait):
            assert not left
            assert set(command.sources) == self.held
            assert command.reason in GATES
        elif command.reason == "exhausted":
            assert not left, "every source had its turn"
            assert not self.held, "a gate is never exhaustion"
        else:
            assert (command.outcome, command.reason) == ("timeout", "budget_exhausted")
            assert broke

    def _choose(self, data, running_only=False):
        names = sorted(s for s, f in self.flight.items() if not (running_only and f[1]))
        return data.draw(st.sampled_from(names)) if names else None

    def _end(self, source, end):
        attempt, cancelled, _ = self.flight.pop(source)
        was_front = self.machine.front == source
        counted = self.machine.ended(source, attempt, end, self.now)
        if was_front:
            self.streaming = False
        if end.reason == "cancelled" and cancelled:
            wanted = {"deadline": "deadline", "budget": "budget_exhausted"}.get(cancelled, cancelled)
            assert counted.reason == wanted
        else:
            assert counted == end
        if counted.outcome == "skipped" and counted.reason in GATES:
            self.held.add(source)
            self.charged -= 1
        elif counted.reason not in ("beaten", "stopped"):
            self.ends[source] = counted.outcome
        if self.machine.front is None:
            settled = self.machine.settle()
            self._take(settled)
            if not settled:
                self._advance()

    # What may happen

    @precondition(lambda self: self.flight)
    @rule(data=st.data(), end=ENDS)
    def ends_by_itself(self, data, end):
        self._end(self._choose(data), end)

    @precondition(lambda self: any(f[1] for f in self.flight.values()))
    @rule(data=st.data())
    def cancel_arrives(self, data):
        source = data.draw(st.sampled_from(sorted(s for s, f in self.flight.items() if f[1])))
        self._end(source, CANCELLED)

    @precondition(lambda self: self.flight)
    @rule(data=st.data())
    def shows_bytes(self, data):
        source = self._choose(data)
        attempt, cancelled, _ = self.flight[source]
        before = self.machine.front
        commands = self.machine.fronted(source, attempt, self.now)
        if before is None and not cancelled and not self.won:
            assert self.machine.front == source
            self.streaming = True
        else:
            assert self.machine.front == before
            assert commands == []
        self._take(commands)
        others = [f for s, f in self.flight.items() if s != self.machine.front]
        assert not self.streaming or all(f[1] for f in others), "the others are really cancelled"

    @precondition(lambda self: self.streaming)
    @rule()
    def stream_breaks(self):
        source = self.machine.front
        self.streaming = False
        self._take(self.machine.broken(source, self.now))
        assert self.machine.front is None
        self._advance()

    @precondition(lambda self: self.streaming)
    @rule()
    def is_stored(self):
        source = self.machine.front
        self.machine.stored(source)
        del self.flight[source]
        self.ends[source] = "success"
        self.won, self.streaming = True, False
        assert self.machine.advance(self.now, self._look) == []

    @rule(ms=st.sampled_from([1, 50, 400, 1_000, 30_000]))
    def time_passes(self, ms):
        left = self.plan.total_timeout_ms - self.spent
        if not self.streaming and not self.won and self.final is None:
            self.spent += ms
        self.now += ms
        commands = self.machine.tick(self.now)
        assert not (self.streaming or self.won) or commands == []
        self._take(commands)
        if self.flight and not self.streaming and not self.won:
            late = ms >= left
            assert not late or all(f[1] for f in self.flight.values()), "the total timeout cancels all"

    @rule(data=st.data())
    def gate_turns(self, data):
        source = data.draw(st.sampled_from(SOURCES))
        if source not in self.held and self.gates[source] != "lacks":
            self.gates[source] = data.draw(GATED.filter(lambda gate: gate != "lacks"))

    @rule(source=st.sampled_from(SOURCES), back=st.integers(1, 3))
    def late_answer(self, source, back):
        """What belongs to a turn that is over changes nothing."""
        attempt = self.flight[source][0] - back if source in self.flight else self.numbered + back
        before = repr(self.machine), dict(self.machine.ended_by)
        assert self.machine.fronted(source, attempt, self.now) == []
        self.machine.ended(source, attempt, NO_PDF, self.now)
        if source != self.machine.front:
            assert self.machine.broken(source, self.now) == []
        assert (repr(self.machine), self.machine.ended_by) == before

    @precondition(lambda self: not self.won and not isinstance(self.final, Finish))
    @rule()
    def takeover(self):
        """The owner dies, or the gate's time has come: what the ledger knows makes the machine anew."""
        ended = {s: Ended(o, "") for s, o in self.ends.items() if o not in ("success",)}
        self.flight, self.held, self.final, self.streaming = {}, set(), None, False
        for source in self.gates:
            if self.gates[source] in GATES:
                self.gates[source] = ""
        self.now += 5_000
        self.machine = Fallback(
            self.plan,
            now_ms=self.now,
            spent_ms=self.spent,
            attempts=self.charged,
            started=self.numbered,
            ended=ended,
        )
        self._advance()

    @invariant()
    def the_books_agree(self):
        if not hasattr(self, "machine"):
            return
        assert self.machine.attempts == self.charged <= self.plan.total_attempts
        assert set(self.machine.turns) == set(self.flight)
        assert self.machine.spent_ms(self.now) == self.spent or self.final or self.won
        assert repr(self.machine).startswith("<Fallback ")

    @invariant()
    def never_stuck(self):
        if hasattr(self, "machine") and not self.flight:
            assert self.won or self.final is not None, "nothing runs, and nothing was said"

    @invariant()
    def time_is_watched(self):
        """While something can run out, the machine names the time of its next tick."""
        if hasattr(self, "machine") and self.flight and not self.streaming and not self.won:
            assert self.machine.deadline_ms(self.now) is not None

    def teardown(self):
        """From everywhere the end is reached in a bounded number of steps."""
        if not hasattr(self, "machine") or self.won:
            return
        for _ in range(100):
            if self.final is not None:
                return
            if self.streaming:
                self.stream_breaks()
            elif self.flight:
                self._end(next(iter(self.flight)), NO_PDF)
        raise AssertionError("the machine does not end")


AnyInterleaving.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestAnyInterleaving = AnyInterleaving.TestCase
