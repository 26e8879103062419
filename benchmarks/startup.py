"""What ``quire --help`` costs above bare python, as whole processes, in turn.

Run with ``python benchmarks/startup.py``.
"""

from __future__ import annotations

import subprocess
import sys
import time

RUNS = 21


def once(*command: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    bare, ours = [], []
    for _ in range(RUNS):
        bare.append(once(sys.executable, "-c", "pass"))
        ours.append(once(sys.executable, "-m", "quire", "--help"))
    bare_ms, ours_ms = (sorted(times)[RUNS // 2] * 1000 for times in (bare, ours))
    print(
        f"python -c pass {bare_ms:.0f} ms   quire --help {ours_ms:.0f} ms   above {ours_ms - bare_ms:.0f} ms"
    )


if __name__ == "__main__":
    main()
