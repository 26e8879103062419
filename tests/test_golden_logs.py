"""Golden logs: what earlier versions wrote is read to the same events and rows; upcasting loses nothing."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from quire.actors.runtime.ports import SystemClock
from quire.cli.words import in_words
from quire.errors import DamagedError, UsageError
from quire.events import facts
from quire.events.facts import AnyEvent, FallbackSummary, Step, type_of
from quire.events.projections import JOBS
from quire.events.record import Batch
from quire.events.upcasts import UPCASTERS, from_1
from quire.store.audit import audit
from quire.store.codec import CHAIN_BYTES, GENESIS, CommitCodec, Draft, chained
from quire.store.domain import QUIRE
from quire.store.lmdb_store import LmdbStore
from quire.testing.golden import (
    LOG_BYTES_MAX,
    Golden,
    as_value,
    digests_path,
    events_digest,
    kept_digests,
    load,
    main,
    pack,
    paths,
    problems,
    record,
    restore,
)
from quire.testing.golden_runs import RUNS, scrubbed

FOLDER = Path(__file__).parent / "golden"
LOGS = paths(FOLDER)
NAMES = [f"{log.parent.name}/{log.name.split('.')[0]}" for log in LOGS]
FIRST = [log for log in LOGS if log.parent.name == "schema-1"]
each = pytest.mark.parametrize("log", LOGS, ids=NAMES)


def copied(log: Path, folder: Path) -> Path:
    for file in (log, digests_path(log)):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder / log.name


# The logs that are kept


def test_there_is_a_log_of_every_schema_and_run_and_together_they_hold_every_event():
    """No schema that was ever written lacks its logs, and no event type its example; none is a burden."""
    assert {log.parent.name for log in LOGS} == {f"schema-{n}" for n in range(1, QUIRE.schema + 1)}
    assert {log.name.split(".")[0] for log in FIRST} == set(RUNS)
    every = {type_of(one.event) for log in LOGS if log.name.startswith("every") for one in load(log).events()}
    assert every == {str(kind.__struct_config__.tag) for kind in AnyEvent.__args__}
    assert max(log.stat().st_size for log in LOGS) <= LOG_BYTES_MAX
    kills = kept_digests(FOLDER / "schema-1" / "kills.log.gz").types
    assert kills["crash_recovery_event"] > 20
    assert kept_digests(FOLDER / "schema-1" / "retries.log.gz").types["job_requeued"] > 5


@each
def test_a_golden_log_is_read_to_the_recorded_events_and_rows(log):
    """Chain, events and the fold of each projection are as they were recorded; each log knows its schema."""
    assert problems(log) == []
    kept = kept_digests(log)
    assert f"schema-{kept.schema}" == log.parent.name
    assert {int(schema) for schema in kept.events} == set(range(kept.schema, QUIRE.schema + 1))


@each
def test_a_golden_log_in_lmdb_opens_rebuilds_and_passes_the_audit(log, tmp_path):
    """The program opens a library with these commits, folds its tables anew, and the audit finds nothing."""
    golden = load(log)
    store = restore(golden, tmp_path)
    report = audit(store, QUIRE)
    assert (report.ok, report.problems) == (True, [])
    assert report.events == kept_digests(log).count
    assert report.commits == len(golden.commits)
    assert store.commits() == list(golden.commits)
    store.close()


@pytest.mark.parametrize("log", FIRST, ids=[log.name.split(".")[0] for log in FIRST])
def test_upcasting_loses_nothing(log):
    """The events of schema 1, lifted and lowered again by hand, have the digest that schema 1 recorded."""

    def lowered(value):
        path = value["event"].get("path")
        if value["type"] == "fallback_summary" and path is not None:
            assert all(step.get("reason", "") == "" for step in path)
            value["event"]["path"] = [f"{step['source']}:{step['outcome']}" for step in path]
        return value

    values = [lowered(as_value(one)) for one in load(log).events()]
    assert events_digest(values) == kept_digests(log).events["1"]


# What the check would see


def test_a_changed_fold_a_changed_default_and_a_flipped_byte_are_each_found(tmp_path):
    """The digests notice what they are for: rows, events, the chain; each problem names its log and cause."""
    log = copied(FOLDER / "schema-1" / "clean.log.gz", tmp_path)
    kept = kept_digests(log)

    def with_digests(**changed):
        digests_path(log).write_bytes(msgspec.json.encode(msgspec.structs.replace(kept, **changed)))
        return " ".join(problems(log))

    assert "projection jobs folds otherwise" in with_digests(rows={**kept.rows, JOBS: "0"})
    assert "read otherwise than before" in with_digests(events={**kept.events, str(QUIRE.schema): "0"})
    assert "no digest of schema" in with_digests(events={"1": kept.events["1"]})
    assert with_digests() == ""
    commits = [list(commit) for commit in load(log).commits]
    commits[3][1] = commits[3][1][:-1] + bytes([commits[3][1][-1] ^ 1])
    log.write_bytes(pack([(first, value) for first, value in commits]))
    assert f"damaged at position {commits[3][0]}" in with_digests()
    log.write_bytes(pack(load(FOLDER / "schema-1" / "clean.log.gz").commits[1:]))
    assert "a commit begins at" in with_digests()


def test_a_field_added_at_an_end_changes_no_digest_and_a_renamed_one_does():
    """The digest itself keeps the rule that needs no new schema: a new field at its default is not seen."""

    class Before(facts.Event, frozen=True, tag="thing"):
        name: str

    class After(facts.Event, frozen=True, tag="thing"):
        name: str
        size: int = 0
        parts: tuple[str, ...] = ()

    class Renamed(facts.Event, frozen=True, tag="thing"):
        label: str

    def digest(event):
        draft = Draft(0, time_ns=1, run_id="r")
        draft.judge([Batch("s", (event,))], lambda _: (0, 0))
        return events_digest(map(as_value, draft.recorded))

    assert digest(Before("a")) == digest(After("a")) != digest(After("a", 1))
    assert digest(Before("a")) != digest(Renamed("a"))


def test_the_command_says_what_it_did_and_with_which_code(tmp_path, capsys):
    """check: 0 and 1; record mends rows and keeps digests of earlier schemas; no logs at all is code 2."""
    log = copied(FOLDER / "schema-1" / "every.log.gz", tmp_path)
    kept = kept_digests(log)
    assert main(["check", "--folder", str(tmp_path)]) == 0
    assert not record(log)
    wrong = msgspec.structs.replace(kept, rows={}, events={"1": kept.events["1"]})
    digests_path(log).write_bytes(msgspec.json.encode(wrong))
    assert main(["check", "--folder", str(tmp_path)]) == 1
    assert main(["record", "--folder", str(tmp_path)]) == 0
    assert kept_digests(log) == kept
    assert main(["check", "--folder", str(tmp_path / "none")]) == 2
    said = capsys.readouterr()
    assert "1 golden logs, the digests of 1 are new" in said.out
    assert "there are no golden logs" in said.err


def test_a_file_that_is_no_golden_log_is_refused(tmp_path):
    """Cut, of another form, or no gzip at all: a usage error that names the file."""
    whole = (FOLDER / "schema-1" / "every.log.gz").read_bytes()
    other = gzip.compress(msgspec.msgpack.encode(["another form", []]))
    for number, raw in enumerate((whole[:-9], b"text", other, gzip.compress(b"\xc1"))):
        file = tmp_path / f"{number}.log.gz"
        file.write_bytes(raw)
        with pytest.raises(UsageError, match=str(file)):
            load(file)


def test_packing_is_steady_and_a_scrubbed_log_says_the_same(tmp_path):
    """The same commits give the same file; taking out what tells of the machine changes nothing else."""
    log = FOLDER / "schema-1" / "kills.log.gz"
    golden = load(log)
    assert pack(golden.commits) == log.read_bytes()
    again = Golden("again", tuple(scrubbed(golden.events())))
    assert [*map(as_value, again.events())] == [*map(as_value, golden.events())]


# From schema 1 to 2


def test_a_step_of_schema_1_becomes_a_struct_with_its_colons_kept():
    """``source:outcome`` is split at its last colon; what is no summary, or has no path, goes through."""
    said = ["fallback_summary", "no_pdf", "exhausted", ["t"], 2, 0, "", "", ["a:no_pdf", "own: x:timeout"], 7]
    steps = [["a", "no_pdf", ""], ["own: x", "timeout", ""]]
    assert from_1(said) == [*said[:8], steps, 7]
    assert from_1(said[:8]) == said[:8]
    assert from_1(["job_listed", "x"]) == ["job_listed", "x"]
    assert set(UPCASTERS) == set(range(1, QUIRE.schema))


@pytest.mark.parametrize("path", [["no colon"], [7], [["a", "no_pdf", ""]], 5])
def test_a_path_that_is_none_is_damage_and_no_other_error(path):
    """A body of schema 1 whose path nobody wrote is told as damage at its position."""
    event = ["fallback_summary", "no_pdf", "exhausted", [], 0, 0, "", "", path]
    body = msgspec.msgpack.encode([1, 0, "r", [["s", 1, 0, 0, event]]])
    with pytest.raises(DamagedError, match="position 9"):
        CommitCodec(QUIRE).decode_body(9, body)


def test_commits_of_schema_2_follow_those_of_schema_1_in_one_log(tmp_path):
    """A library of schema 1 is gone on with: both parts are read, folded, rebuilt and audited as one log."""
    golden = load(FOLDER / "schema-1" / "gates.log.gz")
    store = restore(golden, tmp_path)
    head = store.head().position
    later = load(FOLDER / f"schema-{QUIRE.schema}" / "breakers.log.gz").events()
    streams = {one.stream for one in golden.events()}
    for one in [one for one in later if one.stream not in streams]:
        opens = isinstance(one.event, facts.JobLeased)
        epoch = one.epoch or None
        (done,) = store.append([Batch(one.stream, (one.event,), epoch=epoch, opens_epoch=opens)])
        assert type(done).__name__ == "Appended"
    assert [value[CHAIN_BYTES + 1] for _, value in store.commits() if value][-1] == QUIRE.schema
    assert store.commits()[0][1][CHAIN_BYTES + 1] == 1
    summaries = [one.event for one in store.read() if isinstance(one.event, FallbackSummary)]
    reasons = [{step.reason for step in one.path} for one in summaries]
    assert reasons[0] == {""}
    assert any(reason for reason in reasons[-1])
    kept = store.digest()
    store.rebuild()
    assert store.digest() == kept
    assert audit(store, QUIRE).problems == []
    assert store.read(head, limit=1)[0].position == head + 1
    store.close()


def test_a_program_of_schema_1_refuses_the_log_as_newer_and_leaves_it_alone(tmp_path):
    """What an older program meets is a plain word to use the newer one, and not one byte is changed."""
    old = replace(QUIRE, schema=1, upcasters={})
    store = restore(load(FOLDER / "schema-2" / "titles.log.gz"), tmp_path)
    commits = store.commits()
    store.close()
    with pytest.raises(UsageError, match=r"schema 2 at position .* knows 1: use the newer version"):
        LmdbStore(tmp_path, old, run_id="r", clock=SystemClock(), map_size=64 << 20)
    again = LmdbStore(tmp_path, QUIRE, run_id="r", clock=SystemClock(), map_size=64 << 20)
    assert again.commits() == commits
    again.close()


def test_a_summary_tells_why_each_source_missed():
    """What schema 2 keeps is shown: reasons where they are known, outcomes where schema 1 wrote them."""
    path = (Step("unpaywall_pdf", "no_pdf", "no_oa_location"), Step("pmc_pdf", "skipped"))
    lost = FallbackSummary("no_pdf", "exhausted", ("direct_oa",), 1, path=path)
    assert in_words(lost, {}).endswith(" In order: unpaywall_pdf (no_oa_location), pmc_pdf (skipped).")
    won = FallbackSummary("success", "", ("direct_oa",), 2, 12, "arxiv_pdf", "arxiv.org",
                          (*path[:1], Step("arxiv_pdf", "success")))  # fmt: skip
    assert (
        in_words(won, {}) == "arxiv_pdf won after 2 turns and 12 ms. Others: unpaywall_pdf (no_oa_location)."
    )
    assert in_words(msgspec.structs.replace(won, path=()), {}) == "arxiv_pdf won after 2 turns and 12 ms."


def test_a_body_of_an_earlier_schema_keeps_its_bytes_and_its_place_in_the_chain():
    """Lifting happens on reading alone: the chain is over what was written, not over what is read."""
    event = ["fallback_summary", "no_pdf", "exhausted", [], 0, 0, "", "", ["a:no_pdf"]]
    body = msgspec.msgpack.encode([1, 5, "r", [["s", 1, 0, 0, event]]])
    (read,) = CommitCodec(QUIRE).decode((1, chained(GENESIS, body) + body), GENESIS)
    assert read.event.path == (Step("a", "no_pdf"),)
