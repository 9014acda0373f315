"""How many threads torch computes with on a CPU. torch itself counts the host's cores, whatever a container may use."""

from __future__ import annotations

import logging
import os

import torch

from higgs_core.host.cgroup import cpu_quota

log = logging.getLogger(__name__)


def keep_to_quota(quota: float | None = None) -> None:
    """Have torch use no more threads than the container has CPUs; OMP_NUM_THREADS, if set, goes before.

    quota: CPUs, None for the process' own. With more threads than that, each waits for those that the kernel holds back
    until the next period.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return
    quota = cpu_quota() if quota is None else quota
    if quota is not None and (allowed := max(int(quota), 1)) < torch.get_num_threads():
        torch.set_num_threads(allowed)
        log.info("torch uses %d threads: this container has %.3g CPUs", allowed, quota)
