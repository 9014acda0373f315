"""Which failures mean that the device ran out of memory."""

from __future__ import annotations

import torch

_MESSAGES = (
    "out of memory",  # the driver's word, also through Triton's launcher
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "ALLOCATION_FAILED",  # cuDNN 9: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED, ..._HOST_ALLOCATION_FAILED
    "unable to find an engine to execute",  # torch, when no algorithm of cuDNN gets the workspace that it asks for
    "can't allocate memory",  # torch's allocator of host memory
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be allocated: torch's own error, or one of the CUDA libraries'."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)
