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
        "if part.sha256() != asked.sha256:",
        "if not part.sha256():",
        "finalizer.py",
    ),
    (
        "unproved_placed",
        "what is no PDF gets no name",
        "actors/finalizer.py",
        "refused = proof.reason or _md5_mismatch(part.path, asked)",
        "refused = _md5_mismatch(part.path, asked)",
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
        "damage = self._objects.damage(asked.sha256, asked.bytes)",
        'damage = "" if self._objects.has(asked.sha256, asked.bytes) else "missing"',
        "finalizer.py",
    ),
    (
        "rot_called_no_paper",
        "what our own disk lost says nothing of what a URL serves",
        "actors/job_in_hand.py",
        'OUR_DISK = frozenset({"part_changed", "part_busy", OBJECT_DAMAGED})',
        'OUR_DISK = frozenset({"part_changed", "part_busy"})',
        "rotted_objects.py::test_a_takeover_that_finds_a_rotted_object_downloads_again",
    ),
    (
        "rotted_url_not_opened",
        "a URL whose held bytes rotted is opened after all",
        "actors/storing.py",
        "            turn.candidates.appendleft(winner.candidate)  # nobody",
        "            pass  # nobody",
        "rotted_objects.py::test_a_second_work_heals_what_rotted",
    ),
    (
        "held_work_trusted",
        "what an identifier leads to is read before it counts",
        "actors/finalizing.py",
        "        self.look_again(job, job.winner)\n        return True\n",
        "        job.winner = None\n        self._desk.skip_duplicate(job, held)\n        return True\n",
        "rotted_objects.py::test_a_second_work_heals_what_rotted",
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
