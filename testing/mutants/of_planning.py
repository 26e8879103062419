"""Defects of planning, of the title check and of the proof of a PDF."""

from __future__ import annotations

from .mutant import mutants

PLANNING = mutants(
    "planning",
    (
        "planned_twice",
        "the same work planned by two processes is one job",
        "actors/planner.py",
        'return "new", Batch(stream, (planned,), expected_version=0)',
        'return "new", Batch(stream, (planned,))',
        "planner.py",
    ),
    (
        "no_rest",
        "a failure rests before it goes again",
        "actors/planner.py",
        "return row.may_retry and row.generation < self._retry.generations_max and rested",
        "return row.may_retry and row.generation < self._retry.generations_max",
        "planner.py",
    ),
    (
        "endless_generations",
        "generations end",
        "actors/planner.py",
        "return row.may_retry and row.generation < self._retry.generations_max and rested",
        "return row.may_retry and rested",
        "planner.py",
    ),
    (
        "backoff_flat",
        "each rest is twice the one before",
        "actors/planner.py",
        "retry.backoff_s * 2 ** (generation - 1) * NANOSECONDS",
        "retry.backoff_s * NANOSECONDS",
        "planner.py",
    ),
    (
        "home_fetched_again",
        "what is home stays home",
        "actors/planner.py",
        '        if row.home:\n            return "home"\n',
        "",
        "planner.py",
    ),
    (
        "references_count_as_title",
        "a DOI among the references proves nothing",
        "store/title_check.py",
        "body = text[: heading.start()] if heading else text",
        "body = text",
        "title_check.py",
    ),
    (
        "doubt_is_mismatch",
        "what is nearly the title is no mismatch",
        "store/title_check.py",
        "nearest >= DOUBT or",
        "nearest >= SURE or",
        "mutant_survivors.py",
    ),
    (
        "doi_prefix_matches",
        "a longer DOI that begins alike is another one",
        "store/title_check.py",
        "{letters}(?![a-z0-9_])",
        "{letters}",
        "title_check.py",
    ),
    (
        "cut_pdf_proved",
        "a truncated PDF is none",
        "store/proof.py",
        'mark = tail.rfind(b"%%EOF")',
        "mark = 1",
        "proof.py",
    ),
)
