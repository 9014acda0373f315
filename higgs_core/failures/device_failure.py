"""Which errors mean that a device can be used no more, so that only a new process helps."""

from __future__ import annotations

import torch

from higgs_core.failures.device_memory import is_out_of_memory

_MESSAGES = (
    "CUDA error",  # torch: an illegal access, a failed assertion, a launch that failed, a lost device
    "CUDA driver error",
    "Triton Error [CUDA]",
    "device-side assert",
    "illegal memory access",
    "CUBLAS_STATUS_INTERNAL_ERROR",
    "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUBLAS_STATUS_MAPPING_ERROR",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # what a handle says that is made after the device has failed
    "CUDNN_STATUS_INTERNAL_ERROR",
    "CUDNN_STATUS_EXECUTION_FAILED",
    "CUDNN_STATUS_MAPPING_ERROR",
    "CUDNN_STATUS_NOT_INITIALIZED",
)


def is_device_failure(error: BaseException) -> bool:
    """Whether an error says that the device has failed: torch's own error, or one of the CUDA libraries'.

    Behind an illegal access or a failed assertion every later call of CUDA's fails too, or gives wrong results.
    Memory that runs out is no such failure.
    """
    if is_out_of_memory(error):
        return False
    if isinstance(error, torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)
