"""Decodes of the few shapes that streams need, captured in CUDA graphs: one launch instead of two hundred.

Streams ask for chunks of a handful of lengths. Each is captured for one row and for a few; a batch is put together of
those. Any other length is not captured and is decoded plainly.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch

from higgs_core.codec.audio_codec import AudioCodec, to_host
from higgs_core.graph_capture import ERROR_MODE, ended_on_failure
from higgs_core.rates import FRAME_SAMPLES

log = logging.getLogger(__name__)

ROWS = (4, 1)
"""Rows of the captured decodes of a length. Seven rows are a replay of four and three of one."""

_TOLERANCE = 1e-4  # share of the loudest sample; a captured decode runs the same kernels

Capture = Callable[[Callable[[], torch.Tensor]], tuple[Callable[[], None], torch.Tensor]]
"""Of a function of static tensors: what runs it again, and the tensor that then holds its result."""


class DecodeGraphs:
    """Belongs to one thread, and to the stream that is current there when it is used."""

    def __init__(self, codec: AudioCodec, device: torch.device, capture: Capture | None = None) -> None:
        self._codec = codec
        self._device = device
        self._capture = capture or CudaCapture()
        self._captured: dict[int, dict[int, _CapturedDecode]] = {}  # by frames, then by rows

    @property
    def lengths(self) -> tuple[int, ...]:
        """Frames of the decodes that are captured, ascending."""
        return tuple(sorted(self._captured))

    def prepare(self, lengths: Iterable[int]) -> None:
        """Capture decodes of so many frames. When one fails, it and those to come are left out, with one warning."""
        for frames in sorted(set(lengths) - self._captured.keys(), reverse=True):  # the largest sizes the pool
            try:
                self._captured[frames] = {rows: self._checked(rows, frames) for rows in ROWS}
            except Exception as error:  # a driver may raise anything, and decoding works without
                log.debug("Capturing a decode failed", exc_info=error)
                log.warning(
                    "A decode of %d frames cannot be captured, with %s; the audio codec runs it and shorter ones one "
                    "launch at a time, which is slower",
                    frames,
                    type(error).__name__,
                )
                return

    @torch.inference_mode()
    def decode(self, codes: torch.Tensor) -> torch.Tensor | None:
        """As `AudioCodec.decode`; None when decodes of so many frames are not captured."""
        rows, _, frames = codes.shape
        captured = self._captured.get(frames)
        if captured is None:
            return None
        audio = torch.empty(rows, frames * FRAME_SAMPLES)
        first = 0
        while first < rows:
            together = next(size for size in ROWS if size <= rows - first)
            part = slice(first, first + together)
            audio[part] = captured[together](codes[part])
            first += together
        return audio

    @torch.inference_mode()
    def _checked(self, rows: int, frames: int) -> _CapturedDecode:
        """Captured, and compared with a plain decode of other codes than those it was captured with."""
        shape = (rows, self._codec.num_codebooks, frames)
        captured = _CapturedDecode(
            self._codec, torch.zeros(shape, dtype=torch.int64, device=self._device), self._capture
        )
        generator = torch.Generator().manual_seed(frames)
        codes = torch.randint(0, self._codec.codebook_size, shape, generator=generator)
        expected = to_host(self._codec.decode_on_device(codes.to(self._device))).clone()
        off = (captured(codes) - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
        if not off <= _TOLERANCE:  # true for NaN too
            raise ReplayDiffersError(f"off by {off:.2g} of the loudest sample")
        log.debug("Captured the decode of %d rows of %d frames", rows, frames)
        return captured


class ReplayDiffersError(Exception):
    """A captured decode gives other audio than a plain one."""


class _CapturedDecode:
    """One shape. The codes are written to a tensor that the graph reads."""

    def __init__(self, codec: AudioCodec, codes: torch.Tensor, capture: Capture) -> None:
        """codes: int64 [rows, Q, T] on the device, whose values do not matter."""
        self._codes = codes
        self._replay, self._audio = capture(lambda: codec.decode_on_device(codes))

    def __call__(self, codes: torch.Tensor) -> torch.Tensor:
        """int64 [rows, Q, T] to float32 [rows, T * 960], both on the host; to be copied before the next call."""
        self._codes.copy_(codes)
        self._replay()
        return to_host(self._audio)


class CudaCapture:
    """Captures on the current stream, whose priority the graph keeps. The graphs share one pool of memory."""

    def __init__(self) -> None:
        self._pool: Any = None  # one graph runs at a time, and its result is copied before the next

    def __call__(self, run: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        run()  # loads kernels and has cuDNN choose its algorithms, which cannot be captured
        torch.cuda.current_stream().synchronize()
        graph = torch.cuda.CUDAGraph()
        # Not `torch.cuda.graph`, which waits for the whole device and empties torch's cache of memory.
        pool = torch.cuda.graph_pool_handle() if self._pool is None else self._pool
        self._pool = None  # after a failure the next capture begins a pool of its own
        with ended_on_failure(graph, pool):
            graph.capture_begin(pool=pool, capture_error_mode=ERROR_MODE)
            result = run()
            graph.capture_end()
        self._pool = pool
        return graph.replay, result
