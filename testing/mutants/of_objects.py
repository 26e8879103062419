"""Defects of the files, the audit, the library and its seals."""

from __future__ import annotations

from .mutant import mutants

OBJECTS = mutants(
    "objects",
    (
        "rename_before_fsync",
        "a file has its final name only when its bytes are durable",
        "store/objects.py",
        "        part.sync()\n"
        "        with storage_faults(path):\n"
        "            held = self.has(sha256, size)\n"
        "            path.parent.mkdir(exist_ok=True)\n            part.path.rename(path)\n",
        "        with storage_faults(path):\n            held = self.has(sha256, size)\n"
        "            path.parent.mkdir(exist_ok=True)\n"
        "            part.path.rename(path)\n"
        "        part.sync()\n",
        "objects.py mutant_survivors.py",
    ),
    (
        "part_not_synced",
        "a finished file is fsynced",
        "store/objects.py",
        "        part.sync()\n",
        "",
        "objects.py mutant_survivors.py",
    ),
    (
        "folders_not_synced",
        "a name is durable before anybody says so",
        "store/objects.py",
        "                        sync_folder(folder)\n",
        "                        pass\n",
        "objects.py",
    ),
    (
        "root_not_synced",
        "the folder above is fsynced too: another process may have made it a moment ago",
        "store/objects.py",
        "self._unsynced.update((path.parent, self.root))",
        "self._unsynced.add(path.parent)",
        "objects.py",
    ),
    (
        "failed_fsync_retried",
        "after a failed fsync nothing is called durable any more",
        "store/objects.py",
        "                self._failed = str(error)\n                raise\n",
        "                raise\n",
        "objects.py",
    ),
    (
        "part_lock_ignored",
        "a part that another holds is left alone",
        "store/objects.py",
        "            if not _locked(descriptor):\n                return None\n",
        "            _locked(descriptor)\n",
        "objects.py",
    ),
    (
        "verify_by_name",
        "an object is verified by its bytes",
        "store/objects.py",
        "hash_file(self.path(sha256)) == sha256",
        "bool(sha256)",
        "objects.py audit.py tamper.py",
    ),
    (
        "resumed_hash_anew",
        "the hash of a resumed part covers what earlier owners wrote",
        "store/objects.py",
        "            while chunk := os.read(self._descriptor, CHUNK_BYTES):\n"
        "                self._hash.update(chunk)\n",
        "            while chunk := os.read(self._descriptor, CHUNK_BYTES):\n",
        "objects.py",
    ),
    (
        "short_write_lost",
        "a write that takes only a part is gone on with",
        "store/objects.py",
        "                rest = rest[os.write(self._descriptor, rest) :]\n",
        "                rest = rest[max(len(rest), os.write(self._descriptor, rest)) :]\n",
        "objects.py mutant_survivors.py",
    ),
    (
        "adopt_forgotten",
        "the name of an object that is there is made durable",
        "store/objects.py",
        "            self._unsynced.update((self.path(sha256).parent, self.root))\n",
        "            self.path(sha256)\n",
        "objects.py mutant_survivors.py",
    ),
    (
        "audit_trusts_bytes",
        "the audit hashes every file",
        "store/audit.py",
        "elif not objects.verify(file.sha256):",
        "elif not file.sha256:",
        "audit.py",
    ),
    (
        "audit_skips_last",
        "the audit reads to the end",
        "store/audit.py",
        "if head is not None and commit[0] > head.position:",
        "if head is not None and commit[0] >= head.position:",
        "audit.py",
    ),
    (
        "audit_trusts_tables",
        "the audit folds the log anew and compares",
        "store/audit.py",
        "elif digest != self.view.digest():",
        "elif not self.view.digest():",
        "audit.py",
    ),
    (
        "dead_worker_seen_alive",
        "a free lock means a dead worker",
        "store/library.py",
        "        if descriptor >= 0:\n            os.close(descriptor)\n        return False\n",
        "        if descriptor >= 0:\n            os.close(descriptor)\n        return descriptor >= 0\n",
        "library.py::test_worker_lock library.py::test_two_who_look_see_no_owner",
    ),
    (
        "living_lock_taken",
        "a lock that is held means a living worker",
        "store/library.py",
        "        if descriptor is None:\n            return True\n        if descriptor >= 0:",
        "        if descriptor is not None and descriptor >= 0:",
        "library.py::test_worker_lock library.py::test_two_who_look_see_no_owner",
    ),
    (
        "seal_without_key",
        "a seal made with another key is refused",
        "store/seal.py",
        "not hmac.compare_digest(seal.hmac.encode(), _mac(seal, key).encode())",
        "not seal.hmac",
        "tamper.py audit.py",
    ),
)
