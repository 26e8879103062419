"""Defects of the finalizer and of the journal."""

from __future__ import annotations

from .mutant import mutants

_SURVIVORS = "mutant_survivors.py"

FINALIZER = mutants(
    "finalizer",
    (
        "told_before_durable",
        "the word 'stored' comes after the folder's fsync",
        "actors/finalizer.py",
        "        self._objects.sync_folders()\n"
        "        for one in placed:\n"
        "            self._to.resolver.tell(_answer(one))\n",
        "        for one in placed:\n"
        "            self._to.resolver.tell(_answer(one))\n"
        "        self._objects.sync_folders()\n",
        "finalizer.py",
    ),
    (
        "changed_part_placed",
        "bytes that are not those that were streamed are refused",
        "actors/finalizer.py",
        '"part_changed" if part.sha256() != asked.sha256 else _md5_mismatch(part.path, asked)',
        "_md5_mismatch(part.path, asked)",
        "finalizer.py",
    ),
    (
        "unproved_placed",
        "what is no PDF gets no name",
        "actors/finalizer.py",
        "refused = proof.reason or self._mismatch(part, asked)",
        "refused = self._mismatch(part, asked)",
        "finalizer.py",
    ),
    (
        "md5_ignored",
        "bytes whose MD5 the source denies are refused",
        "actors/finalizer.py",
        'return "md5_mismatch" if asked.md5 and',
        'return "md5_mismatch" if not asked.md5 and',
        "finalizer.py",
    ),
    (
        "other_article_kept",
        "with `fail` another article is refused",
        "actors/finalizer.py",
        'return OTHER_ARTICLE if shown == "mismatch" and asked.refuse_other else ""',
        'return ""',
        "finalizer_title.py",
    ),
    (
        "held_bytes_unread",
        "bytes that are held are read before they count for another job",
        "actors/finalizer.py",
        "if self._objects.has(asked.sha256, asked.bytes) and self._objects.verify(asked.sha256):",
        "if self._objects.has(asked.sha256, asked.bytes):",
        "finalizer.py",
    ),
    (
        "held_name_not_durable",
        "an object that is there already is made durable too",
        "actors/finalizer.py",
        "            self._objects.adopt(asked.sha256)\n",
        "            pass\n",
        "finalizer.py",
    ),
    (
        "fault_swallowed",
        "a disk that fails ends the finalizer",
        "actors/finalizer.py",
        "            if one.fault is not None:\n                raise one.fault\n",
        "            if one.fault is None:\n                continue\n",
        "finalizer.py",
    ),
)

JOURNAL = mutants(
    "journal",
    (
        "ack_before_commit",
        "nobody is answered before the store returned",
        "actors/runtime/journal.py",
        "        results = self._commit(messages)\n        answers",
        "        from ...events.record import Appended\n"
        "        early = [(m, Appended(1, 1)) for m in messages if m.reply_to is not None]\n"
        "        for m, r in early:\n"
        "            m.reply_to.answer(Journaled(((m.tag, r),)))\n"
        "        self._commit(messages)\n"
        "        results = []\n"
        "        messages = []\n"
        "        answers",
        "journal.py",
    ),
    (
        "answers_cut",
        "everybody hears of everything they asked for",
        "actors/runtime/journal.py",
        "address.answer(Journaled(tuple(told)))",
        "address.answer(Journaled(tuple(told[:1])))",
        "journal.py",
    ),
    (
        "results_shifted",
        "each sender hears of its own batch",
        "actors/runtime/journal.py",
        "zip(messages, results, strict=True)",
        "zip(messages, reversed(results), strict=True)",
        "journal.py " + _SURVIVORS,
    ),
    (
        "store_error_survived",
        "a store that failed stops the process",
        "actors/runtime/journal.py",
        '        """Always: see the class."""\n        return True\n',
        '        """Always: see the class."""\n        return False\n',
        "journal.py",
    ),
    (
        "unbounded_commit",
        "a commit takes so many batches and no more",
        "actors/runtime/journal.py",
        "        self._batch_max = batches_max\n",
        "        self._batch_max = batches_max * 100\n",
        "journal.py",
    ),
    (
        "too_few_judged_passes",
        "a store that judges too few is found out",
        "actors/runtime/journal.py",
        "if len(results) != len(messages):",
        "if len(results) > len(messages):",
        "journal.py",
    ),
)
