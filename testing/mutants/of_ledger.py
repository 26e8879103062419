"""Defects of the ledger of effects, of recovery and of the desk."""

from __future__ import annotations

from .mutant import mutants

LEDGER = mutants(
    "ledger",
    (
        "final_not_memoised",
        "a final miss is replayed, never asked again",
        "events/ledger.py",
        'frozenset({"OK", "NON_RETRYABLE"})',
        'frozenset({"OK"})',
        "ledger.py",
    ),
    (
        "transient_memoised",
        "a transient end is no result",
        "events/ledger.py",
        'frozenset({"OK", "NON_RETRYABLE"})',
        'frozenset({"OK", "NON_RETRYABLE", "RETRYABLE"})',
        "ledger.py",
    ),
    (
        "stream_from_scratch",
        "a stream of a dead owner is resumed from its part",
        "events/ledger.py",
        '"STREAM": "resume_part"',
        '"STREAM": "again"',
        "ledger.py " + "takeover.py",
    ),
    (
        "ops_out_of_order",
        "ops in flight come in the order of their start",
        "events/ledger.py",
        "key=lambda item: item[1].version)",
        "key=lambda item: -item[1].version)",
        "ledger.py",
    ),
    (
        "repeat_is_progress",
        "what is done again is no progress",
        "events/ledger.py",
        'before.code not in (None, "ABANDONED"))',
        "before.code is False)",
        "takeover.py",
    ),
    (
        "end_of_unknown_kept",
        "the end of an op that never started changes nothing",
        "events/ledger.py",
        "    if op is None:\n        return ops\n",
        "    if op is None:\n        raise KeyError(event.op_id)\n",
        "ledger.py",
    ),
    (
        "keys_drift",
        "the same work has the same key in every version",
        "events/keys.py",
        "KEY_VERSION = 1",
        "KEY_VERSION = 2",
        "keys.py",
    ),
    (
        "death_not_written",
        "what was in flight is written down as abandoned",
        "actors/reconciler.py",
        'events.append(OperationCompleted(op_id, op.kind, "ABANDONED", {"reason": OWNER_GONE}))',
        "pass",
        "takeover.py",
    ),
    (
        "resolved_before_durable",
        "a job goes on only when its recovery is durable",
        "actors/reconciler.py",
        "        self._asked[message.job_id] = resolve\n",
        "        self._asked[message.job_id] = resolve\n        self._to.resolver.tell(resolve)\n",
        "takeover.py",
    ),
    (
        "fenced_recovery_goes_on",
        "a recovery that was refused ends this worker's part",
        "actors/reconciler.py",
        "if isinstance(result, Appended):",
        "if result is not None:",
        "takeover.py",
    ),
    (
        "salvage_unseen",
        "bytes that are gone are not salvaged",
        "actors/reconciler.py",
        "if self._objects.has(sha256, size) or self._has_part(job_id, epoch, size):",
        "if sha256:",
        "takeover.py",
    ),
    (
        "refused_salvaged",
        "bytes that were refused are not salvaged again",
        "actors/reconciler.py",
        'if op.code != "OK" or not sha256 or (sha256 in refused and row.state is State.STREAMING):',
        'if op.code != "OK" or not sha256:',
        "takeover.py",
    ),
    (
        "effect_before_durable",
        "an effect starts only when its intent is durable",
        "actors/desk.py",
        "        self._uncommitted[self._sequence] = (job, then)\n",
        "        self._uncommitted[self._sequence] = (job, None)\n"
        "        if then is not None:\n"
        "            then()\n",
        "takeover.py",
    ),
    (
        "refused_append_ignored",
        "a refused append means that the lease is over",
        "actors/desk.py",
        "            if not isinstance(result, Appended):\n"
        "                self.drop(job)\n"
        "            elif self.jobs",
        "            if not isinstance(result, Appended):\n                pass\n            elif self.jobs",
        "takeover.py",
    ),
    (
        "append_without_epoch",
        "every append of a job carries its epoch",
        "actors/desk.py",
        "tuple(events), epoch=job.epoch, cause=job.cause)",
        "tuple(events), expected_version=job.row.version, cause=job.cause)",
        "takeover.py",
    ),
)
