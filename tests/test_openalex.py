"""``run --openalex``: a query is a list, asked page by page, each page at most once more than needed."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from quire.actors.openalex import FIRST, Page, Progress, Query, page_of, query_of, said_by
from quire.actors.web.exchange import Answer
from quire.config.loader import load
from quire.errors import UsageError
from quire.events.facts import QueryPaged
from quire.testing.web import Paper, World, serve
from quire.testing.web.exchange import Call, Reply
from quire.testing.web.exchange import json as json_reply
from quire.testing.web.openalex import cursor_of
from quire.testing.web.server import Served

sys.path.insert(0, str(Path(__file__).parent))
from command import here, lines, rehearsal, started, wait_until

FILTER = "institutions.ror:https://ror.org/02nr0ka47,is_oa:true"
SMALL = {"QUIRE_SOURCES__OPENALEX__PER_PAGE": "10"}


def ran(url: str, library: Path, *words: object, env: dict[str, str] | None = None) -> CompletedProcess[str]:
    """A run within this process, which costs no start; settings as variables."""
    file = library.parent / "settings.yaml"
    settings: dict[str, Any] = {}
    for name, value in (env or {}).items():
        place = settings
        *path, last = name.removeprefix("QUIRE_").lower().split("__")
        for step in path:
            place = place.setdefault(step, {})
        place[last] = int(value) if value.isdigit() else value
    file.write_text(json.dumps(settings))
    return here("run", *rehearsal(url, library), "--config", file, *words)


def cursors(served: Served) -> Counter[str]:
    """How often each cursor was asked for."""
    urls = [e.url for e in served.ledger.entries() if e.host == "api.openalex.org"]
    return Counter(parse_qs(urlsplit(url).query)["cursor"][0] for url in urls)


def of_size(works: int) -> World:
    return World.of(*(Paper(doi=f"10.5555/q.{n}", title=f"Title {n}", size=2_000) for n in range(works)))


class Odd(World):
    """A world whose OpenAlex answers as a test says: ``odd`` gets the call and the proper answer."""

    odd: Callable[[Call, str, Reply], Reply]

    def answer(self, call: Call) -> Reply:
        proper = super().answer(call)
        if "api.openalex.org" not in call.url:
            return proper
        return self.odd(call, parse_qs(urlsplit(call.url).query)["cursor"][0], proper)


def odd(works: int, answer: Callable[[Call, str, Reply], Reply]) -> World:
    world = Odd.of(*(Paper(doi=f"10.5555/q.{n}", size=2_000) for n in range(works)))
    world.odd = answer  # type: ignore[attr-defined]
    return world


def paged(library: Path) -> list[dict[str, object]]:
    """What the log says of the pages."""
    said = lines(here("log", "--json", "--library", library).stdout)
    return [line for line in said if line["type"] == "query_paged"]


# -- whole runs


def test_hundreds_of_works_come_home_and_the_second_run_asks_nothing(tmp_path):
    """Each page is asked once, each work planned once; again: no request at all; export knows the list."""
    library = tmp_path / "lib"
    with serve(of_size(430)) as served:
        done = ran(served.url, library, "--openalex", FILTER)
        assert done.returncode == 0, done.stderr
        asked = cursors(served)
        assert set(asked.values()) == {1}
        assert len(asked) in (5, 6)
        before = len(served.ledger.entries())
        again = ran(served.url, library, "--openalex", FILTER)
        assert len(served.ledger.entries()) == before
    found, second = json.loads(done.stdout), json.loads(again.stdout)
    assert (found["works"], found["jobs"], found["finalized"] + found["deduped"]) == (430, 430, 430)
    assert (found["named_twice"], found["home_before"], second["home_before"]) == (0, 0, 430)
    assert (second["works"], second["requests"], second["list_id"]) == (430, 0, found["list_id"])
    assert "--refresh asks anew" in again.stderr
    exported = here("export", "--format", "jsonl", "--list", found["list_id"], "--library", library).stdout
    assert len(lines(exported)) == 430
    assert lines(exported)[0]["label"].startswith("W4")
    run = next(
        line for line in lines(here("log", "--json", "--library", library).stdout)
        if line["type"] == "run_started"
    )  # fmt: skip
    assert run["data"]["inputs"] == [f"openalex:filter={FILTER}"]


@pytest.mark.parametrize("kill_after", [3, 6])
def test_a_kill_while_it_is_listed_costs_at_most_one_page_more(tmp_path, kill_after):
    """kill -9 in the middle, the same command: every work has one job, and one page at most came twice."""
    gate, reached = threading.Event(), threading.Event()

    def answer(call: Call, cursor: str, proper: Reply) -> Reply:
        if cursor == cursor_of(kill_after * 10) and not gate.is_set():
            reached.set()
            return msgspec.structs.replace(proper, status=503)  # the process is killed while it waits
        return proper

    library = tmp_path / "lib"
    with serve(odd(100, answer)) as served:
        flags = rehearsal(served.url, library)
        slow = {**SMALL, "QUIRE_WEB__RETRY_BASE_MS": "60000"}
        with started("run", "--openalex", FILTER, *flags, env=slow) as process:
            wait_until(reached.is_set)
            process.kill()
            process.wait()
        first = cursors(served)
        gate.set()
        assert len(first) == kill_after + 1
        done = ran(served.url, library, "--openalex", FILTER, env=SMALL)
        total = cursors(served)
    assert done.returncode == 0, done.stderr
    assert f"going on behind page {kill_after}" in done.stderr
    assert sum(total.values()) - len(total) <= 1
    assert max(total.values()) <= 2
    planned = [
        line["stream"] for line in lines(here("log", "--json", "--library", library).stdout)
        if line["type"] == "job_planned"
    ]  # fmt: skip
    assert len(planned) == len(set(planned)) == 100
    found = json.loads(done.stdout)
    assert (found["works"], found["jobs"], found["finalized"] + found["deduped"]) == (100, 100, 100)


def test_a_cursor_is_recorded_behind_the_works_of_its_page(tmp_path):
    """In the log each page stands behind the jobs it planned, and says where the next one begins."""
    with serve(of_size(25)) as served:
        ran(served.url, tmp_path / "lib", "--openalex", "is_oa:true", env=SMALL)
    said = lines(here("log", "--json", "--library", tmp_path / "lib").stdout)
    kinds = [line["type"] for line in said if line["type"] in ("job_planned", "query_paged")]
    ends = [place for place, kind in enumerate(kinds) if kind == "query_paged"]
    assert [kinds[:end].count("job_planned") for end in ends][:3] == [10, 20, 25]
    pages = [line["data"] for line in paged(tmp_path / "lib")]
    assert pages[0]["asked"] == FIRST
    assert [page["asked"] for page in pages[1:]] == [page["cursor"] for page in pages[:-1]]
    assert pages[-1]["cursor"] == ""
    assert {page["count"] for page in pages} == {25}


def test_ctrl_c_while_it_is_listed_is_gone_on_from(tmp_path):
    """SIGINT while a page is awaited ends the run with 130 at once; the same command brings the rest."""
    gate, reached = threading.Event(), threading.Event()

    def answer(call: Call, cursor: str, proper: Reply) -> Reply:
        if cursor == cursor_of(20) and not gate.is_set():
            reached.set()
            return msgspec.structs.replace(proper, status=503)
        return proper

    with serve(odd(40, answer)) as served:
        flags = rehearsal(served.url, tmp_path / "lib")
        slow = {**SMALL, "QUIRE_WEB__RETRY_BASE_MS": "60000"}
        with started("run", "--openalex", "is_oa:true", *flags, env=slow) as process:
            wait_until(reached.is_set)
            process.send_signal(2)
            _, said = process.communicate(timeout=20)
        assert process.returncode == 130, said
        gate.set()
        done = ran(served.url, tmp_path / "lib", "--openalex", "is_oa:true", env=SMALL)
        assert set(cursors(served).values()) <= {1, 2}
    assert json.loads(done.stdout)["jobs"] == 40, done.stderr
    assert done.returncode == 0


def test_a_query_stands_beside_files_with_several_workers(tmp_path):
    """Files and query are one list; what both name is named twice; only the parent asks the query."""
    file = tmp_path / "a.txt"
    file.write_text("10.5555/q.1\n10.5555/q.1\n10.5555/other\n")
    world = World.of(*(Paper(doi=f"10.5555/q.{n}") for n in range(30)), Paper(doi="10.5555/other"))
    with serve(world) as served:
        words = (file, "--openalex", "is_oa:true", "--workers", "2")
        done = ran(served.url, tmp_path / "lib", *words, env=SMALL)
        assert set(cursors(served).values()) == {1}
        again = ran(served.url, tmp_path / "lib", *words, env=SMALL)
        assert set(cursors(served).values()) == {1}
    found, second = json.loads(done.stdout), json.loads(again.stdout)
    assert found["jobs"] == 31, done.stderr
    assert found["finalized"] + found["deduped"] == 31
    assert found["works"] == 34
    assert second["home_before"] == second["jobs"] == 31


def test_failures_of_a_query_can_be_fed_back_in(tmp_path):
    """They come as records; fed back in they are the same jobs. Again, the query tries what may be tried."""
    world = World.of(Paper(doi="10.5555/yes"), Paper(doi="10.5555/no", copies=()))
    with serve(world) as served:
        done = ran(served.url, tmp_path / "lib", "--openalex", "is_oa:true")
        found = json.loads(done.stdout)
        file = Path(found["failures_file"])
        back = ran(served.url, tmp_path / "lib", file)
        retried = ran(served.url, tmp_path / "lib", "--openalex", "is_oa:true", "--retry-failed")
    assert done.returncode == 1
    assert file.name.startswith("openalex-")
    assert [line["doi"] for line in lines(file.read_text())] == ["10.5555/no"]
    assert (json.loads(back.stdout)["planned_before"], json.loads(back.stdout)["jobs"]) == (1, 1)
    assert "1 tried again" in retried.stderr
    assert json.loads(retried.stdout)["works"] == 2


def test_refresh_asks_anew_and_finds_what_is_new(tmp_path):
    """A finished query is asked from the beginning with --refresh alone."""
    world = of_size(12)
    with serve(world) as served:
        ran(served.url, tmp_path / "lib", "--openalex", "is_oa:true", env=SMALL)
    with serve(of_size(14)) as served:
        same = ran(served.url, tmp_path / "lib", "--openalex", "is_oa:true", env=SMALL)
        assert not cursors(served)
        new = ran(served.url, tmp_path / "lib", "--openalex", "is_oa:true", "--refresh", env=SMALL)
        assert cursors(served)[FIRST] == 1
    assert json.loads(same.stdout)["jobs"] == 12
    found = json.loads(new.stdout)
    assert (found["works"], found["jobs"], found["home_before"]) == (14, 14, 12)


def test_a_sample_is_drawn_from_the_whole_query(tmp_path):
    """Five works by the seed, the same ones again without a question; the list is another one."""
    with serve(of_size(25)) as served:
        words = ("--openalex", "is_oa:true", "--sample", "5", "--seed", "3")
        first = ran(served.url, tmp_path / "lib", *words, env=SMALL)
        asked = len(served.ledger.entries())
        second = ran(served.url, tmp_path / "lib", *words, env=SMALL)
        assert len(served.ledger.entries()) == asked
    found, again = json.loads(first.stdout), json.loads(second.stdout)
    assert (found["jobs"], found["finalized"] + found["deduped"]) == (5, 5), first.stderr
    assert (again["jobs"], again["home_before"], again["list_id"]) == (5, 5, found["list_id"])
    assert found["list_id"] != query_of("is_oa:true").list_id()


def test_dry_run_asks_one_page_and_writes_nothing(tmp_path):
    """It says how many works and pages; no library is made. Of a finished query it asks nothing."""
    library = tmp_path / "lib"
    with serve(of_size(25)) as served:
        done = ran(served.url, library, "--openalex", "is_oa:true", "--dry-run", env=SMALL)
        assert cursors(served) == {FIRST: 1}
        assert not library.exists()
        ran(served.url, library, "--openalex", "is_oa:true", env=SMALL)
        before = len(served.ledger.entries())
        after = ran(served.url, library, "--openalex", "is_oa:true", "--dry-run", env=SMALL)
        assert len(served.ledger.entries()) == before
    found = json.loads(done.stdout)["query"]
    assert (found["count"], found["pages"], found["listed"]) == (25, 3, 0)
    assert json.loads(after.stdout)["query"] == {**found, "pages": 0, "listed": 25}


# -- what goes wrong


def test_a_bad_filter_is_told_in_the_services_words(tmp_path):
    """Exit code 2 with OpenAlex's message; an input that is no filter does not even ask."""
    with serve(of_size(3)) as served:
        done = ran(served.url, tmp_path / "lib", "--openalex", "bogus_field:1")
        assert len(cursors(served)) == 1
        none = ran(served.url, tmp_path / "lib", "--openalex", "cats and dogs")
        empty = ran(served.url, tmp_path / "lib", "--openalex", "title.search:zzz")
        offline = ran(
            served.url, tmp_path / "lib", "--openalex", "is_oa:true", "--offline",
            env={"QUIRE_FALLBACK__GATES__OFFLINE_BEHAVIOR": "block_all"},
        )  # fmt: skip
        assert len(cursors(served)) == 1
    assert done.returncode == 2
    assert "Invalid query parameters error: bogus_field is not a valid field" in done.stderr
    assert none.returncode == empty.returncode == offline.returncode == 2
    assert "a filter is name:value" in none.stderr
    assert "there is no work in it" in empty.stderr
    assert "leave --offline" in offline.stderr
    assert here("run").returncode == 2


def test_too_many_requests_are_waited_for(tmp_path):
    """A 429 with Retry-After is asked again after that time, not before, and the run goes on."""
    times: list[float] = []

    def answer(call: Call, cursor: str, proper: Reply) -> Reply:
        if cursor == cursor_of(10):
            times.append(__import__("time").monotonic())
            if len(times) == 1:
                busy = json_reply({"error": "Rate limit exceeded"}, status=429)
                return msgspec.structs.replace(busy, headers=(*busy.headers, ("Retry-After", "1")))
        return proper

    with serve(odd(15, answer)) as served:
        done = ran(served.url, tmp_path / "lib", "--openalex", "is_oa:true", env=SMALL)
    assert done.returncode == 0, done.stderr
    assert len(times) == 2
    assert times[1] - times[0] >= 1.0
    assert json.loads(done.stdout)["jobs"] == 15


def test_a_service_that_stays_busy_ends_the_run_and_loses_nothing(tmp_path):
    """429 without end: exit code 4 with what is listed; later the same command goes on from there."""
    busy = True

    def answer(call: Call, cursor: str, proper: Reply) -> Reply:
        said = {"error": "Rate limit exceeded", "message": "Insufficient budget at key=abc"}
        return json_reply(said, status=429) if busy and cursor == cursor_of(10) else proper

    env = {**SMALL, "QUIRE_SOURCES__OPENALEX__RETRIES_MAX": "1", "QUIRE_WEB__RETRY_BASE_MS": "10"}
    with serve(odd(15, answer)) as served:
        done = ran(served.url, tmp_path / "lib", "--openalex", "is_oa:true", env=env)
        assert done.returncode == 4
        assert "10 of 15 works are listed and planned" in done.stderr
        assert "Rate limit exceeded" in done.stderr
        busy = False
        again = ran(served.url, tmp_path / "lib", "--openalex", "is_oa:true", env=env)
        assert cursors(served)[FIRST] == 1
    assert json.loads(again.stdout)["jobs"] == 15, again.stderr


def test_a_cursor_that_expired_begins_the_listing_anew(tmp_path):
    """It is told, all works are listed again, and each has one job; a cursor refused again is the end."""
    expired = {"once"}

    def answer(call: Call, cursor: str, proper: Reply) -> Reply:
        refused = json_reply({"error": "Invalid query", "message": "Cursor has expired."}, status=400)
        if cursor == cursor_of(10) and expired:
            expired.discard("once")
            return refused
        return proper

    with serve(odd(25, answer)) as served:
        done = ran(served.url, tmp_path / "lib", "--openalex", "is_oa:true", env=SMALL)
        assert cursors(served)[FIRST] == 2
        expired.add("for good")
        never = ran(served.url, tmp_path / "lib", "--openalex", "has_doi:true", env=SMALL)
    assert done.returncode == 0, done.stderr
    assert "listed from the beginning" in done.stderr
    found = json.loads(done.stdout)
    assert (found["works"], found["jobs"]) == (25, 25)
    assert never.returncode == 4
    assert "refused its own cursor twice" in never.stderr


def test_answers_that_cannot_be_read_are_asked_for_again_and_then_told(tmp_path):
    """No JSON once: asked again. Every time: exit code 4, in words, after a bounded number of questions."""
    broken = 1

    def answer(call: Call, cursor: str, proper: Reply) -> Reply:
        nonlocal broken
        broken -= 1
        return Reply(body=b'{"meta": {"count": 5') if broken >= 0 else proper

    with serve(odd(5, answer)) as served:
        assert ran(served.url, tmp_path / "lib", "--openalex", "is_oa:true").returncode == 0
        before, broken = len(served.ledger.entries()), 10**6
        done = ran(served.url, tmp_path / "lib", "--openalex", "has_doi:true")
        assert len(served.ledger.entries()) - before == 3
    assert done.returncode == 4
    assert "cannot be read, 3 times: it is no JSON" in done.stderr


def test_records_that_name_no_work_are_told_and_the_others_come(tmp_path):
    """Nothing, a number, a record without names: each is a bad line with its page and place."""

    def answer(call: Call, cursor: str, proper: Reply) -> Reply:
        page = json.loads(proper.content())
        if cursor == FIRST:
            page["results"] += [None, 7, {"id": "https://openalex.org/W1", "title": None}]
        return json_reply(page)

    with serve(odd(5, answer)) as served:
        done = ran(served.url, tmp_path / "lib", "--openalex", "is_oa:true")
    found = json.loads(done.stdout)
    assert (done.returncode, found["finalized"] + found["deduped"]) == (1, 5)
    assert "OpenAlex page 1:6: not a record" in done.stderr
    assert "OpenAlex page 1:8: no identifier and no title" in done.stderr


def test_a_listing_in_a_circle_ends_in_words(tmp_path):
    """A cursor that was given before, and pages without end: the run ends, with all works that came."""

    def circle(call: Call, cursor: str, proper: Reply) -> Reply:
        page = json.loads(proper.content())
        if cursor == cursor_of(20):
            page["meta"]["next_cursor"] = cursor_of(10)
        return json_reply(page)

    def endless(call: Call, cursor: str, proper: Reply) -> Reply:
        page = json.loads(World.answer(odd_world, msgspec.structs.replace(call, url=FIRST_PAGE)).content())
        page["meta"]["next_cursor"] = cursor_of(10_000 + len(served.ledger.entries()))
        return json_reply(page)

    with serve(odd(40, circle)) as served:
        done = ran(served.url, tmp_path / "lib", "--openalex", "is_oa:true", env=SMALL)
        assert set(cursors(served).values()) == {1}
    assert "gave a page twice, so the listing ends here: 30 of 40 works" in done.stderr
    assert json.loads(done.stdout)["jobs"] == 30
    odd_world = odd(40, endless)
    with serve(odd_world) as served:
        done = ran(served.url, tmp_path / "other", "--openalex", "is_oa:true", env=SMALL)
        assert len(cursors(served)) < 30
    found = json.loads(done.stdout)
    assert (found["jobs"], found["named_twice"]) == (10, found["works"] - 10), done.stderr
    assert "so the listing ends here" in done.stderr


FIRST_PAGE = "https://api.openalex.org/works?filter=is_oa:true&per-page=10&cursor=*"


def test_a_count_that_changes_is_told(tmp_path):
    """What was counted at the beginning and at the end, and what was listed."""

    def answer(call: Call, cursor: str, proper: Reply) -> Reply:
        page = json.loads(proper.content())
        page["meta"]["count"] = 30 if cursor == FIRST else 28
        return json_reply(page)

    with serve(odd(25, answer)) as served:
        done = ran(served.url, tmp_path / "lib", "--openalex", "is_oa:true", env=SMALL)
    assert done.returncode == 0
    assert "all 25 works listed in 4 pages; it counts 28 (30 at the beginning)" in done.stderr


def test_the_key_is_sent_and_never_written(tmp_path):
    """api_key and address go with each question; neither stands in the log, the output or an error."""
    env = {**SMALL, "QUIRE_SOURCES__OPENALEX__API_KEY": "s3cr3t-k3y"}
    with serve(of_size(12)) as served:
        good = ran(served.url, tmp_path / "lib", "--openalex", "is_oa:true", env=env)
        bad = ran(served.url, tmp_path / "lib", "--openalex", "bogus:1", env=env)
        urls = [entry.url for entry in served.ledger.entries() if entry.host == "api.openalex.org"]
    assert len(urls) >= 3
    assert all("api_key=s3cr3t-k3y" in url and "mailto=reader%40quire.example" in url for url in urls)
    down = ran(served.url, tmp_path / "lib", "--openalex", "has_doi:true", env=env)
    assert down.returncode == 4
    said = good.stdout + good.stderr + bad.stdout + bad.stderr + down.stdout + down.stderr
    assert "s3cr3t" not in said
    for folder, _, names in os.walk(tmp_path / "lib"):
        assert not any(b"s3cr3t" in (Path(folder) / name).read_bytes() for name in names)


@pytest.mark.parametrize("status", [400, 403, 429, 500])
def test_an_error_line_shows_neither_key_nor_address(tmp_path, status):
    """The service repeats what it was sent, in every spelling: the line has its words, and no secret."""
    mail = "reader+list@quire.example"

    def answer(call: Call, cursor: str, proper: Reply) -> Reply:
        message = (
            f"Your key s3cr3t-k3y is no good; you asked {call.url} (/works?api_key=s3cr3t-k3y) as {mail}, "
            f"mailto=reader%2Blist%40quire.example. Look at https://openalex.org/pricing"
        )
        return json_reply({"error": "Invalid key s3cr3t-k3y", "message": message}, status=status)

    env = {
        "QUIRE_SOURCES__OPENALEX__API_KEY": "s3cr3t-k3y",
        "QUIRE_SOURCES__OPENALEX__RETRIES_MAX": "0",
    }
    with serve(odd(3, answer)) as served:
        done = ran(served.url, tmp_path / "lib", "--email", mail, "--openalex", "is_oa:true", env=env)
        (asked,) = [entry.url for entry in served.ledger.entries() if entry.host == "api.openalex.org"]
    assert "api_key=s3cr3t-k3y" in asked
    assert "mailto=reader%2Blist%40quire.example" in asked
    assert done.returncode == (4 if status in (429, 500) else 2)
    assert "Look at https://openalex.org/pricing" in done.stderr
    assert done.stderr.count("REDACTED") >= 5
    said = (done.stdout + done.stderr).lower()
    assert "s3cr3t" not in said
    assert "quire.example" not in said


@pytest.mark.parametrize(
    "text",
    [
        "https://api.openalex.org/authors?filter=x:1&api_key=s3cr3t",
        "https://openalex.org/works?api_key=s3cr3t",
        "api.openalex.org/works?filter=is_oa:true&api_key=s3cr3t",
        "/works?filter=is_oa:true&api_key=s3cr3t",
        "https://[openalex.org/works?filter=is_oa:true&api_key=s3cr3t",
        "https://openalex.org/works?search=a&search=b&mailto=me@home.example&api_key=s3cr3t",
    ],
)
def test_a_refused_address_is_shown_without_its_key(tmp_path, text):
    """What is pasted wrongly is told with exit code 2, and the key in it is not repeated."""
    done = ran("http://127.0.0.1:9", tmp_path / "lib", "--openalex", text)
    assert done.returncode == 2
    assert "--openalex" in done.stderr
    assert "REDACTED" in done.stderr
    assert "s3cr3t" not in done.stderr
    assert "me@home" not in done.stderr


def test_no_page_of_a_listing_comes_from_the_cache(tmp_path):
    """Pages that say how long they hold are asked for anew by --refresh, and no file of them is kept."""
    held = {"Cache-Control": "public, max-age=86400", "ETag": '"v1"'}

    def answer(call: Call, cursor: str, proper: Reply) -> Reply:
        return msgspec.structs.replace(proper, headers=(*proper.headers, *held.items()))

    library = tmp_path / "lib"
    with serve(odd(25, answer)) as served:
        words = ("--openalex", "is_oa:true", "--refresh")
        first = ran(served.url, library, *words, env=SMALL)
        assert set(cursors(served).values()) == {1}
        kept = sorted((library / "cache").glob("*")) if (library / "cache").exists() else []
        second = ran(served.url, library, *words, env=SMALL)
        assert set(cursors(served).values()) == {2}
        assert len(cursors(served)) >= 3
    assert json.loads(first.stdout)["works"] == json.loads(second.stdout)["works"] == 25
    assert not any(b"next_cursor" in path.read_bytes() for path in kept)


@pytest.mark.parametrize(
    "text",
    [
        "https://openalex.org/works?filter=is_oa:true&page=2&filter=type:article|preprint,publication_year:2020",
        "filter=is_oa:true&filter=type:article%7Cpreprint&filter=publication_year:2020",
        "filter=is_oa:true,type:article|preprint,&filter=%20&filter=publication_year:2020",
        "is_oa:true,type:article|preprint,publication_year:2020",
    ],
)
def test_repeated_filters_are_asked_as_one(tmp_path, text):
    """filter= several times, or joined by commas: the service gets one filter with all of it, in order."""
    whole = "is_oa:true,type:article|preprint,publication_year:2020"
    with serve(of_size(3)) as served:
        done = ran(served.url, tmp_path / "lib", "--openalex", text)
        (asked,) = {
            tuple(parse_qs(urlsplit(entry.url).query)["filter"])
            for entry in served.ledger.entries()
            if entry.host == "api.openalex.org"
        }
    assert done.returncode == 0, done.stderr
    assert asked == (whole,)
    assert json.loads(done.stdout)["list_id"] == Query(whole).list_id()


# -- pure parts


def test_a_query_is_written_as_filter_or_address():
    """The address of the site or of the service gives the same list as its filter; others are told."""
    ways = (
        "is_oa:true,type:article",
        " is_oa:true,type:article ",
        "filter=is_oa:true,type:article",
        "https://openalex.org/works?page=2&filter=is_oa%3Atrue%2Ctype%3Aarticle&view=list",
        "https://api.openalex.org/works?filter=is_oa:true,type:article&api_key=secret",
    )
    assert {query_of(way) for way in ways} == {Query("is_oa:true,type:article")}
    assert query_of("search=cats%20and%20dogs&filter=is_oa:true") == Query("is_oa:true", "cats and dogs")
    assert query_of("is_oa:true").list_id() != query_of("is_oa:false").list_id()
    assert query_of("is_oa:true").list_id("ab") != query_of("is_oa:true").list_id()
    for wrong in (
        "",
        "cats",
        "https://openalex.org/authors?filter=x:1",
        "https://openalex.org/works",
        "a:\n1",
    ):
        with pytest.raises(UsageError):
            query_of(wrong)


def test_a_question_is_escaped_once():
    """Ampersands and plus signs of a filter stay in it; cursors with = and / reach the service whole."""
    options = load([], environ={}).settings.sources.openalex
    query = Query("title.search:a&b+c#d", "")
    url = query.url(options, cursor="IlsxNj+/A==", email="a@b.org")
    asked = parse_qs(urlsplit(url).query)
    assert asked["filter"] == ["title.search:a&b+c#d"]
    assert (asked["cursor"], asked["mailto"]) == (["IlsxNj+/A=="], ["a@b.org"])
    assert "api_key" not in asked


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (b"", "empty"),
        (b"<html><body>busy</body></html>", "web page"),
        (b'{"meta":', "no JSON"),
        (b"[1]", "no JSON"),
        (b'{"results": []}', "no meta"),
        (b'{"meta": {}, "results": {}}', "no meta"),
        (b'{"meta": {"next_cursor": 7}, "results": []}', "next_cursor"),
    ],
)
def test_an_answer_that_is_no_page_is_told(body, wrong):
    """Whatever comes is a page or words."""
    said = page_of(Answer(url="x", status=200, headers={}, body=body))
    assert isinstance(said, str)
    assert wrong in said
    assert said_by(Answer(url="x", status=400, headers={}, body=body))


def test_a_page_without_works_is_the_last():
    """The service gives a cursor with its last, empty page as well."""
    body = b'{"meta": {"count": -3, "next_cursor": "x"}, "results": []}'
    assert page_of(Answer(url="x", status=200, headers={}, body=body)) == Page([], "", 0)


def test_progress_is_folded_from_the_log_alone():
    """The first page of a listing begins anew, also behind a finished one."""
    one = QueryPaged("OpenAlex", "q", "ab", FIRST, "b", 10, 25)
    two = QueryPaged("OpenAlex", "q", "ab", "b", "", 5, 26)
    done = Progress().after(one, 1).after(two, 2)
    assert (done.finished, done.pages, done.works, done.count, done.time_ns) == (True, 2, 15, 26, 2)
    anew = done.after(one, 3)
    assert (anew.cursor, anew.pages, anew.works, anew.asked) == ("b", 1, 10, frozenset({FIRST}))
