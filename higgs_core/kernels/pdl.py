"""Programmatic dependent launch (PDL): a kernel starts while the one before it in the stream still runs.

The kernel may read what no kernel of the step writes, such as weights, before `wait_for_previous`; everything else
comes behind it. From compute capability 9.0 on. Source: CUDA C++ Programming Guide, "Programmatic Dependent Launch and
Synchronization".
"""

from __future__ import annotations

from higgs_core.kernels.optional_triton import HAS_TRITON, jit, tl

if HAS_TRITON:
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

MIN_CAPABILITY = 90


@jit
def wait_for_previous(PDL: tl.constexpr) -> None:
    """Behind this, what the kernels before wrote can be read. Every kernel that is launched with PDL calls it."""
    if PDL:
        gdc_wait()


@jit
def let_next_start(PDL: tl.constexpr) -> None:
    """The next kernel may start, as soon as every program has come here; its own wait still covers this kernel."""
    if PDL:
        gdc_launch_dependents()


def launch_options(*, pdl: bool) -> dict[str, bool]:
    """Keyword arguments of a kernel's launch."""
    return {"launch_pdl": True} if pdl else {}
