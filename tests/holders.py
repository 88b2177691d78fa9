"""Locks as other processes see them."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = "import sys\nfrom pathlib import Path\nfrom rslwm.run.lock import locked\nwith locked(Path(sys.argv[1]), 0):\n"


@contextmanager
def held_elsewhere(path: Path) -> Iterator[int]:
    """Another process holds the lock; gives its number."""
    program = f"{LOCK}    print('held', flush=True)\n    sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        yield holder.pid
    finally:
        holder.kill()
        holder.communicate()


def taken(path: Path) -> bool:
    """Whether another process gets the lock now."""
    return subprocess.run([sys.executable, "-c", f"{LOCK}    pass", str(path)], capture_output=True).returncode == 0
