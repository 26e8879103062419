"""The guard refuses what is not the public web, in every spelling, and leaves URLs as they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.actors.web.guard import BadUrl, Guard, joined, place, without_tracking


def refusal(url: str, guard: Guard | None = None) -> str:
    try:
        (guard or Guard()).check(place(url))
    except BadUrl as error:
        return error.reason
    return ""


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "0177.0.0.1",
        "0x7f.0x0.0x0.0x1",
        "127.0.0.1.",
        "0",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "2852039166",
        "100.64.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::10.0.0.1]",
        "[2002:7f00:1::]",
        "[2001:0:53aa:64c:0:0:80ff:fffe]",
        "[::127.0.0.1]",
        "[fec0::1]",
        "[100::1]",
        "[2001:db8::1]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "printer.local",
        "metadata.google.internal",
        "nas",
        "box.lan",
        "router.home.arpa",
        "①②⑦.0.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
        "x.corp",
        "1.2.3.4.5",
        "999.1.1.1",
        "0x.0x",
        "a.0x7f",
        "exa_mple..com",
        "a..b",
        "%31%32%37.0.0.1",
        "1.0.0.127.in-addr.arpa",
    ],
)
def test_private_hosts_are_refused_in_every_spelling(host):
    """Loopback, private, link-local, metadata, multicast, reserved, local names, broken numbers."""
    assert refusal(f"http://{host}/x") == "address_refused"


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a",
        "http://EXAMPLE.org.:8080/a",
        "https://bücher.example/",
        "http://8.8.8.8/",
        "http://[2606:4700:4700::1111]/",
        "https://123.example.org/",
        "https://my_host.example.org/",
        "https://xn--bcher-kva.example/",
        "https://locals.org/",
    ],
)
def test_the_public_web_is_let_through(url):
    """Also literal public addresses and unusual but valid names."""
    assert refusal(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "file:///etc/passwd",
        "javascript://example.org/",
        "gopher://example.org/",
        "http://user@example.org/",
        "http://user:pass@example.org/",
        "http://example.org@10.0.0.1/",
    ],
)
def test_schemes_and_credentials_are_refused(url):
    """Nothing but http and https, and no passwords."""
    assert refusal(url) == "address_refused" or url.startswith("file")


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "/a", "http://", "http:///a", "http://h.org:0/", "http://h.org:99999/", "http://h.org:x/"),
        *("http://[::1/", "http://" + "a" * 20_000),
    ],
)
def test_what_is_no_url_is_refused(url):
    """With its own reason."""
    with pytest.raises(BadUrl) as caught:
        place(url)
    assert caught.value.reason == "bad_url"


def test_a_backslash_does_not_hide_the_host():
    """What browsers read as a slash cannot make us ask another host than the one judged."""
    asked = place("http://good.example\\@evil.example/x")
    assert asked.host == "good.example"


def test_settings_let_hosts_through():
    """A named host, alone or with its port, and nothing beside it."""
    assert refusal("http://127.0.0.1:81/", Guard(["127.0.0.1"])) == ""
    assert refusal("http://box.local/", Guard(["127.0.0.1"])) == "address_refused"
    assert refusal("http://127.0.0.1:81/", Guard(["127.0.0.1:80"])) == "address_refused"
    assert refusal("http://[::1]:81/", Guard(["[::1]"])) == ""


def test_a_rehearsal_refuses_every_literal():
    """Names are not resolved then, so no address can be meant."""
    assert refusal("http://8.8.8.8/", Guard(rehearsal=True)) == "address_refused"
    assert refusal("http://h.example/", Guard(rehearsal=True)) == ""


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("93.184.216.34", True),
        ("10.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("x", False),
        ("2606:4700::1", True),
    ],
)
def test_what_dns_answers_is_judged(address, allowed):
    """A public name may lead to a private address."""
    assert Guard().allows_address(address) is allowed


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("HTTPS://Example.ORG:443/A%2fb?q=%2B#frag", "https://example.org/A%2fb?q=%2B"),
        ("http://h.org", "http://h.org/"),
        ("http://h.org?", "http://h.org/?"),
        ("http://h.org/a/../b/./c//d?", "http://h.org/a/../b/./c//d?"),
        ("http://h.org/a b\tc\u00e9", "http://h.org/a%20bc%C3%A9"),
        ("http://h.org/{x}|<y>^`[z]'\"", "http://h.org/{x}|<y>^`[z]'\""),
        (" http://h.org:8080/ ", "http://h.org:8080/"),
    ],
)
def test_a_url_travels_as_given(url, sent):
    """Only what cannot travel is encoded; host and port take their normal form."""
    assert place(url).url == sent


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=60))
def test_printable_targets_are_never_changed(target):
    """A signed URL survives, whatever its signature covers."""
    assert place(f"https://h.example/{target}").target == f"/{target}"


@given(st.text(max_size=60))
def test_any_text_is_a_place_or_refused(text):
    """No input breaks the guard: it lets a URL pass, or gives one of its reasons."""
    for url in (text, f"http://{text}", f"http://h.example/{text}"):
        assert refusal(url) in ("", "bad_url", "address_refused")


def test_tracking_parameters_go_and_others_stay_as_they_are():
    """Order and spelling of the rest are kept."""
    assert (
        without_tracking(place("http://h.org/p?a=%2f&utm_source=x&b&gclid=1&a=2")).target == "/p?a=%2f&b&a=2"
    )
    assert without_tracking(place("http://h.org/p?fbclid=1")).target == "/p"
    assert without_tracking(place("http://h.org/p?a=&&b")).target == "/p?a=&&b"


@pytest.mark.parametrize(
    ("location", "url"),
    [
        (b"/x?y=%2f", "https://h.org/x?y=%2f"),
        (b"c", "https://h.org/a/c"),
        (b"?q", "https://h.org/a/b?q"),
        (b"//o.org/x", "https://o.org/x"),
        ("/é".encode(), "https://h.org/%C3%A9"),
        (b"/\xe9", "https://h.org/%C3%A9"),
        (b"http://o.org/a/../b", "http://o.org/a/../b"),
        (b" /sp ace ", "https://h.org/sp%20ace"),
    ],
)
def test_locations_are_joined(location, url):
    """Relative, protocol-relative, UTF-8, Latin-1, with spaces."""
    assert joined(place("https://h.org/a/b"), location).url == url


@given(st.binary(max_size=40))
def test_any_location_is_a_place_or_refused(location):
    """No header breaks the guard."""
    reason = ""
    try:
        Guard().check(joined(place("https://h.org/a"), location))
    except BadUrl as error:
        reason = error.reason
    assert reason in ("", "bad_url", "bad_redirect", "address_refused")
