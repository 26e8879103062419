"""User-made sources: what a user writes is checked, asked, read, tiered and counted like the seven."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.actors.sources import selectors
from quire.actors.sources.catalog import finders
from quire.actors.sources.custom import address_of
from quire.actors.sources.finding import REASONS, Found, Lookup
from quire.actors.web.exchange import Answer, WebError
from quire.config.json_path import VALUES_MAX, steps_of, values_at
from quire.config.loader import Loaded, load
from quire.config.resolvers import RESOLVERS_MAX, source_name
from quire.config.settings import Mappings, Resolver
from quire.errors import UsageError
from quire.events.fallback_plan import Plan
from quire.events.work import Work
from quire.testing.web import Paper, World, make_pdf, serve, url_key
from quire.testing.web.exchange import Reply, html

sys.path.insert(0, str(Path(__file__).parent))
from command import here, lines, rehearsed
from loopback import Loopback, client, loopback, reply, run

PADDING = "It is a page like others, and long enough not to be taken for the remains of one. " * 8
HTML: dict[str, str] = {"Content_Type": "text/html"}
JSON: dict[str, str] = {"Content_Type": "application/json"}
DOI = "10.1234/one(1)"
FOO = '{name: foo, url: "https://foo.org/{doi}", mode: html, selector: a}'
ZOTERO = """[
\t{
\t\t"name": "My Paper Source",
\t\t"method": "GET",
\t\t"url": "https:\\/\\/papers.example\\/{doi}",
\t\t"mode": "html",
\t\t"selector": "#pdf-link",
\t\t"attribute": "href",
\t\t"automatic": false
\t},
\t{"name": "Index", "method": "GET", "url": "https://index.example/v2/{doi}?email=me@example.com",
\t "mode": "json", "selector": ".oa_locations",
\t "mappings": {"url": "url_for_pdf", "pageURL": "url_for_landing_page"}, "automatic": true}
]
"""
"""As a reference manager's preference holds it, tabs and all."""


def loaded(tmp_path: Path, text: str, **files: str) -> Loaded:
    file = tmp_path / "q.yaml"
    file.write_text(text)
    for name, content in files.items():
        (tmp_path / name.replace("_", ".")).write_text(content)
    return load(config=file, environ={})


def refused(tmp_path: Path, text: str, **files: str) -> str:
    with pytest.raises(UsageError) as caught:
        loaded(tmp_path, text, **files)
    return str(caught.value).replace(f"{tmp_path}/", "")


def tiers(told: Loaded) -> dict[str, tuple[str, ...]]:
    return {tier.name: tier.sources for tier in told.settings.fallback.tiers}


# -- settings


def test_a_resolver_that_no_tier_names_stands_before_the_archive(tmp_path: Path) -> None:
    """It has a tier, a policy and a time without another word, and the seven stay where they were."""
    told = loaded(tmp_path, f"resolvers: [{FOO}]\n")
    plan = told.settings.fallback
    names = [tier.name for tier in plan.tiers]
    assert names == ["direct_oa", "doi_follow", "landing_scrape", "custom", "archive"]
    assert (plan.tiers[3].parallel, plan.tiers[3].sources) == (2, ("custom:foo",))
    policy = plan.policies["custom:foo"]
    assert (policy.timeout_ms, policy.retries_max, policy.robots_respect) == (None, 2, True)
    assert Plan.of(plan).timeouts_ms["custom:foo"] == plan.budgets.per_source_timeout_ms
    assert str(told.origins["fallback.tiers.custom.sources"]) == f"{tmp_path / 'q.yaml'}:1"
    assert "custom" not in tiers(load(environ={}))


def test_a_resolver_stands_where_a_tier_names_it(tmp_path: Path) -> None:
    """A tier may name it, a policy may change one word of it, and the tier of the others too."""
    told = loaded(
        tmp_path,
        f"resolvers:\n  - {FOO}\n  - {FOO.replace('foo', 'bar')}\n"
        "fallback:\n  tiers:\n"
        "    direct_oa: {sources: [custom:foo, unpaywall_pdf]}\n    custom: {parallel: 1}\n"
        "  policies:\n    custom:foo: {timeout_ms: 700}\n",
    )
    assert tiers(told)["direct_oa"] == ("custom:foo", "unpaywall_pdf")
    assert tiers(told)["custom"] == ("custom:bar",)
    assert told.settings.fallback.tiers[3].parallel == 1
    assert told.settings.fallback.policies["custom:foo"].timeout_ms == 700
    assert told.settings.fallback.policies["custom:foo"].retries_max == 2


def test_tiers_of_ones_own_take_resolvers_in(tmp_path: Path) -> None:
    """Where the user lists all tiers, what none of them names still has its turn, and nothing twice."""
    own = "fallback:\n  tiers:\n    - {name: one, parallel: 1, sources: [arxiv_pdf%s]}\n"
    assert tiers(loaded(tmp_path, f"resolvers: [{FOO}]\n" + own % "")) == {
        "one": ("arxiv_pdf",),
        "custom": ("custom:foo",),
    }
    named = loaded(tmp_path, f"resolvers: [{FOO}]\n" + own % ", custom:foo")
    assert tiers(named) == {"one": ("arxiv_pdf", "custom:foo")}


def test_an_array_of_zoteros_is_pasted_as_it_is(tmp_path: Path) -> None:
    """In a file beside the settings, or in the settings; what is not automatic is loaded and disabled."""
    for told in (
        loaded(tmp_path, "resolvers: my.json\n", my_json=ZOTERO),
        loaded(tmp_path, "resolvers: " + ZOTERO.replace("\t", "  ")),
    ):
        mine, index = told.settings.resolvers
        assert (mine.url, mine.attribute) == ("https://papers.example/{doi}", "href")
        assert index.mappings == Mappings(url="url_for_pdf", pageURL="url_for_landing_page")
        assert told.settings.fallback.disabled == ("custom:my-paper-source",)
        assert str(told.origins["fallback.disabled"]).startswith("automatic: false (")
        assert tiers(told)["custom"] == ("custom:my-paper-source", "custom:index")
        assert Plan.of(told.settings.fallback).tiers[3][2] == ("custom:index",)


def test_one_alone_and_a_variable_are_taken(tmp_path: Path) -> None:
    """A single object needs no list, and QUIRE_RESOLVERS holds a list or a file's name."""
    assert len(loaded(tmp_path, f"resolvers: {FOO}\n").settings.resolvers) == 1
    (tmp_path / "mine.yaml").write_text(f"- {FOO}\n")
    file = tmp_path / "mine.yaml"
    for said, origin in ((f"[{FOO}]", "QUIRE_RESOLVERS"), (str(file), f"{file}:1")):
        told = load(environ={"QUIRE_RESOLVERS": said})
        assert tiers(told)["custom"] == ("custom:foo",)
        assert str(told.origins["fallback.tiers.custom.sources"]) == origin


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("My Paper  Source!", "custom:my-paper-source"),
        ("sci.example_2", "custom:sci-example-2"),
        ("Übersicht", "custom:übersicht"),
        ("论文 A", "custom:论文-a"),
        ("x" * 99, "custom:" + "x" * 40),
    ],
)
def test_a_name_becomes_a_source(name: str, source: str) -> None:
    """A source's name is easy to type, and safe in a list, a command and the log."""
    assert source_name(name) == source


def wrong(**changes: object) -> str:
    fields = {"name": "foo", "url": "https://foo.org/{doi}", "mode": "html", "selector": "a"} | changes
    return "resolvers:\n- " + "\n  ".join(f"{key}: {json.dumps(value)}" for key, value in fields.items())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (wrong(selektor="a"), "q.yaml:6: resolvers.0.selektor: no such setting; did you mean selector?"),
        (wrong(mappings={"page": "a"}, mode="json"), "q.yaml:6: resolvers.0.mappings.page: no such setting"),
        (wrong(mode="htm"), 'q.yaml:4: resolvers.0.mode: "htm": did you mean html?'),
        (wrong(mode=7), "q.yaml:4: resolvers.0.mode: 7: one of: html, json"),
        (wrong(method="POST"), "q.yaml:6: resolvers.foo.method: 'POST' is not possible: quire asks by GET"),
        (wrong(url="https://foo.org/"), "q.yaml:3: resolvers.foo.url: 'https://foo.org/' asks the same"),
        (
            wrong(url="https://foo.org/#{doi}"),
            "the same for every work: its path or query must name one of {doi}",
        ),
        (
            wrong(url="ftp://foo.org/{doi}"),
            "q.yaml:3: resolvers.foo.url: 'ftp://foo.org/{doi}' must be an http",
        ),
        (
            wrong(url="https://foo.org/{issn}/{doi}"),
            "{issn} is not known; one of {doi}, {pmid}, {pmcid}, {arxiv}",
        ),
        (
            wrong(url="https://{doi}.foo.org/"),
            "a placeholder may stand in the path or the query, not in the host",
        ),
        (wrong(url="https://me:key@foo.org/{doi}"), "holds a user name or password"),
        (wrong(url="https://foo.org:port/{doi}"), "must be an http:// or https:// address"),
        (wrong(selector="a[["), "q.yaml:5: resolvers.foo.selector: 'a[[' is no CSS selector"),
        (wrong(selector="a:nosuch(2)"), "is no CSS selector"),
        (wrong(selector="a::attr(href)"), "names a pseudo-element; give the attribute as `attribute`"),
        (wrong(selector=""), "is no CSS selector"),
        (wrong(selector=".a{.b}", mode="json"), "'.a{.b}' cannot be read from '{.b}' on; a path is names"),
        (wrong(attribute="href", mode="json"), "q.yaml:6: resolvers.foo.attribute: is for mode html"),
        (wrong(index=2, mode="json"), "q.yaml:6: resolvers.foo.index: is for mode html; for json write [2]"),
        (wrong(mappings={"url": "u"}), "q.yaml:6: resolvers.foo.mappings: is for mode json"),
        (wrong(mappings={"url": "..u"}, mode="json"), "resolvers.foo.mappings: '..u' cannot be read"),
        (wrong(name="--"), "q.yaml:2: resolvers.--.name: '--' has no letter or digit"),
        (wrong(name="arXiv_PDF"), "'arXiv_PDF' is the name of a built-in source; give it another"),
        (
            f"resolvers: [{FOO},\n {FOO.replace('foo,', 'FOO,')}]",
            "q.yaml:2: resolvers.FOO.name: 'FOO' and 'foo'",
        ),
        (f"resolvers: [{FOO},\n {FOO}]", "q.yaml:2: resolvers.foo.name: 'foo' and 'foo' are both custom:foo"),
        ("resolvers: [{name: foo}]", "q.yaml:1: resolvers.0: url, mode, selector must be given as well"),
        ("resolvers: [7]", "q.yaml:1: resolvers.0: expected settings by name: name, method, url"),
        ("resolvers: 7", "q.yaml:1: resolvers: expected a list"),
        ("\nresolvers: none.json", "q.yaml:2: resolvers: none.json is no file; give a list"),
        ("fallback: {disabled: [custom:foo]}", 'disabled: ["custom:foo"]: one of: unpaywall_pdf'),
        (
            f"resolvers: {FOO}\nfallback: {{disabled: [custom:fo]}}",
            'q.yaml:2: fallback.disabled: ["custom:fo"]',
        ),
        (
            f"resolvers: {FOO}\nfallback:\n  policies:\n    custom:fo: {{}}",
            "q.yaml:4: fallback.policies.custom:fo: no",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    """File, line, key, what is wrong and what would be right."""
    assert said in refused(tmp_path, text)


def test_what_is_wrong_in_a_file_of_resolvers_names_that_file(tmp_path: Path) -> None:
    """The line is that of the JSON, and all that is wrong with it is told at once."""
    told = refused(tmp_path, "resolvers: my.json\n", my_json=ZOTERO.replace("GET", "POST"))
    assert [line.split(": ")[0] for line in told.splitlines()] == ["my.json:4", "my.json:11"]
    both = refused(tmp_path, "lease: {ttl: 3}\n" + wrong(selektor="a"))
    assert len(both.splitlines()) == 2
    many = "".join(f"- {FOO.replace('foo', f'foo{at}')}\n" for at in range(RESOLVERS_MAX + 1))
    assert f"resolvers: {RESOLVERS_MAX + 1} are too many" in refused(tmp_path, f"resolvers:\n{many}")
    assert "my.json:2: not YAML" in refused(tmp_path, "resolvers: my.json\n", my_json='{"name": "a"')


def test_nobody_pays_for_resolvers_that_he_has_not() -> None:
    """Settings without resolvers load neither the CSS library nor a parser of pages."""
    code = (
        "import sys; from quire.config.loader import load; load(environ={%s});"
        "print(sorted({'lxml', 'cssselect'} & set(sys.modules)))"
    )
    import subprocess

    def modules(env: str) -> str:
        words = [sys.executable, "-c", code % env]
        return subprocess.run(words, capture_output=True, text=True, timeout=30, check=True).stdout.strip()

    assert modules("") == "[]"
    assert modules(f"'QUIRE_RESOLVERS': {FOO!r}") == "['cssselect']"


# -- paths


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a.b", [1, 2, 3]),
        ("a.b", [1, 2, 3]),
        (".a[0].b", [1]),
        (".a[-1].b[0]", [2]),
        (".a[9].b", []),
        (".a[-9]", []),
        ('."a b"["c.d"]', ["x"]),
        ("['a b']", [{"c.d": "x"}]),
        (".*.b", [1, 2, 3]),
        (".a[*]", [1, 2, 3]),
        (".none.b", []),
        (".a.b.c", []),
        (".", [{"a": [{"b": 1}, {"b": [2, 3]}], "a b": {"c.d": "x"}}]),
    ],
)
def test_a_path_leads_through_objects_and_lists(path: str, found: list[Any]) -> None:
    """Names, places, everything; lists are gone through; what is not there is nothing."""
    assert values_at({"a": [{"b": 1}, {"b": [2, 3]}], "a b": {"c.d": "x"}}, path) == found


def test_the_answer_itself_may_be_a_list() -> None:
    """``.`` and a place at the start lead into a list at the top."""
    assert values_at([{"u": 1}, {"u": 2}], ".u") == [1, 2]
    assert values_at([{"u": 1}, {"u": 2}], ".[1].u") == values_at([{"u": 1}, {"u": 2}], "[1].u") == [2]
    assert len(values_at(list(range(9 * VALUES_MAX)), ".")) == VALUES_MAX


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("https://x.org/a.pdf"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abu"), inner, max_size=3),
    max_leaves=12,
)


@given(value=JSONS, path=st.text(alphabet='.ab*[]01-"', max_size=12))
def test_a_path_is_read_or_refused_and_never_fails(value: Any, path: str) -> None:
    """Whatever is written and whatever comes: a ValueError before the first answer, or a list."""
    try:
        steps_of(path)
    except ValueError:
        return
    assert isinstance(values_at(value, path), list)


# -- addresses


def resolver(url: str = "https://foo.org/{doi}", **more: Any) -> Resolver:
    fields = {"name": "Foo", "url": url, "mode": "html", "selector": "a"}
    return msgspec.convert(fields | more, Resolver)


WORK = Work(doi="10.1/a(b)<c>?d&e", pmid="7", pmcid="PMC8", arxiv_id="hep-th/9901001")


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("https://foo.org/{doi}", "https://foo.org/10.1/a(b)%3Cc%3E%3Fd%26e"),
        ("https://foo.org/?q={doi}&x=1", "https://foo.org/?q=10.1%2Fa%28b%29%3Cc%3E%3Fd%26e&x=1"),
        ("https://foo.org/{pmid}/{pmcid}?id={arxiv}", "https://foo.org/7/PMC8?id=hep-th%2F9901001"),
        ("https://foo.org/a b/{pmid}", "https://foo.org/a%20b/7"),
    ],
)
def test_identifiers_are_escaped_where_they_stand(template: str, url: str) -> None:
    """In a path a DOI keeps its slashes; in a query it is one value, whatever it holds."""
    assert address_of(template, WORK) == url


def catalog_of(one: Resolver, **landing: int) -> Any:
    told = load(environ={}).settings
    return finders(told.sources, told.fallback.thresholds, resolvers=[one])[source_name(one.name)]


def lookup(work: Work | None = None, **more: Any) -> Lookup:
    fields = {"work": work or Work(doi=DOI), "email": "", "timeout_s": 5.0, "retries_max": 0, "robots": False}
    return Lookup(**fields | more)


def test_it_lacks_what_its_address_names() -> None:
    """A work without the identifier is passed over, with the reason that says which."""
    one = catalog_of(resolver("https://foo.org/{pmid}?a={arxiv}&p={pmcid}"))
    ids = {"pmid": "7", "arxiv_id": "2101.00001", "pmcid": "PMC1"}
    lacks = {
        key: one.lacks(lookup(Work(doi=DOI, **{k: v for k, v in ids.items() if k != key}))) for key in ids
    }
    assert lacks == {"pmid": "no_pmid", "arxiv_id": "no_arxiv_id", "pmcid": "no_pmcid"}
    assert one.lacks(lookup(Work(doi=DOI, **ids))) is None
    assert catalog_of(resolver()).lacks(lookup(Work(title="T"))) == "no_doi"
    assert set(lacks.values()) <= REASONS.keys()


# -- pages and answers over the wire


def found(
    one: Resolver, serve_: Any, *, robots: bool = False, **more: Any
) -> tuple[Found | WebError, Loopback]:
    """What a resolver finds whose URL's host is a loopback server that ``serve_`` prepares."""
    kept: list[Any] = []

    async def go() -> None:
        async with loopback() as web:
            serve_(web)
            asked = msgspec.structs.replace(one, url=one.url.replace("https://foo.org", web.url))
            net = client(**more)
            try:
                kept.append(await catalog_of(asked).find(net, lookup(robots=robots)))
            except WebError as error:
                kept.append(error)
            finally:
                await net.close()
            kept.append(web)

    run(go)
    return kept[0], kept[1]


def page(body: str, one: Resolver, **headers: str) -> tuple[list[str], str]:
    """Paths of the candidates that a page gives, and the reason."""
    got, web = found(one, lambda web: web.on(f"/{DOI}", reply(200, body.encode(), **(HTML | headers))))
    assert isinstance(got, Found), got
    assert [asked.target for asked in web.asked] == [f"/{DOI}"]
    return [c.url.replace(web.url, "") for c in got.candidates], got.reason


LINKS = '<a href="/x/1.pdf">one</a><a id=two data-u="2.pdf#page=3" href="//cdn.example/2.pdf">two</a>'


@pytest.mark.parametrize(
    ("body", "more", "found_"),
    [
        (LINKS, {}, ["/x/1.pdf"]),
        (LINKS, {"index": 1}, ["http://cdn.example/2.pdf"]),
        (LINKS, {"index": -1}, ["http://cdn.example/2.pdf"]),
        (LINKS, {"index": 2}, []),
        (LINKS, {"index": -3}, []),
        (LINKS, {"selector": "#two", "attribute": "DATA-u"}, ["/10.1234/2.pdf"]),
        (LINKS, {"selector": "#two", "attribute": "none"}, []),
        (LINKS, {"selector": "a:not([id]), embed"}, ["/x/1.pdf"]),
        (LINKS, {"selector": "#none"}, []),
        ('<base href="/b/"><embed id=pdf src="c.pdf">', {"selector": "#pdf"}, ["/b/c.pdf"]),
        ('<base href="https://m.example/b/"><a href="c.pdf">', {}, ["https://m.example/b/c.pdf"]),
        ('<object data="c.pdf" type="application/pdf">', {"selector": "object"}, ["/10.1234/c.pdf"]),
        ('<meta name=u content="c.pdf"><p>x', {"selector": "meta[name=u]"}, ["/10.1234/c.pdf"]),
        ("<p class=u> https://m.example/<b>d</b>.pdf </p>", {"selector": ".u"}, ["https://m.example/d.pdf"]),
        ('<a href="javascript:go()">', {}, []),
        ('<a href="mailto:a@b.org">', {}, []),
    ],
)
def test_an_element_of_a_page_gives_its_address(body: str, more: dict[str, Any], found_: list[str]) -> None:
    """Selector, index and attribute choose; relative addresses stand on the page's base, or its URL."""
    assert page(f"<html><body>{body}<p>{PADDING}</body></html>", resolver(**more)) == (
        found_,
        "" if found_ else "no_pdf_link",
    )


def test_the_page_of_a_candidate_dresses_it() -> None:
    """A link is followed as a browser would: with the page as referer and with its cookies."""
    got, web = found(
        resolver(),
        lambda web: web.on(f"/{DOI}", reply(200, b"<a href=/1.pdf>", Set_Cookie="s=1; Path=/", **HTML)),
    )
    assert isinstance(got, Found)
    (candidate,) = got.candidates
    assert (candidate.referer, candidate.rule) == (f"{web.url}/{DOI}", "custom_html")
    assert candidate.cookies[0][1:] == ("s", "1")
    assert (got.status, got.host) == (200, "127.0.0.1")


@pytest.mark.parametrize("mode", ["html", "json"])
def test_an_answer_that_is_the_pdf_is_the_candidate(mode: str) -> None:
    """In either mode, behind a redirect, whatever the selector says."""

    def prepare(web: Loopback) -> None:
        web.on(f"/{DOI}", reply(302, Location="/deep/a.pdf"))
        web.on("/deep/a.pdf", reply(200, make_pdf("a", size=3000), Content_Type="application/octet-stream"))

    got, web = found(resolver(mode=mode, selector=".a"), prepare)
    assert isinstance(got, Found)
    assert [(c.url, c.rule) for c in got.candidates] == [(f"{web.url}/deep/a.pdf", "custom_is_pdf")]


RECORD = {
    "best": {"pdf": "/best.pdf"},
    "locations": [
        {"pdf": "a.pdf", "page": "https://m.example/a"},
        {"pdf": None, "page": "/b"},
        {"pdf": "https://m.example/c.pdf"},
        {"pdf": 7, "page": ["/d"]},
    ],
}


def record(value: Any, one: Resolver) -> tuple[list[str], tuple[str, ...], str]:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    got, web = found(one, lambda web: web.on(f"/{DOI}", reply(200, body, **JSON)))
    assert isinstance(got, Found), got
    bare = [c.url.replace(web.url, "") for c in got.candidates]
    return bare, tuple(url.replace(web.url, "") for url in got.seen), got.reason


PAIR = {"url": "pdf", "pageURL": ".page"}


@pytest.mark.parametrize(
    ("value", "more", "found_"),
    [
        (RECORD, {"selector": ".best.pdf"}, (["/best.pdf"], (), "")),
        (RECORD, {"selector": ".locations.pdf"}, (["/10.1234/a.pdf", "https://m.example/c.pdf"], (), "")),
        (RECORD, {"selector": ".locations[2].pdf"}, (["https://m.example/c.pdf"], (), "")),
        (
            RECORD,
            {"selector": ".locations", "mappings": PAIR},
            (["/10.1234/a.pdf", "https://m.example/c.pdf"], ("https://m.example/a", "/b", "/d"), ""),
        ),
        (RECORD["locations"], {"selector": ".", "mappings": {"url": "pdf"}},
         (["/10.1234/a.pdf", "https://m.example/c.pdf"], (), "")),
        (RECORD, {"selector": ".none"}, ([], (), "no_oa_location")),
        (RECORD, {"selector": ".locations"}, ([], (), "no_oa_location")),
        ("https://m.example/e.pdf", {"selector": "."}, (["https://m.example/e.pdf"], (), "")),
        (b"\xef\xbb\xbf" + b'{"u": "/f.pdf"}', {"selector": ".u"}, (["/f.pdf"], (), "")),
        (b"", {"selector": ".u"}, ([], (), "empty_answer")),
        (b"<html>oops", {"selector": ".u"}, ([], (), "html_answer")),
        (b'{"u": ', {"selector": ".u"}, ([], (), "malformed_answer")),
        (b"[" * 90_000, {"selector": ".u"}, ([], (), "malformed_answer")),
        (b'{"u": "' + b"x" * 300_000, {"selector": ".u"}, ([], (), "truncated_answer")),
    ],
)  # fmt: skip
def test_a_path_into_json_gives_addresses(value: Any, more: dict[str, Any], found_: Any) -> None:
    """Strings, or what mappings take of objects; relative ones stand on the answer's URL."""
    assert record(value, resolver(mode="json", **more)) == found_


def test_landing_pages_are_read_where_no_pdf_is_named() -> None:
    """pageURL goes to the landing reader within the same turn: a few pages, in the resolver's own name."""
    landing = (
        b'<html><head><meta name="citation_doi" content="10.9999/other">'
        b'<meta name="citation_pdf_url" content="/read.pdf"></head><body>x</body></html>'
    )

    def prepare(web: Loopback) -> None:
        pages = [{"page": f"/p{at}"} for at in range(9)]
        web.on(f"/{DOI}", reply(200, json.dumps(pages).encode(), **JSON))
        web.on("/p0", reply(200, f"<html><body>{PADDING}</body></html>".encode(), **HTML))
        web.on("/p1", reply(200, landing, **HTML))

    one = resolver(mode="json", selector=".", mappings=PAIR)
    got, web = found(one, prepare)
    assert isinstance(got, Found)
    assert [c.url for c in got.candidates] == [f"{web.url}/read.pdf"]
    assert [asked.target for asked in web.asked] == [f"/{DOI}", "/p0", "/p1"]
    assert f"{web.url}/p8" in got.seen
    assert got.identified is None

    got, web = found(one, lambda web: (prepare(web), web.on("/p1", web.scripts["/p0"])))
    assert isinstance(got, Found)
    assert (got.candidates, got.reason, len(web.asked)) == ((), "no_pdf_link", 3)


@pytest.mark.parametrize(
    ("status", "outcome"), [(404, "nonretryable"), (403, "nonretryable"), (503, "retryable")]
)
@pytest.mark.parametrize("mode", ["html", "json"])
def test_an_error_status_is_an_outcome(status: int, outcome: str, mode: str) -> None:
    """A status of failure is told as such, also where its page holds what the selector wants."""
    body = b"<html><body><a href=/1.pdf>sorry</a></body></html>"
    got, _ = found(
        resolver(mode=mode, selector="a"), lambda web: web.on(f"/{DOI}", reply(status, body, **HTML))
    )
    assert isinstance(got, WebError)
    assert (got.outcome, got.reason, got.status) == (outcome, f"http_{status}", status)


def test_a_browser_check_is_told_as_one() -> None:
    """A wall that a site shows to programs is no page without a link."""
    wall = b"<html><head><title>Just a moment...</title></head><body>Checking</body></html>"
    got, _ = found(
        resolver(), lambda web: web.on(f"/{DOI}", reply(403, wall, Cf_Mitigated="challenge", **HTML))
    )
    assert isinstance(got, Found)
    assert (got.candidates, got.reason) == ((), "blocked_challenge")


def test_the_manners_are_those_of_the_others() -> None:
    """robots.txt is heard and the address guard stands, whoever wrote the resolver."""

    def prepare(web: Loopback) -> None:
        web.on("/robots.txt", reply(200, b"User-agent: *\nDisallow: /10.1234/\n"))
        web.on(f"/{DOI}", reply(200, LINKS.encode(), **HTML))

    got, web = found(resolver(), prepare, robots=True)
    assert isinstance(got, WebError)
    assert got.reason == "robots_disallowed"
    assert web.count(f"/{DOI}") == 0
    got, web = found(resolver(), prepare, allow_hosts=())
    assert isinstance(got, WebError)
    assert (got.reason, web.asked) == ("address_refused", [])


def test_a_copy_that_is_not_wanted_is_not_tried(tmp_path: Path) -> None:
    """sources.candidates holds for the user's own sources, as far as the host says the version."""
    told = loaded(
        tmp_path, f"resolvers: {FOO}\nsources: {{candidates: {{versions: [published]}}}}\n"
    ).settings
    mine = finders(told.sources, told.fallback.thresholds, resolvers=told.resolvers)["custom:foo"]

    async def go() -> None:
        async with loopback() as web:
            web.on("*", reply(200, b"<a href=https://arxiv.org/pdf/2101.00001>", **HTML))
            net = client(stand_in=web.url, pacing="none")
            got = await mine.find(net, lookup())
            await net.close()
            assert (got.candidates, got.reason) == ((), "unwanted_copies")

    run(go)


# -- hostile answers


SELECTORS = ("a", "a:nth-last-of-type(2n+1)", "* > *", "p ~ a", ":has(a)", "[href$='.pdf' i], a")
PIECES = st.sampled_from(
    [
        "<a href=",
        '"x.pdf"',
        "http://[",
        "<base href='::'>",
        "<",
        ">",
        "</a>",
        "\x00",
        "<!--",
        "<![CDATA[",
        "é",
        "\ud800",
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    body=st.binary(max_size=80)
    | st.lists(PIECES, max_size=20).map(lambda x: "".join(x).encode("utf-8", "surrogatepass")),
    selector=st.sampled_from(SELECTORS),
    index=st.integers(-3, 3),
    charset=st.sampled_from(["", "text/html; charset=utf-16", "text/html; charset=zip"]),
)
def test_no_page_makes_the_reader_fail(body: bytes, selector: str, index: int, charset: str) -> None:
    """Whatever bytes come as a page: one address on the web, or a reason that can be explained."""
    answer = Answer(url="https://foo.org/d/", status=200, headers={"content-type": charset}, body=body)
    got = selectors.on_page(answer, resolver(selector=selector, index=index))
    assert all(url.startswith(("http://", "https://")) for url in got.pdfs)
    assert len(got.pdfs) <= 1
    assert bool(got.pdfs) != (got.reason in REASONS)


@settings(max_examples=150, deadline=None)
@given(
    body=st.binary(max_size=60) | JSONS.map(lambda value: json.dumps(value).encode()), mapped=st.booleans()
)
def test_no_json_makes_the_reader_fail(body: bytes, mapped: bool) -> None:
    """Whatever bytes come as JSON: addresses on the web, or a reason that can be explained."""
    answer = Answer(url="https://foo.org/d/", status=200, headers={}, body=body)
    more = {"selector": ".", "mappings": {"url": ".a.u", "pageURL": "b"}} if mapped else {"selector": ".a"}
    got = selectors.in_json(answer, resolver(mode="json", **more))
    assert all(url.startswith(("http://", "https://")) for url in got.pdfs + got.pages)
    assert bool(got.pdfs or got.pages) != (got.reason in REASONS)


def test_a_page_without_end_is_cut() -> None:
    """More elements, or more bytes, than are read give a reason in bounded time."""
    deep = Answer(url="https://foo.org/", status=200, headers={}, body=b"<p>" * 400_000)
    assert selectors.on_page(deep, resolver()).reason == "truncated_answer"
    long = Answer(url="https://foo.org/", status=200, headers={}, body=b"x" * 6_000_000 + LINKS.encode())
    assert selectors.on_page(long, resolver()).reason == "truncated_answer"
    blank = Answer(url="https://foo.org/", status=200, headers={}, body=b" \n")
    assert selectors.on_page(blank, resolver()).reason == "empty_page"


# -- the whole of it


HERE = "https://papers.example/10.1234/mine"
CONFIG = """
resolvers:
  - {name: Mine, url: "https://papers.example/{doi}", mode: html, selector: "#pdf"}
  - {name: Switched, url: "https://off.example/{doi}", mode: json, selector: .url, automatic: false}
"""


def world() -> tuple[World, bytes]:
    """A work that no service knows a copy of; a page of the user's own site links it."""
    made = World.of(Paper(doi="10.1234/mine", copies=()), Paper(doi="10.1234/other", copies=()))
    pdf = make_pdf("mine", size=4000, title="A work of 10.1234/mine")
    served = Reply(headers=(("Content-Type", "application/pdf"),), body=pdf)
    link = '<html><body><a href="x.pdf">no</a><a id="pdf" href="/files/mine.pdf">PDF</a></body></html>'
    places = {HERE: html(link), "https://papers.example/files/mine.pdf": served}
    for url, answer in places.items():
        made.catalogue.places[url_key(url)] = lambda call, answer=answer: answer
    return made, pdf


def test_the_plan_shows_it(tmp_path: Path) -> None:
    """``fallback plan`` has the resolver in its tier with its first request, and the disabled one as such."""
    (tmp_path / "q.yaml").write_text(CONFIG)
    told = here("fallback", "plan", "10.1234/mine", "--json", "--config", tmp_path / "q.yaml")
    assert told.returncode == 0, told.stderr
    steps = {step["source"]: step for step in lines(told.stdout)[0]["steps"]}  # type: ignore[attr-defined]
    mine, off = steps["custom:mine"], steps["custom:switched"]
    assert (mine["tier"], mine["verdict"], mine["url"], mine["role"]) == ("custom", "asked", HERE, "landing")
    assert (mine["timeout_ms"], mine["retries_max"], mine["robots_respect"]) == (10_000, 2, True)
    assert (off["verdict"], off["reason"]) == ("passed_over", "disabled")
    shown = here("config", "show", "--origin", "--config", tmp_path / "q.yaml").stdout
    assert '["custom:switched"]  # automatic: false (' in shown


def test_a_run_brings_home_what_only_the_resolver_has(tmp_path: Path) -> None:
    """Found, proved, stored, listed, explained and counted under its name; the other work says why not."""
    (tmp_path / "q.yaml").write_text(CONFIG)
    library = tmp_path / "lib"
    made, pdf = world()
    (tmp_path / "list.txt").write_text("10.1234/mine\n10.1234/other\n")
    with serve(made) as served:
        done = rehearsed(served.url, library, tmp_path / "list.txt", "--config", tmp_path / "q.yaml")
        asked = [entry.url for entry in served.ledger.entries()]
    assert lines(done.stdout)[-1]["finalized"] == 1, (done.stdout, done.stderr)
    assert HERE in asked
    assert "https://papers.example/robots.txt" in asked
    assert not [url for url in asked if "off.example" in url]
    rows = lines(here("list", "--json", "--source", "custom:mine", "--library", library).stdout)
    (row,) = rows
    assert row["source"] == "custom:mine"
    assert (library / str(row["path"])).read_bytes() == pdf
    stats = lines(here("fallback", "stats", "--by", "source", "--json", "--library", library).stdout)
    assert "custom:mine" in json.dumps(stats)
    assert "custom:switched" not in json.dumps(stats)
    told = here("explain", "10.1234/other", "--library", library).stdout
    (turn,) = [line for line in told.splitlines() if "custom:mine" in line]
    assert "at papers.example: The server answered with this HTTP status: 404." in turn
