"""A life in a process of its own, whose hashes and whose LMDB are others: what must not matter, does not."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec

from ...errors import EnvironmentFault
from .disk import StoreKind
from .life import Life

OTHERS = {"PYTHONHASHSEED": "4711", "LMDB_DEFAULT_LIB_VERSION": "1"}
"""What another process is told: how texts are hashed, and that LMDB 1.0 writes, not 0.9."""
LIFE_S_MAX = 300.0
"""Real time that one life may take there, in seconds; a long one takes two."""


def live_elsewhere(
    seed: int,
    *,
    store: StoreKind,
    works: int,
    crashes: int,
    environment: dict[str, str] | None = None,
) -> Life:
    """Live a life in another process, where nothing is patched.

    Args:
        seed: of everything.
        store: which log.
        works: greatest number of works.
        crashes: greatest number of kills.
        environment: what that process is told; ``OTHERS`` where left out.

    Raises:
        EnvironmentFault: the process came to no end, or told of no life.
    """
    done = subprocess.run(
        [
            sys.executable, "-P", "-m", __package__, "--once", store, "--first", str(seed), "--seeds", "1",
            "--works", str(works), "--crashes", str(crashes),
        ],
        env={**os.environ, **(OTHERS if environment is None else environment)},
        capture_output=True, text=True, timeout=LIFE_S_MAX, check=False,
    )  # fmt: skip
    try:
        return msgspec.json.decode(done.stdout, type=Life)
    except msgspec.DecodeError as error:
        raise EnvironmentFault(
            f"the life of seed {seed} in a process of its own ended with {done.returncode}: "
            f"{done.stderr[-1500:]}"
        ) from error
