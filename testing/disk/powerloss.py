"""Campaign: the power goes at every call of a recorded run, and leaves any state that a disk may have then.

A run is recorded, call by call with its bytes; the calls are played to a simulated disk, and at each point
images of it are drawn, written to a folder and opened as the product opens a library. A violation is an image
that does not open, does not audit, or lacks something that was promised before the power went; or a run that
cannot be brought to its end on it.

What is recorded is the script, and for a share of the images a whole session with all its actors. Half of the
scripts have an earlier turn that a kill ended at a drawn call: what that one left undone must not undo what
the next one promises.
"""

from __future__ import annotations

import faulthandler
import hashlib
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec

from ...errors import InvariantError, QuireError
from ..web import serve
from . import script, session_script
from .oracle import Promised, promised, violations
from .runs import Asked, Runs
from .script import Paper
from .shim import SYNCS, Call, Fault, Order
from .simulated_disk import Honoured, SimulatedDisk, choose, write_image

IMAGES = 100_000
"""Images of a whole campaign."""
SESSION_EVERY = 10
"""Recordings of which one is a session's."""
PER_POINT = 40
"""Images drawn at one point of a recording, at most."""
TRIES_PER_IMAGE = 4
"""Draws for an image that is not known yet; where little is pending there are few."""
GOES_ON_EVERY = 50
"""Images of which one has the script played on it to its end."""
VIOLATIONS_MAX = 1_000
"""Violations after which a campaign ends: it is as good as lost."""
LAST_TURN = 9
"""The number of the turn that is played on an image; no recorded one has it."""
FIRST_TURN_CALLS = 200
"""Calls of a first turn, at one of which it is killed."""
JUDGE_S = 600
"""How long the images of one point may take to judge, in seconds."""


class Tally(msgspec.Struct):
    """What a campaign came to."""

    images: int = 0
    """Different images that were opened and judged."""
    judged: int = 0
    """Judgements: an image may be met again when more has been promised."""
    recordings: int = 0
    sessions: int = 0
    """Of these, of whole sessions."""
    points: int = 0
    """Points at which the power went: within each call (what it does may be there, or not) and at the end."""
    syncs: int = 0
    """Of these, within a sync: the boundary of what is promised."""
    lost: int = 0
    """Images that lack what was promised, or hold what is wrong."""
    unopenable: int = 0
    gone_on: int = 0
    """Images on which the run was brought to its end."""
    by_way: dict[str, int] = {}
    """Images by what was left."""
    controls: dict[str, int] | None = None
    """Bad images on disks that break their word, by what they do not heed; None where none was tried."""
    violations: list[str] = []

    @property
    def ok(self) -> bool:
        """There were images, all of them hold what was promised, and each control lost something."""
        return self.images > 0 and not self.violations and all((self.controls or {}).values())


class Recording(msgspec.Struct, frozen=True):
    """One or two turns of a script, or a session, call by call."""

    seed: int
    calls: tuple[Call, ...]
    rounds: int = 0
    """Of the script."""
    killed_at: int = 0
    """The call at which the first turn was killed; 0 where there was one turn."""
    web: str = ""
    """Address of the simulated web that a session was run against; ``""`` of a script."""

    @property
    def papers(self) -> list[Paper]:
        """The works of a script, with the bytes that they must have."""
        return [paper for round_ in script.papers(self.seed, self.rounds) for paper in round_]

    def go_on(self, library: Path, mark: Callable[[str], None]) -> None:
        """Run the same once more, on the library that a power loss left; raises as the run does."""
        if self.web:
            session_script.play(library, web=self.web, seed=self.seed, mark=mark)
        else:
            script.play(library, seed=self.seed, mark=mark, turn=LAST_TURN, rounds=self.rounds)


def record(
    runs: Runs, folder: Path, *, seed: int, rounds: int = script.ROUNDS, defect: str = ""
) -> Recording:
    """Record a script on an empty disk; under an odd seed after a first turn that was killed."""
    disk = folder / "disk"
    shutil.rmtree(disk, ignore_errors=True)
    disk.mkdir()
    calls: tuple[Call, ...] = ()
    killed_at = _killed_at(seed)

    def asked(turn: int, order: Order) -> Asked:
        to = str(folder / "record")
        return Asked(str(disk), to, order, seed=seed, turn=turn, rounds=rounds, defect=defect)

    if killed_at:
        kill = Order(fault=Fault.KILL_AFTER, at=killed_at, data=True)
        calls = runs.run(asked(0, kill)).calls
    ran = runs.run(asked(1 if killed_at else 0, Order(data=True)))
    if ran.ended.error or ran.ended.killed:
        raise InvariantError(f"the script ends without a fault: {ran.ended}")
    return _checked(Recording(seed, calls + ran.calls, rounds=rounds, killed_at=killed_at), disk)


def record_session(runs: Runs, folder: Path, web: str, *, seed: int, defect: str = "") -> Recording:
    """Record a session of the works of a seed, on an empty disk, against the web at an address."""
    disk = folder / "disk"
    shutil.rmtree(disk, ignore_errors=True)
    disk.mkdir()
    asked = Asked(str(disk), str(folder / "record"), Order(data=True), seed=seed, web=web, defect=defect)
    ran = runs.run(asked)
    if ran.ended.error or ran.ended.killed:
        raise InvariantError(f"the session ends without a fault: {ran.ended}")
    return _checked(Recording(seed, ran.calls, web=web), disk)


def _checked(recording: Recording, disk: Path) -> Recording:
    unexplained = explained(recording, disk)
    if unexplained:
        raise InvariantError(f"the recording does not explain what is on the disk: {unexplained[0]}")
    return recording


def _killed_at(seed: int) -> int:
    """The call that ends the first turn of a recording; 0 where there is no such turn."""
    return random.Random(seed).randint(1, FIRST_TURN_CALLS) if seed % 2 else 0


def explained(recording: Recording, disk: Path) -> list[str]:
    """What is on the real disk and not in the recording, or otherwise: the shim missed a call."""
    simulated = SimulatedDisk(Honoured())
    for call in recording.calls:
        simulated.do(call)
    whole = simulated.whole()
    real = {str(path.relative_to(disk)): path for path in disk.rglob("*")}
    different = sorted(set(whole) ^ set(real))
    for path, content in whole.items():
        # The lock file is shared memory: what is written to it is gone with the power, and may be.
        kept = content is not None and path in real and not path.endswith("lock.mdb")
        if kept and real[path].read_bytes() != content:
            different.append(path)
    return different


class Images:
    """The images of one recording, judged one by one."""

    def __init__(self, recording: Recording, folder: Path, tally: Tally, *, honoured: Honoured) -> None:
        """``folder`` must exist; images are written below it, one at a time."""
        self._recording = recording
        self._folder = folder
        self._tally = tally
        self._honoured = honoured
        self._chance = random.Random(recording.seed)
        self._known: set[bytes] = set()
        self._contents: set[bytes] = set()
        self._ways: Counter[str] = Counter(tally.by_way)
        self._papers = recording.papers

    def __repr__(self) -> str:
        return f"<Images of {self._recording.seed}, {len(self._known)} known>"

    def judge(self, count: int) -> None:
        """Draw and judge about so many images, spread over all points, or over some where they are few."""
        calls, marks, disk = self._recording.calls, list[str](), SimulatedDisk(self._honoured)
        each = max(1, min(PER_POINT, round(count / (len(calls) + 1))))
        every = max(1, len(calls) // max(1, count))
        self._tally.recordings += 1
        self._tally.sessions += self._recording.web != ""
        for place, call in enumerate(calls):
            if call.name == "mark":
                marks.append(call.path)
                continue
            if len(self._tally.violations) >= VIOLATIONS_MAX:
                break
            disk.begin(call)
            if place % every == 0:
                self._point(disk, promised(marks), each, f"within call {place}, {call.name}")
                self._tally.points += 1
                self._tally.syncs += call.name in SYNCS
            disk.end(call)
        self._point(disk, promised(marks), each, "at the end")
        self._tally.by_way = dict(self._ways)

    def _point(self, disk: SimulatedDisk, said: Promised, count: int, where: str) -> None:
        images = list(self._fresh(disk, said, count))
        numbers = range(self._tally.judged + 1, self._tally.judged + len(images) + 1)
        judged = survived(
            [
                partial(self._judged, number, image, said)
                for number, (_, image, _) in zip(numbers, images, strict=True)
            ]
        )
        for number, (way, _, is_new), found in zip(numbers, images, judged, strict=True):
            self._ways[way] += 1
            self._tally.images += is_new
            self._tally.gone_on += number % GOES_ON_EVERY == 0
            self._tally.unopenable += any(one.startswith("unopenable") for one in found)
            self._tally.lost += any(not one.startswith("unopenable") for one in found)
            place = f"seed {self._recording.seed}, {where}, {way}"
            self._tally.violations += [f"{place}: {one}" for one in found]
        self._tally.judged += len(images)

    def _fresh(
        self, disk: SimulatedDisk, said: Promised, count: int
    ) -> Iterator[tuple[str, dict[str, bytes | None], bool]]:
        """Images not judged yet by what was promised, up to so many: way, content, and whether it is new."""
        found = 0
        for _ in range(count * TRIES_PER_IMAGE):
            if found >= count:
                return
            chosen = choose(disk, self._chance)
            image = disk.image(chosen)
            content = _digest(image)
            judged = content + f"{said.position}/{len(said.objects)}/{len(said.home)}".encode()
            if judged not in self._known:
                found += 1
                yield chosen.way, image, content not in self._contents
                self._known.add(judged)
                self._contents.add(content)

    def _judged(self, number: int, image: dict[str, bytes | None], said: Promised) -> list[str]:
        """What is wrong with one image."""
        disk = self._folder / "image"
        shutil.rmtree(disk, ignore_errors=True)
        disk.mkdir()
        write_image(image, disk)
        found = violations(disk / "library", said, self._papers)
        if not found and number % GOES_ON_EVERY == 0:
            found = self._goes_on(disk / "library", said)
        return found

    def _goes_on(self, library: Path, said: Promised) -> list[str]:
        marks: list[str] = []
        try:
            self._recording.go_on(library, marks.append)
        except QuireError as error:
            return [f"does not go on: {type(error).__name__}: {error}"]
        later = promised(marks)
        later = msgspec.structs.replace(
            later, objects=said.objects | later.objects, home=said.home | later.home
        )
        if not later.done:
            return ["does not go on: it came to no end"]
        due = session_script.obtainable(self._recording.seed) if self._recording.web else ()
        found = violations(library, later, self._papers, complete=True, due=due)
        return found + violations(library, said)


def survived(judgements: Sequence[Callable[[], list[str]]]) -> list[list[str]]:
    """What each says, in processes of their own: a damaged map may end one by a signal (SIGBUS)."""
    said: list[list[str]] = []
    while len(said) < len(judgements):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            _say(judgements[len(said) :], writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as lines:
            said += [msgspec.json.decode(line, type=list[str]) for line in lines]
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == -signal.SIGALRM:
            said.append([f"unopenable: it was not judged in {JUDGE_S} s"])
        elif status:
            said.append([f"unopenable: the process that opened it ended with {status}"])
    return said


def _say(judgements: Sequence[Callable[[], list[str]]], to: int) -> None:
    """Be the child: a line for each."""
    code = 1
    try:
        faulthandler.disable()  # a signal is an answer here, no accident to print a stack for
        signal.alarm(JUDGE_S)
        for judgement in judgements:
            os.write(to, msgspec.json.encode(judgement()) + b"\n")
        code = 0
    finally:
        os._exit(code)


def _digest(image: dict[str, bytes | None]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for path, content in sorted(image.items()):
        digest.update(f"\0{path}\0{-1 if content is None else len(content)}\0".encode())
        digest.update(content or b"")
    return digest.digest()


def campaign(
    runs: Runs,
    folder: Path,
    *,
    count: int,
    seed: int,
    rounds: int = script.ROUNDS,
    defect: str = "",
    honoured: Honoured | None = None,
    session_every: int = SESSION_EVERY,
) -> Tally:
    """Judge so many images, from as many recordings as it takes.

    Args:
        runs: makes the recordings.
        folder: to work in; it must exist.
        count: images.
        seed: of the first recording; the next has the next.
        rounds: of the script.
        defect: put into the script, to show that the campaign finds it.
        honoured: the syncs that the disk heeds; all when None.
        session_every: recordings of which one is a session's, the last of so many; none when 0.
    """
    tally = Tally()
    for number, one in enumerate(range(seed, seed + count), 1):
        with ExitStack() as stack:
            if session_every and number % session_every == 0:
                served = stack.enter_context(serve(session_script.world(one)))
                recording = record_session(runs, folder, served.url, seed=one, defect=defect)
            else:
                recording = record(runs, folder, seed=one, rounds=rounds, defect=defect)
            Images(recording, folder, tally, honoured=honoured or Honoured()).judge(count - tally.images)
        if tally.images >= count or len(tally.violations) >= VIOLATIONS_MAX:
            break
    return tally


CONTROLS: dict[str, Honoured] = {
    "no sync is honoured": Honoured(files=False, folders=False, descriptors=False),
    "no file's sync": Honoured(files=False),
    "no folder's sync": Honoured(folders=False),
    "no O_DSYNC": Honoured(descriptors=False),
}
"""Disks that break their word: on each of them something must be lost."""


def controls(
    runs: Runs, folder: Path, *, count: int, seed: int, rounds: int = script.ROUNDS
) -> dict[str, int]:
    """Bad images by control, of so many each; a zero means that the campaign is blind."""
    found = {}
    for name, honoured in CONTROLS.items():
        tally = campaign(runs, folder, count=count, seed=seed, rounds=rounds, honoured=honoured)
        found[name] = tally.lost + tally.unopenable
    return found
