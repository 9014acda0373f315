"""Whether a process holds what it held before: a verdict over its samples at rest.

It compares rests by the number of jobs before them, never by time, so that a busy machine changes nothing. The first
WARM_UP of the jobs fill caches, pools and arenas, and are left out. The slope is Theil's and Sen's, the median of the
slopes of all pairs (Sen 1968, "Estimates of the regression coefficient based on Kendall's tau"): a single outlier does
not move it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from tests.soak.watch import Sample

WARM_UP = 1 / 3
"""The share of the jobs."""

MOST_MB_PER_1000_JOBS = 40.0
MOST_MB = 100.0
"""Over all jobs after the warm-up. A short run may grow as much: caches that are bounded still fill."""

MORE_HANDLES = 8
"""Files, or threads, over those of the first rest after the warm-up. The SDK keeps a connection for some seconds for
each job that was in flight, so that their number varies by the lanes."""


@dataclass(frozen=True)
class Flatness:
    """mb_per_1000_jobs, mb: the slope of the allocated memory, and what it makes over the jobs that were looked at.

    files, threads, children: at the last rest, over the first one after the warm-up.
    """

    mb_per_1000_jobs: float
    mb: float
    files: int
    threads: int
    children: int

    @property
    def faults(self) -> list[str]:
        """What is not flat, in words; empty when all of it is."""
        found = []
        if self.mb > MOST_MB and self.mb_per_1000_jobs > MOST_MB_PER_1000_JOBS:
            found.append(f"memory grew by {self.mb_per_1000_jobs:.0f} MB in 1000 jobs")
        for name, more, allowed in (
            ("open files", self.files, MORE_HANDLES),
            ("threads", self.threads, MORE_HANDLES),
            ("child processes", self.children, 0),
        ):
            if more > allowed:
                found.append(f"{more} {name} more than after the warm-up")
        return found


def flatness(rests: Sequence[Sample]) -> Flatness:
    """rests: of an idle process, by ascending jobs; at least two of them after the warm-up."""
    warm = [rest for rest in rests if rest.jobs >= WARM_UP * rests[-1].jobs]
    first, last = warm[0], warm[-1]
    slope = median(
        (later.anonymous - earlier.anonymous) / (later.jobs - earlier.jobs) for earlier, later in combinations(warm, 2)
    )
    return Flatness(
        mb_per_1000_jobs=round(1000 * slope, 1),
        mb=round(slope * (last.jobs - first.jobs), 1),
        files=last.files - first.files,
        threads=last.threads - first.threads,
        children=last.children - first.children,
    )
