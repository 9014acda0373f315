"""Counts the nodes of the CUDA graph that would capture a piece of code, without a GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

_NO_KERNEL = frozenset(("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "alias"))


class _TorchCalls(TorchDispatchMode):
    """Counts the operations that run a kernel: all but views and memory that is left as it is."""

    def __init__(self, nodes: Counter[str]) -> None:
        super().__init__()
        self._nodes = nodes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if not func.is_view and name not in _NO_KERNEL:
            self._nodes[name] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def counting_nodes() -> Iterator[Counter[str]]:
    """Inside, each Triton kernel is counted under its name and not launched, each torch operation under its own.

    For tensors without storage (device "meta"). A torch operation counts as one node, though a matrix product that the
    library splits has two.
    """
    from triton.runtime.jit import JITFunction

    nodes: Counter[str] = Counter()
    run = JITFunction.run

    def count_only(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        nodes[self.fn.__name__] += 1

    JITFunction.run = count_only
    try:
        with _TorchCalls(nodes):
            yield nodes
    finally:
        JITFunction.run = run
