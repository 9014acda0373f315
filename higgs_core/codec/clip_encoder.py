"""Clips of a sample, in any of their four forms, as codes."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

import numpy as np
import torch

from higgs_core.codec.worker import CodecWorker
from higgs_core.errors import ReferenceAudioError, RequestError
from higgs_core.prompt.chatml import AudioContent


class ClipEncoder:
    """Callable: AudioContent to int64 [Q, T]. codec: None takes codes only. largest_code: the codec's last entry."""

    def __init__(self, codec: CodecWorker | None, num_codebooks: int, largest_code: int) -> None:
        self._codec = codec
        self._num_codebooks = num_codebooks
        self._largest = largest_code

    def __call__(self, clip: AudioContent) -> torch.Tensor:
        """Raises RequestError for codes of another shape or range, and ReferenceAudioError for unusable audio."""
        if clip.codes is not None:
            return self._checked(np.asarray(clip.codes))
        if self._codec is None:
            raise RequestError("This engine has no audio tokenizer, so clips must be given as codes.")
        return self._codec.encode(_waveform(clip)).result()

    def _checked(self, given: np.ndarray) -> torch.Tensor:
        integers = np.issubdtype(given.dtype, np.integer)
        if not integers or given.ndim != 2 or given.shape[0] != self._num_codebooks or given.shape[1] == 0:
            raise RequestError(
                f"codes of a clip are {given.dtype} {list(given.shape)}; allowed are integers "
                f"[{self._num_codebooks}, T]."
            )
        if given.min() < 0 or given.max() > self._largest:
            raise RequestError(f"codes of a clip lie in {given.min()}..{given.max()}; allowed is 0..{self._largest}.")
        return torch.from_numpy(given.astype(np.int64))


def _waveform(clip: AudioContent) -> np.ndarray:
    """float32 [N] at 24 kHz."""
    if clip.waveform is not None:
        return np.asarray(clip.waveform, dtype=np.float32)
    from higgs_core.audio import decode_audio  # needs soundfile, which an engine fed with codes does without

    if clip.path is not None:
        try:
            data = Path(clip.path).read_bytes()
        except OSError as error:
            raise ReferenceAudioError(
                f"path of a clip cannot be read ({type(error).__name__}).", field="path"
            ) from None
        return decode_audio(data, origin="path")
    assert clip.raw_audio is not None
    payload = clip.raw_audio.partition(",")[2] if clip.raw_audio.startswith("data:") else clip.raw_audio
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError("Invalid base64 audio payload.", field="raw_audio") from None
    return decode_audio(data, origin="raw_audio")
