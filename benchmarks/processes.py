"""The processes of this machine, as Linux tells of them in /proc."""

from __future__ import annotations

from pathlib import Path


def descendants(ancestor: int) -> dict[int, str]:
    """Command lines of the processes that a process has started, and that those have, by their numbers."""
    parents = {pid: parent for pid in _all() if (parent := _parent(pid)) is not None}
    found, more = dict[int, str](), {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in more}:
        found |= {pid: line for pid in more if (line := command_line(pid))}
    return found


def command_line(pid: int) -> str:
    """Empty for one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _all() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None
