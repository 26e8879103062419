"""Every parser answers every damaged body, and the campaign that says so would notice if one did not."""

from __future__ import annotations

import itertools
import sys

import msgspec
import pytest

from quire.actors.sources import unpaywall
from quire.actors.sources.finding import Found, explained
from quire.actors.web.guard import URL_CHARS_MAX, BadUrl, joined, place
from quire.actors.web.redaction import redact_url
from quire.errors import DamagedError
from quire.events.projections import RUNS
from quire.events.urls import canonical_url
from quire.events.work import Work, normal_arxiv
from quire.store.codec import CommitCodec
from quire.store.domain import QUIRE
from quire.store.lmdb_store import LmdbStore
from quire.testing import fuzz
from quire.testing.fuzzing import worker
from quire.testing.fuzzing.campaign import Campaign, Process, unreached
from quire.testing.fuzzing.message import packed, unpacked
from quire.testing.fuzzing.shrinking import shrunk
from quire.testing.fuzzing.target import check_found, check_loggable, check_url, check_work
from quire.testing.fuzzing.targets import TARGETS, default_corpus, target_of
from quire.testing.fuzzing.worker import Failure, Run, made_again

BODIES = 80
"""Of each parser, of our own bodies; ``make fuzz`` reads 20,000, and recorded ones among them."""
RECORDED = ("unpaywall", "europe_pmc", "crossref", "pmc_converter", "wayback_cdx", "pdf")
"""Parsers whose recorded bodies are read here as well, as they are and damaged."""


RECORDED_BODIES = 200
COUNT = itertools.count()


@pytest.fixture(scope="module")
def process():
    """One process for all parsers; each that a body ends is followed by another."""
    with Process() as process:
        yield process


def campaign(process, *, bodies=BODIES, seed=1, seconds=2.0, corpus=None, keep=None):
    return Campaign(process, bodies=bodies, seed=seed, seconds=seconds, corpus=corpus, keep=keep)


@pytest.mark.parametrize("name", TARGETS)
def test_every_damaged_body_is_answered(process, name):
    """No exception leaves a parser, none takes too long, promises hold, and all that can be said is said."""
    account = campaign(process).run(name)
    assert account.failures == []
    assert account.bodies == BODIES
    assert unreached(target_of(name), account) == []


@pytest.mark.skipif(default_corpus() is None, reason="the recorded bodies are not here")
@pytest.mark.parametrize("name", RECORDED)
def test_recorded_bodies_are_answered(process, name):
    """The same for bodies that real services sent."""
    account = campaign(process, bodies=RECORDED_BODIES, corpus=default_corpus()).run(name)
    assert account.failures == []
    assert account.bodies == RECORDED_BODIES


# -- the campaign notices

PLANTED = """
import os, sys, time
from quire.actors.sources import unpaywall
from quire.testing.fuzzing import worker

whole, hoard, calls = unpaywall.copies, [], []

def planted(body, work, **options):
    if b'"is_oa"' in body:
        {defect}
    return whole(body, work, **options)

unpaywall.copies = planted
worker.ASLEEP_FACTOR = {asleep}
worker.serve(sys.argv[1])
"""


@pytest.fixture
def with_defect(tmp_path):
    """A function that gives the process of a parser in which a defect was planted."""
    started = []

    def start(defect, asleep=60):
        script = tmp_path / "planted.py"
        script.write_text(PLANTED.format(defect=defect, asleep=asleep))
        started.append(Process((sys.executable, str(script))))
        return started[-1]

    yield start
    for process in started:
        process.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("defect", "what", "seconds"),
    [
        ("raise KeyError(1)", "raised KeyError", 5.0),
        ("hoard.append(b'x' * (300 << 20))", "took too much memory", 5.0),
        ("time.sleep(60)", "stood still", 0.5),
        ("os.abort()", "crashed with SIGABRT", 5.0),
    ],
)
def test_a_planted_defect_is_found(with_defect, defect, what, seconds):
    """An exception, a hoard, a wait and a crash within a parser are each told as what they are."""
    account = campaign(with_defect(defect, asleep=3), bodies=1, seconds=seconds).run("unpaywall")
    assert [failure.number for failure in account.failures] == [0]
    assert account.failures[0].what.startswith(what)
    assert account.outcomes == {"FAILED": 1}


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (lambda _: worker.Seen(str(next(COUNT))), "broken promise: the same body is answered"),
        (lambda _: check_found(Found(candidates=()), candidates_max=1), "broken promise: no candidates"),
        (lambda _: check_work(Work(doi="nonsense")), "broken promise: a DOI is one"),
        (lambda _: check_url("https://h.example:99999/"), "broken promise: a URL has a canonical form"),
        (lambda _: check_loggable(Work(title="\ud800")), "raised UnicodeEncodeError"),
        (lambda _: [] < 1, "raised TypeError"),
    ],
)
def test_a_wrong_answer_is_found(read, what):
    """Another answer the second time, and each promise that parsers share, is told by its name."""
    outcome, said, _ = worker.Watched().read(target_of("sniff")._replace(read=read), b"", 0, 5.0)
    assert outcome == ""
    assert said.startswith(what)


def test_a_body_that_ends_the_process_ends_nothing_else(with_defect):
    """The bodies before and after it are read, and each is counted once."""
    process = with_defect("b'10.1000/y' in body and sum(range(10**11))")
    account = campaign(process, bodies=9, seconds=0.3).run("unpaywall")
    assert account.outcomes["FAILED"] == 1
    assert sum(account.outcomes.values()) == 9
    assert account.outcomes["email_refused"] == 1
    assert account.bodies == 9
    assert [failure.what for failure in account.failures] == ["took too much processor time"]


def test_a_failure_is_made_small_kept_and_shown_again(with_defect, tmp_path):
    """What is told names the defect, the smallest body and the file; the file fails again by itself."""
    process = with_defect("raise KeyError(1)")
    run = campaign(process, bodies=4, keep=tmp_path / "kept")
    said = run.told(run.run("unpaywall").failures[0])
    (kept,) = (tmp_path / "kept").iterdir()
    assert kept.read_bytes() == b'"is_oa"'
    assert "unpaywall: raised KeyError" in said
    assert f"--only unpaywall --replay {kept}" in said
    assert "--seed 1 --only unpaywall --number 0" in said
    assert run.tried("unpaywall", kept.read_bytes()).startswith("raised KeyError")


def test_an_outcome_that_is_never_met_is_told():
    """A campaign that reads only refusals proves little, and says so."""
    account = worker.Account(outcomes={"found": 3, "html_answer": 1})
    assert "not_known" in unreached(target_of("unpaywall"), account)
    assert unreached(target_of("pdf_cut"), worker.Account(outcomes={"sound": 1, "truncated": 1})) == []


# -- its parts


def test_a_number_names_one_body():
    """Seed, parser and number make the same body whenever they are asked; others make others."""
    tasks = [Run("unpaywall", seed, 0, 1, 1.0) for seed in ("1", "1", "2")]
    one, again, other = ([made_again(task, number) for number in range(300)] for task in tasks)
    worker._corpus.cache_clear()
    assert one == again == [made_again(tasks[0], number) for number in range(300)]
    assert sum(a != b for a, b in zip(one, other, strict=True)) > 200
    assert len(set(one)) > 250


def test_shrinking_keeps_what_matters():
    """The smallest body that still fails is found, within the tries."""
    body = b"noise " * 200 + b"NEEDLE" + b" noise" * 200
    assert shrunk(body, lambda raw: b"NEEDLE" in raw, tries_max=400) == b"NEEDLE"
    asked = []
    shrunk(body, lambda raw: bool(asked.append(raw)), tries_max=7)
    assert len(asked) == 7


def test_a_message_is_read_as_it_was_packed():
    """Status, URL, headers and body survive; bytes that are no message are a body."""
    message = unpacked(packed(b"a\n\nb", status=404, url="https://h.example/x", Content_Type="text/html"))
    assert message == (404, "https://h.example/x", (("Content-Type", "text/html"),), b"a\n\nb")
    assert unpacked(b"\xff").body == b"\xff"


def test_the_command_says_what_it_did(capsys, tmp_path):
    """Exit 0 and a row for each parser; 2 for a parser that there is not; a body can be shown again."""
    assert fuzz.main(["--bodies", "20", "--no-corpus", "--only", "sniff", "--only", "times"]) == 0
    said = capsys.readouterr().out
    assert "sniff" in said
    assert "40 bodies" in said
    assert fuzz.main(["--only", "nonsense"]) == 2
    file = tmp_path / "body"
    file.write_bytes(b"%PDF-")
    assert fuzz.main(["--only", "sniff", "--replay", str(file)]) == 0
    assert "sniff: answered; 5 bytes" in capsys.readouterr().out


# -- what it found


def test_a_long_line_is_no_feast(process):
    """A line of 200,000 blanks, or of one long name and a blank, took minutes: each place was tried anew."""
    assert campaign(process).tried("list_txt", b"a" + b" " * 200_000 + b"b") == ""
    assert campaign(process).tried("list_txt", b"http://" + b"a" * 90_000 + b" b") == ""
    assert normal_arxiv("arXiv:2101.00001v2   [cs.CL]") == ("2101.00001", "v2")


def test_a_refresh_of_blanks_is_read_at_once(process):
    """A refresh with thousands of blanks before a stray quote took minutes: three runs shared the blanks."""
    refresh = """<meta http-equiv=refresh content='0;%s"x"y'>""" % (" " * 2_900)
    page = packed(f"<html><head>{refresh}</head><body></body></html>".encode())
    assert campaign(process).tried("landing", page) == ""


def test_a_password_behind_two_signs_is_redacted():
    """What stands before the last @ of a host is the user's; a look at the first let the rest through."""
    assert redact_url("https://reader@library:hunter2@h.example/x") == "https://REDACTED/x"


def test_bottomless_settings_are_refused_at_once(process):
    """Composing 20,000 lists in each other took seconds before their depth was looked at."""
    assert campaign(process).tried("config", b"library: " + b"[" * 100_000) == ""
    assert campaign(process).tried("config", b"[" * 20_000 + b"]" * 20_000) == ""


def test_a_table_with_an_endless_first_cell_is_refused(process):
    """A heading longer than the csv module takes left the reader as an error of that module."""
    assert campaign(process).tried("table", b"a" * 200_000 + b",b\n") == ""


def test_an_odd_name_in_a_feed_is_read_over(process):
    """An element with two colons in its name, which XML takes, left the reader of feeds as an error."""
    feed = b"<feed xmlns='http://www.w3.org/2005/Atom'><entry><a:b:c>x</a:b:c></entry></feed>"
    assert campaign(process).tried("list_any", feed) == ""


def test_what_stands_before_a_fragment_is_brought_to_its_form():
    """A blank before the fragment was left at the end, and gone when the form was taken again."""
    assert canonical_url("http://h.example/a #b") == "http://h.example/a"


def test_a_rule_is_no_text_of_others():
    """What a service calls a host was written into the log as the name of a rule, control characters too."""
    named = {"url_for_pdf": "https://h.example/x.pdf", "host_type": "a\x00b", "site": "a\x00b"}
    found = unpaywall.copies(msgspec.json.encode({"doi": "10.1000/x", "oa_locations": [named]}), Work())
    assert [candidate.rule for candidate in found.candidates] == ["unpaywall_location"]


@pytest.mark.parametrize("text", ["p@h.p@h.e", "https://h.example/a%40b.a%40b.m"])
def test_addresses_in_a_row_are_redacted_at_once(text):
    """Of two addresses in one the first went alone, and the second look took what was left."""
    once = redact_url(text)
    assert redact_url(once) == once
    assert "@" not in once
    assert "%40" not in once


def test_a_url_that_grows_as_it_is_encoded_is_bounded():
    """A Location within the bound was three times as long on the wire, and refused only at the next hop."""
    with pytest.raises(BadUrl) as refused:
        joined(place("https://h.example/"), b"/" + b"\xc3\xa9" * (URL_CHARS_MAX // 2))
    assert explained(refused.value.reason)


@pytest.mark.parametrize("body", [
    msgspec.msgpack.encode([0, 0, "r", [["s", 1, 0, 0, []]]]),
    msgspec.msgpack.encode([-1, 0, "r", []]),
    b"\x94\x01\x00\xa1\xff\x90",
    b"\x94\xcc\x01\x00\xa1r\x91\x95\xa1s\x01\x00\x00" + b"\x91" * 20_000,
])  # fmt: skip
def test_a_damaged_commit_is_told_as_damage(body):
    """A schema that never was, text that is none and bottomless nests left the codec as other errors."""
    with pytest.raises(DamagedError, match="position 7"):
        CommitCodec(QUIRE).decode_body(7, body)


@pytest.mark.parametrize("value", [b"\xc1", b"\x94\xa1\xff\xa0\x90\x00", b"\x94" + b"\x91" * 20_000])
def test_a_damaged_row_is_told_as_damage(tmp_path, value):
    """A row that LMDB gives back damaged left the store as an error of the decoder, without advice."""

    class Clock:
        def wall_ns(self):
            return 1

    store = LmdbStore(tmp_path, QUIRE, run_id="r", clock=Clock(), map_size=1 << 24)
    with store._environment.env.begin(write=True) as txn:
        txn.put(b"key", value, db=store._environment.db[RUNS.encode()])
    for look in (lambda: store.rows(RUNS, [b"key"]), lambda: store.scan(RUNS)):
        with pytest.raises(DamagedError, match="quire rebuild"):
            look()
    store.close()


def test_a_failure_can_be_told_apart():
    """Two failures of one kind are one line of the report; two kinds are two."""
    account = worker.Account()
    for what in ("raised A", "raised A", "raised B"):
        account.add(worker.Account(failures=[Failure("sniff", 1, what)]))
    assert [failure.what for failure in account.failures] == ["raised A", "raised B"]
