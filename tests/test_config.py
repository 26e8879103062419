"""Settings: four layers, where each value comes from, and refusals with what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from quire.config.loader import PROFILES, Flag, load
from quire.errors import UsageError


def refused(tmp_path: Path, text: str) -> str:
    file = tmp_path / "q.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        load(config=file, environ={})
    return str(caught.value).replace(str(file), "q.yaml")


def test_every_setting_has_a_default_and_says_so():
    """Without any other layer all values come from defaults.yaml, and their origin is ``default``."""
    loaded = load(environ={})
    assert {str(origin) for origin in loaded.origins.values()} == {"default"}
    assert loaded.settings.fallback.budgets.total_timeout_ms == 120_000
    assert loaded.values["fallback.tiers.archive.parallel"] == 1
    assert loaded.origins.keys() == loaded.values.keys()


def test_command_line_beats_environment_beats_file_beats_defaults(tmp_path):
    """Each layer stands above the one before it, for one and the same setting."""
    file = tmp_path / "q.yaml"
    file.write_text(
        "fallback:\n  budgets:\n    total_attempts: 7\n    max_concurrent: 6\n    total_timeout_ms: 5\n"
    )
    environ = {"QUIRE_FALLBACK__BUDGETS__TOTAL_ATTEMPTS": "8", "QUIRE_FALLBACK__BUDGETS__MAX_CONCURRENT": "4"}
    flag = Flag(("fallback", "budgets", "total_attempts"), 9, "--fallback-max-attempts")
    loaded = load([flag], config=file, environ=environ)
    budgets = loaded.settings.fallback.budgets
    assert (budgets.total_attempts, budgets.max_concurrent, budgets.total_timeout_ms) == (9, 4, 5)
    assert str(loaded.origins["fallback.budgets.total_attempts"]) == "--fallback-max-attempts"
    assert str(loaded.origins["fallback.budgets.max_concurrent"]) == "QUIRE_FALLBACK__BUDGETS__MAX_CONCURRENT"
    assert str(loaded.origins["fallback.budgets.total_timeout_ms"]) == f"{file}:5"
    assert str(loaded.origins["fallback.budgets.per_source_timeout_ms"]) == "default"


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        ("QUIRE_WEB__CONTACT_EMAIL", "a@uni.edu", "web.contact_email", "a@uni.edu"),
        ("QUIRE_LIBRARY", "123", "library", "123"),
        ("QUIRE_WEB__OFFLINE", "true", "web.offline", True),
        ("QUIRE_WEB__PROXY", "", "web.proxy", None),
        ("QUIRE_FALLBACK__DISABLED", "wayback_pdf, pmc_pdf", "fallback.disabled", ("wayback_pdf", "pmc_pdf")),
        ("QUIRE_FALLBACK__THRESHOLDS__RETRYABLE", "[429, 503]", "fallback.thresholds.retryable", (429, 503)),
        ("QUIRE_FALLBACK__TIERS__ARCHIVE__PARALLEL", "2", "fallback.tiers.archive.parallel", 2),
        ("QUIRE_WEB__LIMITS__HOSTS_PER_S__ARXIV.ORG", "0.1", "web.limits.hosts_per_s.arxiv.org", 0.1),
        ("QUIRE_LEASE", "{ttl_s: 30}", "lease.ttl_s", 30),
    ],
)
def test_each_setting_has_a_variable(name, text, path, value):
    """A variable is read by the type of its setting, at any depth."""
    loaded = load(environ={name: text, "PATH": "/bin"})
    assert loaded.values[path] == value
    assert str(loaded.origins[path]) == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "web:\n  contact_emial: x@y.org\n",
            "q.yaml:2: web.contact_emial: no such setting; did you mean contact_email?",
        ),
        ("web:\n\n  pacing: polit\n", 'q.yaml:3: web.pacing: "polit": did you mean polite? (now: "polite")'),
        ("lease:\n  ttl_s: 0\n", "q.yaml:2: lease.ttl_s: 0: expected `float` > 0.0 (now: 120.0)"),
        ("ops: {stale_after_s: soon}\n", 'q.yaml:1: ops.stale_after_s: "soon": expected `float`, got `str`'),
        ("lease: 3\n", "q.yaml:1: lease: expected settings by name: ttl_s"),
        (
            "fallback:\n  policies:\n    arxiv: {retries_max: 1}\n",
            "q.yaml:3: fallback.policies.arxiv: no such name; did you",
        ),
        (
            "fallback:\n  tiers:\n    - name: a\n      sources: []\n",
            "q.yaml:3: fallback.tiers.0: parallel must be given",
        ),
        (
            "fallback:\n  disabled: [arxiv]\n",
            'fallback.disabled: ["arxiv"]: one of: unpaywall_pdf, arxiv_pdf',
        ),
        ("web: {offline: false}\nweb: {}\n", "q.yaml:2: web is given twice (before: q.yaml:1)"),
        ("web:\n  allow_hosts: [\n", "q.yaml:3: not YAML"),
        ("web: &a {limits: *a}\n", "nested too deep"),
        ("- a\n", "q.yaml:1: the settings: expected settings by name"),
    ],
)
def test_a_wrong_key_or_value_names_file_line_and_what_would_be_right(tmp_path, text, said):
    """A refusal says where it stands, what is wrong and what would be right."""
    assert said in refused(tmp_path, text)


def test_all_that_is_wrong_is_told_at_once(tmp_path):
    """Two mistakes in one file give two lines."""
    assert len(refused(tmp_path, "lease:\n  ttl: 3\nwebb: {}\n").splitlines()) == 2


def test_a_wrong_variable_is_named():
    """A mistake in the environment names the variable."""
    with pytest.raises(
        UsageError, match=r"^QUIRE_WEB__PASING: web.pasing: no such setting; did you mean pacing"
    ):
        load(environ={"QUIRE_WEB__PASING": "none"})


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("QUIRE_WEB_PACING", "QUIRE_WEB__PACING"),
        ("QUIRE_FALLBACK_BUDGETS__TOTAL_ATTEMPTS", "QUIRE_FALLBACK__BUDGETS__TOTAL_ATTEMPTS"),
        ("QUIRE_FALLBACK__BUDGETS_TOTAL_ATTEMPTS", "QUIRE_FALLBACK__BUDGETS__TOTAL_ATTEMPTS"),
    ],
)
def test_a_variable_with_one_underscore_between_levels_is_told_its_name(name, right):
    """The slip that everybody makes is answered with the right name of the variable."""
    with pytest.raises(UsageError, match=rf"no such setting; did you mean {right}\? \(two underscores"):
        load(environ={name: "3"})


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_sets_what_nobody_set(profile):
    """A profile changes the budgets and the sources' times, but nothing that was said explicitly."""
    environ = {
        "QUIRE_FALLBACK__PROFILE": profile,
        "QUIRE_FALLBACK__BUDGETS__MAX_CONCURRENT": "5",
        "QUIRE_FALLBACK__POLICIES__ARXIV_PDF__TIMEOUT_MS": "777",
    }
    loaded = load(environ=environ)
    fallback = loaded.settings.fallback
    assert fallback.budgets.total_timeout_ms == PROFILES[profile]["total_timeout_ms"]
    assert fallback.budgets.total_attempts == PROFILES[profile]["total_attempts"]
    assert fallback.budgets.max_concurrent == 5
    assert fallback.policies["arxiv_pdf"].timeout_ms == 777
    assert fallback.policies["pmc_pdf"].timeout_ms == PROFILES[profile]["per_source_timeout_ms"]
    assert profile in str(loaded.origins["fallback.budgets.total_timeout_ms"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("web:\n  pacing: none\n", "q.yaml:2: web.pacing: none is accepted only together with web.stand_in"),
        (
            "web: {stand_in: 'http://10.0.0.1:80'}\n",
            "q.yaml:1: web.stand_in: 'http://10.0.0.1:80' must be http://127",
        ),
        ("web: {stand_in: 'https://127.0.0.1'}\n", "must be http://127.0.0.1:PORT"),
        ("web: {stand_in: 'http://127.0.0.1.evil.org:1'}\n", "must be http://127.0.0.1:PORT"),
        ("web: {stand_in: 'http://127.0.0.1@evil.org'}\n", "must be http://127.0.0.1:PORT"),
        ("web: {contact_email: someone}\n", "is no e-mail address"),
        ("web: {contact_email: me@example.org}\n", "is a placeholder"),
        ("web: {proxy: proxy.uni.edu}\n", "must be http://HOST:PORT"),
        (
            "sources: {arxiv_pdf: {endpoint: arxiv.org}}\n",
            "q.yaml:1: sources.arxiv_pdf.endpoint: 'arxiv.org' must be an http",
        ),
        ("download:\n  bytes_min: 600000000\n", "download.bytes_max: must be greater than bytes_min"),
        ("fallback: {thresholds: {retryable: [404]}}\n", "[404] are terminal as well"),
        (
            "fallback:\n  tiers:\n    - {name: a, parallel: 1, sources: [arxiv_pdf]}\n"
            "    - {name: b, parallel: 1, sources: [pmc_pdf, arxiv_pdf]}\n",
            "q.yaml:4: fallback.tiers.b.sources: arxiv_pdf is in tier a already",
        ),
        (
            "fallback:\n  tiers:\n" + "    - {name: a, parallel: 1, sources: []}\n" * 2,
            "two tiers have this name",
        ),
    ],
)
def test_rules_across_settings_name_the_setting_and_its_line(tmp_path, text, said):
    """What is wrong only together is refused as exactly as what is wrong alone."""
    assert said in refused(tmp_path, text)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost:1/", "http://[::1]:9"])
def test_a_stand_in_on_loopback_allows_no_pacing_and_any_email(url):
    """A rehearsal may go without pacing and with a placeholder address."""
    environ = {
        "QUIRE_WEB__STAND_IN": url,
        "QUIRE_WEB__PACING": "none",
        "QUIRE_WEB__CONTACT_EMAIL": "a@example.org",
    }
    assert load(environ=environ).settings.web.stand_in == url


def test_the_librarys_own_file_is_read_and_cannot_move_the_library(tmp_path):
    """quire.yaml of the library that flag or environment name counts, unless --config names another file."""
    library = tmp_path / "lib"
    library.mkdir()
    (library / "quire.yaml").write_text("works_in_hand: 3\n")
    other = tmp_path / "other.yaml"
    other.write_text("ops: {stale_after_s: 9}\n")
    assert load(environ={"QUIRE_LIBRARY": str(library)}).settings.works_in_hand == 3
    assert load([Flag(("library",), str(library), "--library")], environ={}).settings.works_in_hand == 3
    both = load(config=other, environ={"QUIRE_LIBRARY": str(library)}).settings
    assert (both.works_in_hand, both.ops.stale_after_s) == (64, 9)
    (library / "quire.yaml").write_text("library: elsewhere\n")
    with pytest.raises(UsageError, match=r"quire.yaml:1: library: a library's own file cannot name another"):
        load(environ={"QUIRE_LIBRARY": str(library)})
