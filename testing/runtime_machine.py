"""RuntimeMachine: actors, mailboxes, supervision and the journal, run by hand in any order.

Clerks write numbered notes through the journal. The books here are kept from what was told, what came
back, what lies in the dead-letter office and what stands in the log; nothing of the runtime is asked
what it thinks it did.
"""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar, cast

import pykka
from hypothesis import strategies as st
from pykka._envelope import Envelope

from ..actors.runtime.address import Address, DeadLetter
from ..actors.runtime.journal import Append, Journal, Journaled
from ..actors.runtime.mailbox import MailboxFullError
from ..actors.runtime.ports import NANOSECONDS
from ..actors.runtime.system import RestartPolicy, System
from ..events.record import Appended
from ..store.interface import EventStore
from ..store.memory_store import MemoryStore
from .clerks import NOTES, Book, Break, Clerk, Note, Noted, Office, Question, Trouble, TroubledStore
from .hand_scheduler import HandClock, HandScheduler
from .scripted import ScriptedMachine, invariant, precondition, rule

NAMES = ("ann", "bob")
WHO = st.integers(0, len(NAMES) - 1)


class RuntimeMachine(ScriptedMachine):
    """Tell, ask, fail, restart, stop, mailbox full, conflict, the store full or broken and opened again."""

    policy: ClassVar[RestartPolicy] = RestartPolicy(restarts_max=2, window_s=60, backoff_s=0.1)
    batches_max: ClassVar[int] = 4

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.scheduler = HandScheduler(self.clock)
        self.log = self.open_store()
        self.store = TroubledStore(self.log)
        self.fatal: list[str] = []
        self.system = System(
            scheduler=self.scheduler, clock=self.clock, on_fatal=lambda name, _: self.fatal.append(name)
        )
        self.office = Office()
        self.books = {name: Book() for name in NAMES}
        self.clerks: dict[str, Address] = {}
        self.told: dict[str, dict[int, Note | Break | Question]] = {name: {} for name in NAMES}
        self.letters: list[DeadLetter] = []
        self.letters_seen = 0
        self.failures: dict[str, deque[int]] = {}
        self.restart_due: dict[str, int] = {}
        self.restarts: dict[str, int] = {}
        self.gave_up: list[str] = []
        self.asked: dict[int, tuple[str, pykka.Future[Any]]] = {}
        self.number = 0
        self._start_journal()
        for name in NAMES:
            self._start(name)

    def open_store(self) -> EventStore:
        """The store below the journal; it outlives the journal's failures."""
        return MemoryStore(NOTES, run_id="run", clock=self.clock)

    def _start_journal(self) -> None:
        store = cast(EventStore, self.store)
        self.office.journal = self.system.start(
            "journal", lambda: Journal(store, batches_max=self.batches_max), policy=self.policy
        )

    def _start(self, name: str) -> None:
        self.clerks[name] = self.system.start(
            name, lambda: Clerk(self.office, self.books[name]), policy=self.policy
        )
        self.failures[name] = deque()
        self.restarts[name] = 0
        self.restart_due.pop(name, None)

    # What may happen

    @rule(who=WHO, count=st.integers(1, 4), wrong=st.booleans())
    def tell(self, who: int, count: int, wrong: bool) -> None:
        """Notes, until the mailbox is full: what it refuses is refused with a word."""
        for _ in range(count):
            self.number += 1
            self._tell(NAMES[who], Note(self.number, wrong))

    @rule(who=WHO)
    def fail(self, who: int) -> None:
        """A message that its clerk fails on."""
        self.number += 1
        self._tell(NAMES[who], Break(self.number))

    def _tell(self, name: str, message: Note | Break) -> None:
        clerk = self.clerks[name]
        waiting = clerk.waiting
        try:
            clerk.tell(message)
        except MailboxFullError:
            assert waiting >= Clerk.mailbox_max, f"{waiting} waiting, and full"
            return
        self.told[name][message.number] = message

    @rule(who=WHO)
    def ask(self, who: int) -> None:
        """A question whose answer is looked at later: the asker would block the only thread."""
        name = NAMES[who]
        future: pykka.Future[Any] = pykka.ThreadingFuture()
        self.number += 1
        try:
            taken = self.clerks[name].mailbox.offer(Envelope(Question(self.number), future))
        except MailboxFullError:
            return
        if taken:
            self.told[name][self.number] = Question(self.number)
            self.asked[self.number] = (name, future)

    @rule(who=st.integers(0, len(NAMES)), messages=st.integers(1, 3))
    def step(self, who: int, messages: int) -> None:
        """One actor handles a few messages."""
        self.scheduler.step([*NAMES, "journal"][who], messages)

    @rule()
    def settle(self) -> None:
        """All run until nothing moves: every message has had its end."""
        self.scheduler.settle()
        self._keep_books()
        for name, clerk in self.clerks.items():
            if clerk.state == "running":
                assert not self._pending(name), f"{name} is at rest and left {self._pending(name)}"
                assert not clerk.waiting

    @rule(seconds=st.sampled_from([0.05, 0.2, 5.0, 70.0]))
    def pass_time(self, seconds: float) -> None:
        """Time passes: what is due is restarted."""
        self.clock.move(seconds)
        self.scheduler.fire()
        self.settle()
        for name, clerk in self.clerks.items():
            if self.restart_due.get(name, self.clock.boot + 1) <= self.clock.boot:
                assert clerk.state in ("running", "stopped"), f"{name} is due and {clerk.state}"

    @rule(who=WHO, now=st.booleans())
    def stop(self, who: int, now: bool) -> None:
        """Stop a clerk, after what waits or at once; when it has ended, a new one takes its name."""
        clerk = self.clerks[NAMES[who]]
        if clerk.state in ("stopped", "failed"):
            self._start(NAMES[who])
        elif now:
            clerk.stop_now()
        else:
            clerk.stop()

    @rule(trouble=st.sampled_from(["full", "before", "after"]))
    def store_fails(self, trouble: Trouble) -> None:
        """The next append fails: the journal ends, and nobody is told that anything is durable."""
        self.store.next = trouble

    def _check_the_journal(self) -> None:
        """A journal whose store failed is not replaced, whatever the policy says: its owner is told."""
        restarts = self.system.statistics()["journal"].restarts
        assert not restarts, f"the journal was replaced {restarts} times over a store that failed"

    @precondition(lambda self: self.office.journal.state == "failed")
    @rule()
    def reopen(self) -> None:
        """A new journal over the same log."""
        self._start_journal()

    # The books

    @invariant()
    def the_books_are_right(self) -> None:
        """After every step: see the checks by their names."""
        self._keep_books()
        for name in NAMES:
            self._check_every_message_has_one_end(name)
            self._check_acknowledged_is_durable(name)
            self._check_restarts(name)
        self._check_the_log()
        self._check_the_journal()
        self._check_asked()

    def _keep_books(self) -> None:
        """Take in the new dead letters."""
        now = self.system.dead_letters()
        fresh, self.letters_seen = now.count - self.letters_seen, now.count
        assert fresh <= len(now.last), "more letters in a step than are kept: the books would miss some"
        for letter in now.last[len(now.last) - fresh :]:
            self.letters.append(letter)
            if isinstance(letter.message, Break) and "failed on it" in letter.why:
                self._failed(letter.to)

    def _failed(self, name: str) -> None:
        """A clerk failed: by the policy it is replaced after a backoff, or its name is given up."""
        now, recent = self.clock.boot, self.failures[name]
        while recent and now - recent[0] > self.policy.window_s * NANOSECONDS:
            recent.popleft()
        if len(recent) >= self.policy.restarts_max:
            self.gave_up.append(name)
            self.restart_due.pop(name, None)
            return
        self.restart_due[name] = now + int(self.policy.backoff_s * 2 ** len(recent) * NANOSECONDS)
        recent.append(now)
        self.restarts[name] += 1

    def _dead(self, name: str) -> list[int]:
        kinds = (Note, Break, Question)
        return [
            one.message.number for one in self.letters if one.to == name and isinstance(one.message, kinds)
        ]

    def _pending(self, name: str) -> list[int]:
        over = {*self.books[name].handled, *self._dead(name)}
        return [number for number in self.told[name] if number not in over]

    def _check_every_message_has_one_end(self, name: str) -> None:
        handled, dead, clerk = self.books[name].handled, self._dead(name), self.clerks[name]
        assert handled == sorted(handled), f"{name} handled {handled}: not in the order of telling"
        ends = handled + dead
        assert len(ends) == len(set(ends)), f"{name}: a message had two ends: {sorted(ends)}"
        assert set(ends) <= set(self.told[name]), f"{name} got what nobody told it"
        pending = self._pending(name)
        if clerk.state in ("stopped", "failed"):
            assert not pending, f"{name} is {clerk.state}, and {pending} were lost without a word"
        assert len(pending) <= clerk.waiting, f"{name}: of {pending} only {clerk.waiting} wait"

    def _check_acknowledged_is_durable(self, name: str) -> None:
        for number, result in self.books[name].answers:
            if not isinstance(result, Appended):
                assert cast(Note, self.told[name][number]).wrong, f"note {number} was refused: {result}"
                continue
            found = self.log.read(result.position - 1, limit=1)
            assert found, f"note {number} was acknowledged and is not in the log"
            assert (found[0].stream, found[0].event) == (name, Noted(number))

    def _check_the_log(self) -> None:
        for name in NAMES:
            noted = [recorded.event.number for recorded in self.log.read_stream(name)]
            assert noted == sorted(set(noted)), f"the log has {name}'s notes as {noted}"
            assert set(noted) <= set(self.books[name].handled)
            assert not [number for number in noted if cast(Note, self.told[name][number]).wrong]

    def _check_restarts(self, name: str) -> None:
        clerk = self.clerks[name]
        assert self.fatal.count(name) == self.gave_up.count(name), f"{name}: {self.fatal} were fatal"
        restarts = self.system.statistics()[name].restarts
        assert restarts == self.restarts[name], f"{name}: {restarts} restarts, {self.restarts[name]} are due"
        if clerk.state == "running" and name in self.restart_due:
            assert self.clock.boot >= self.restart_due[name], f"{name} is back before its backoff is over"

    def _check_asked(self) -> None:
        for number, (name, future) in list(self.asked.items()):
            over = number in self.books[name].handled or number in self._dead(name)
            if over:
                del self.asked[number]
                _check_answer(number, future, handled=number in self.books[name].handled)

    def finish(self) -> None:
        """All is stopped in order: what was told has had its end, each note its answer or a dead letter."""
        for _ in range(Clerk.mailbox_max + 2):  # each message that waits may fail its clerk once more
            self.clock.move(100)
            self.scheduler.fire()
            self.settle()
        living = [clerk for clerk in self.clerks.values() if clerk.state == "running"]
        late = self.system.stop([living], timeout_s=1)
        assert late == [], f"{late} did not stop"
        self.scheduler.settle()
        self.the_books_are_right()
        assert not self.asked, f"{self.asked} were never answered"
        for name in NAMES:
            self._check_every_note_was_judged(name)

    def _check_every_note_was_judged(self, name: str) -> None:
        judged = [tag for tag, _ in self.books[name].answers]
        for letter in self.letters:
            if isinstance(letter.message, Append) and letter.message.reply_to in self._plays(name):
                judged.append(letter.message.tag)
            elif isinstance(letter.message, Journaled) and letter.to == name:
                judged += [tag for tag, _ in letter.message.results]
        notes = [n for n in self.books[name].handled if isinstance(self.told[name][n], Note)]
        assert sorted(judged) == notes, f"{name}: judged {sorted(judged)}, handled {notes}"

    def _plays(self, name: str) -> set[Address]:
        replies = {one.message.reply_to for one in self.letters if isinstance(one.message, Append)}
        return {address for address in replies if address is not None and address.name == name}

    def release(self) -> None:
        """Forget the actors."""
        self.scheduler.close()
        self.log.close()


def _check_answer(number: int, future: pykka.Future[Any], *, handled: bool) -> None:
    try:
        answer = future.get(timeout=0)
    except pykka.Timeout:
        raise AssertionError(f"question {number} had its end, and its asker was told nothing") from None
    except pykka.ActorDeadError:
        assert not handled, f"question {number} was handled, and its asker told that it was not"
    else:
        assert handled, f"question {number} was not handled, and answered {answer}"
        assert answer == number * 2
