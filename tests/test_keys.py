"""Keys are what SPEC 1 says, to the byte, and URLs have one form that stands for their identity."""

import hashlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from quire.events.keys import canonical_host, canonical_url, job_key, job_url, op_key
from quire.events.work import Work


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("work", "work_id", "url"),
    [
        (Work(doi="10.1000/xyz"), "doi:10.1000/xyz", "https://doi.org/10.1000/xyz"),
        (Work(doi="10.1000/é<"), "doi:10.1000/é<", "https://doi.org/10.1000/%C3%A9%3C"),
        (Work(arxiv_id="2101.00001"), "arxiv:2101.00001", "https://arxiv.org/abs/2101.00001"),
        (Work(pmcid="PMC7"), "pmcid:PMC7", "https://pmc.ncbi.nlm.nih.gov/articles/PMC7/"),
        (Work(pmid="7"), "pmid:7", "https://pubmed.ncbi.nlm.nih.gov/7/"),
        (Work(url="HTTP://A.org"), "url:http://a.org/", "http://a.org/"),
        (Work(title="A  Title"), "title:a title", ""),
    ],
)
def test_job_key(work, work_id, url):
    """SHA-256 of the canonical JSON: sorted keys, no spaces, UTF-8 and not escapes."""
    text = f'{{"artifact_id":"pdf","kind":"JOB","role":"artifact","url":"{url}","v":1,"work_id":"{work_id}"}}'
    assert job_key(work) == sha256(text)
    assert job_url(work) == url


def test_labels_titles_and_versions_are_no_part_of_a_key():
    """What does not identify a work does not change its key."""
    assert job_key(Work(doi="10.1000/x", title="T", arxiv_version="v2")) == job_key(Work(doi="10.1000/x"))
    assert job_key(Work(doi="10.1000/x"), artifact_id="xml") != job_key(Work(doi="10.1000/x"))


@pytest.mark.parametrize(
    ("kind", "about", "text"),
    [
        ("HEAD", {"url": "u", "generation": 1}, '"generation":1,"job_id":"j","kind":"HEAD","url":"u","v":1'),
        (
            "STREAM",
            {"url": "u", "generation": 2, "range_start": 0},
            '"generation":2,"job_id":"j","kind":"STREAM","range_start":0,"url":"u","v":1',
        ),
        (
            "FALLBACK",
            {"source": "s", "generation": 1, "attempt": 3},
            '"attempt":3,"generation":1,"job_id":"j","kind":"FALLBACK","source":"s","v":1',
        ),
        ("RESOLUTION", {"generation": 1}, '"generation":1,"job_id":"j","kind":"RESOLUTION","v":1'),
        ("FINALIZE", {"sha256": "h"}, '"job_id":"j","kind":"FINALIZE","sha256":"h","v":1'),
        ("INDEX", {"sha256": "h"}, '"job_id":"j","kind":"INDEX","sha256":"h","v":1'),
        (
            "DEDUPE",
            {"sha256": "h", "target": "t"},
            '"job_id":"j","kind":"DEDUPE","sha256":"h","target":"t","v":1',
        ),
    ],
)
def test_op_key(kind, about, text):
    """Each kind's key is made of what SPEC 1 names, whatever the order in which it is given."""
    assert op_key(kind, "j", **about) == sha256("{" + text + "}")
    assert op_key(kind, "j", **dict(reversed(about.items()))) == op_key(kind, "j", **about)


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("HTTP://EXAMPLE.com", "http://example.com/"),
        ("https://example.com:443/A?B=C&utm_source=x#frag", "https://example.com/A?B=C&utm_source=x"),
        ("http://example.com:443/", "http://example.com:443/"),
        ("http://example.com:80/", "http://example.com/"),
        ("https://bücher.example/ü", "https://xn--bcher-kva.example/ü"),
        ("https://例え。jp。/", "https://xn--r8jz45g.jp/"),
        ("https://example.com./a", "https://example.com/a"),
        ("http://h/a/./b/../c", "http://h/a/c"),
        ("http://h/../../a", "http://h/a"),
        ("http://h/a/b/..", "http://h/a/"),
        ("http://h/a/.", "http://h/a/"),
        ("http://h/.hidden/..b/c..", "http://h/.hidden/..b/c.."),
        ("http://h//a//b", "http://h//a//b"),
        ("http://h/a?b=2&a=1&b=2&c", "http://h/a?b=2&a=1&b=2&c"),
        ("http://h/a?sig=%2F+%20&x=../y", "http://h/a?sig=%2F+%20&x=../y"),
        ("http://h/%7Ea%2fb", "http://h/%7Ea%2fb"),
        ("http://[2001:DB8::1]:8080/", "http://[2001:db8::1]:8080/"),
        ("http://user:pw@H/", "http://user:pw@h/"),
        ("  http://h/a  ", "http://h/a"),
    ],
)
def test_canonical_url(url, canonical):
    """Scheme, host, port, fragment and dot segments are normalised; path and query stay to the letter."""
    assert canonical_url(url) == canonical
    assert canonical_url(canonical) == canonical


@pytest.mark.parametrize(
    "url", ["", "a.org/x", "/x", "http:", "http://", "http:///x", "http://./", "mailto:a@b"]
)
def test_no_absolute_url(url):
    """What is no absolute URL with a host is refused, by name."""
    with pytest.raises(ValueError, match="absolute URL"):
        canonical_url(url)


HOST = st.text(st.sampled_from("aZé.-_1例。ß"), min_size=1, max_size=12)
PATH = st.lists(st.sampled_from(["", ".", "..", "a", ".b", "%2e", "é", "c d"]), max_size=6).map("/".join)
QUERY = st.text(st.sampled_from("ab=&%2F?./é"), max_size=12)


@given(
    st.sampled_from(["http", "HTTPS", "Http"]),
    HOST,
    st.sampled_from(["", ":80", ":443", ":8080"]),
    PATH,
    QUERY,
)
def test_canonical_form_is_a_fixed_point(scheme, host, port, path, query):
    """The canonical form of a canonical form is itself, and keeps the query."""
    try:
        once = canonical_url(f"{scheme}://{host}{port}/{path}?{query}#x")
    except ValueError:
        assume(False)
    assert canonical_url(once) == once
    assert not query or once.endswith("?" + query)
    assert "/./" not in once.split("?")[0]
    assert "/../" not in once.split("?")[0]


@given(st.text(max_size=40))
def test_canonical_host_is_a_fixed_point(host):
    """A host's canonical form is its own."""
    once = canonical_host(host)
    assert canonical_host(once) == once
