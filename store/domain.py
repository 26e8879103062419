"""quire's own domain: its events, and the projections that the store keeps of them."""

from __future__ import annotations

from ..events import facts, projections, upcasts
from ..events.job import JobRow, fold_job
from .interface import Domain, Projection

QUIRE = Domain(
    events=facts.AnyEvent,
    schema=facts.SCHEMA_VERSION,
    upcasters=upcasts.UPCASTERS,
    projections=(
        Projection(
            name=projections.JOBS,
            version=2,
            row=JobRow,
            key=projections.job_key_of,
            fold=fold_job,
            indexes={
                "claimable": projections.claimable_entries,
                "waiting": projections.waiting_entries,
                "leased": projections.leased_entries,
                "holdings": projections.holding_entries,
                "listed": projections.listed_entries,
            },
            tallies=projections.job_counts,
        ),
        Projection(
            name=projections.HOSTS,
            version=2,
            row=projections.HostRow,
            key=projections.host_key_of,
            fold=projections.fold_host,
            indexes={
                "troubled": projections.troubled_entries,
                "changed": projections.changed_entries,
            },
        ),
        Projection(
            name=projections.RUNS,
            version=1,
            row=projections.RunRow,
            key=projections.run_key_of,
            fold=projections.fold_run,
        ),
        Projection(
            name=projections.LIBRARY,
            version=1,
            row=projections.LibraryRow,
            key=projections.library_key_of,
            fold=projections.fold_library,
        ),
    ),
)
