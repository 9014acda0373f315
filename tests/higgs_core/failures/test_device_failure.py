"""Which errors poison a device, and which are a job's own."""

from __future__ import annotations

import pytest
import torch

from higgs_core.failures.device_failure import is_device_failure

POISONED = [
    torch.AcceleratorError("CUDA error: device-side assert triggered"),
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("CUDA driver error: device is lost"),
    RuntimeError("cuBLAS error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_INTERNAL_ERROR when calling cublasGemmEx"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED_CUDART"),
    RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
]
"""Errors as torch, CUDA's libraries and Triton raise them."""

OWN = [
    RuntimeError("The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 1"),
    ValueError("CUDA error: said by something else than the device"),
    AssertionError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB."),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
]


@pytest.mark.parametrize("error", POISONED, ids=str)
def test_the_device_has_failed(error: Exception) -> None:
    assert is_device_failure(error)


@pytest.mark.parametrize("error", OWN, ids=str)
def test_the_device_still_works(error: Exception) -> None:
    assert not is_device_failure(error)
