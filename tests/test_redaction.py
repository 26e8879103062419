"""What is logged holds no e-mail addresses, keys or tokens, and still says where it leads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.actors.web.redaction import redact_text, redact_url


@pytest.mark.parametrize(
    "url",
    [
        "https://api.unpaywall.org/v2/10.1/x?email=SECRET@example.org",
        "https://h.org/?mailto=SECRET%40example.org&x=1",
        "https://h.org/u/SECRET@example.org/p",
        "https://user:SECRET@h.org/p",
        "https://h.org/p?token=SECRET",
        "https://h.org/p?a=1&access_token=SECRET&b=2",
        "https://h.org/p?API-Key=SECRET",
        "https://h.org/p?api_key=SECRET",
        "https://h.org/p?apikey=SECRET",
        "https://b.s3.amazonaws.com/k?X-Amz-Signature=SECRET",
        "https://b.s3.amazonaws.com/k?X-Amz-Credential=SECRET",
        "https://b.s3.amazonaws.com/k?X-Amz-Security-Token=SECRET",
        "https://b.s3.amazonaws.com/k?AWSAccessKeyId=SECRET&Signature=SECRET",
        "https://b.blob.example/k?sv=1&sig=SECRET",
        "https://d.cloudfront.net/k?Policy=SECRET&Key-Pair-Id=SECRET",
        "https://h.org/p;jsessionid=SECRET?x=1",
        "https://h.org/p?sid=SECRET&session_id=SECRET",
        "https://h.org/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJTRUNSRVQifQSECRET.sig/x",
        "https://h.org/p#access_token=SECRET",
        "https://h.org/p?md5=SECRET&pid=1-s2.0.pdf",
    ],
)
def test_secrets_go(url):
    """By name, by form, in path, query, credentials and fragment."""
    assert "SECRET" not in redact_url(url)
    assert "SECRET" not in redact_text(f"could not get {url}, sorry")


@pytest.mark.parametrize(
    "url",
    [
        "https://doi.org/10.1000/xyz123",
        "https://arxiv.org/pdf/2101.00001v2",
        "https://h.org/search?q=key&page=2&format=pdf&id=7",
        "https://h.org/article/file?id=10.1371/journal.pone.1&type=printable",
        "https://medium.example/@author/paper",
        "https://h.org/p?author=Keynes&monkey=1",
    ],
)
def test_the_rest_stays(url):
    """A log is still good for something."""
    assert redact_url(url) == url


def test_messages_are_redacted_too():
    """Errors of libraries quote URLs and headers."""
    said = redact_text("GET https://h.org/a?token=abc failed; Bearer abcdefghijk; write to a@b.org")
    assert said == "GET https://h.org/a?token=REDACTED failed; Bearer REDACTED; write to REDACTED"


@given(st.text(max_size=80))
def test_redacting_twice_is_redacting_once(text):
    """And no text breaks it."""
    once = redact_url(f"https://h.org/{text}")
    assert redact_url(once) == once
    redact_text(text)
