"""A barrier of all programs of a launch, which must all be resident on the GPU at the same time.

A round adds exactly 2 ** 31 to a 32-bit counter: 1 for each program and, for the first one, what is missing. So its
highest bit flips when the last program has arrived, and the counter is ready for the next launch, of whatever number of
programs. Source: the grid synchronisation of CUDA's cooperative groups.
"""

from __future__ import annotations

from functools import cache

import torch

from higgs_core.kernels.optional_triton import jit, tl

MAX_POLLS = 1 << 20
"""Half a second or more, so far beyond any wait for another stream's kernels that something is wrong."""


@jit
def phase_of(arrivals: tl.tensor) -> tl.tensor:
    """The counter before this program arrives, for `wait_for_all`; its highest bit cannot change until then.

    arrivals: int32 [1], zeros at first, the same for launches that follow one another.
    """
    return tl.load(arrivals, cache_modifier=".cg")  # an L1 cache may hold what it was before


@jit
def arrive(arrivals: tl.tensor) -> None:
    """What this program has stored so far can be loaded by all behind their `wait_for_all`."""
    share = tl.where(tl.program_id(0) == 0, (1 - tl.num_programs(0)) ^ -(2**31), 1)
    tl.debug_barrier()  # the stores of every thread come before the arrival
    tl.atomic_add(arrivals, share, sem="release", scope="gpu")


@jit
def wait_for_all(arrivals: tl.tensor, phase: tl.tensor, MAX_POLLS: tl.constexpr) -> tl.tensor:
    """Whether all programs arrived before this one had asked MAX_POLLS times.

    What they stored is to be loaded with cache_modifier ".cg". Without a bound a launch of more programs than the GPU
    can hold would never end.
    """
    now = tl.atomic_add(arrivals, 0, sem="acquire", scope="gpu")
    polls = 1
    while ((phase ^ now) >= 0) & (polls < MAX_POLLS):
        now = tl.atomic_add(arrivals, 0, sem="acquire", scope="gpu")
        polls += 1
    tl.debug_barrier()  # the loads of every thread come after the acquisition
    return (phase ^ now) < 0


@cache
def arrivals_of(device: torch.device) -> torch.Tensor:
    """The counter of a device, int32 [1]. Launches that use it follow one another."""
    return torch.zeros(1, dtype=torch.int32, device=device)
