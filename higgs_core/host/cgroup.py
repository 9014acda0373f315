"""What a container may use, read from its control groups, of version 2 or 1. Imports no torch.

A group's limit holds for all below it, so the tightest on the way from the process' group to the root counts. Inside a
container the root that is mounted is often the container's own group, and the path of the process does not exist there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def memory_left(root: Path = ROOT, own_groups: Path = OWN_GROUPS) -> int | None:
    """Bytes until the process meets its group's limit; None without a limit. Page cache that can go counts as free."""
    left = []
    for group in _groups("memory", root, own_groups):
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most, taken = _number(group / limit), _number(group / used)
            if most is not None and taken is not None:
                left.append(max(most - max(taken - _statistic(group / "memory.stat", cache), 0), 0))
    return min(left, default=None)


def cpu_quota(root: Path = ROOT, own_groups: Path = OWN_GROUPS) -> float | None:
    """How many CPUs' time the process may use, such as 1.5; None without a quota."""
    quotas = []
    for group in _groups("cpu", root, own_groups):
        words = _words(group / "cpu.max")
        if len(words) != 2:
            words = [*_words(group / "cpu.cfs_quota_us"), *_words(group / "cpu.cfs_period_us")]
        if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]):  # "max" and -1 are no quota
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def _groups(controller: str, root: Path, own_groups: Path) -> Iterator[Path]:
    """The groups of the process and all above them, of both versions."""
    for line in _lines(own_groups):
        _, _, controllers_and_path = line.partition(":")
        controllers, _, path = controllers_and_path.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        mount = root if not controllers else root / (controller if (root / controller).is_dir() else controllers)
        group = PurePosixPath(path.lstrip("/"))
        if ".." in group.parts:
            group = PurePosixPath()
        yield from (mount / each for each in (group, *group.parents) if (mount / each).is_dir())


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, ValueError):
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _number(path: Path) -> int | None:
    words = _words(path)
    return int(words[0]) if len(words) == 1 and words[0].isdecimal() else None


def _statistic(path: Path, name: str) -> int:
    found = [line.split()[1] for line in _lines(path) if line.split()[:1] == [name] and len(line.split()) == 2]
    return int(found[0]) if found and found[0].isdecimal() else 0
