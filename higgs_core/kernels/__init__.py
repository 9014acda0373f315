"""Kernels of the decode step: Triton, each beside the torch function that it replaces and is checked against."""

from higgs_core.kernels.ops import Ops, torch_ops
from higgs_core.kernels.select_ops import ops_for

__all__ = ["Ops", "ops_for", "torch_ops"]
