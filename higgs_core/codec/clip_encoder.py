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
from higgs_core.rates import FRAME_SAMPLES


class ClipEncoder:
    """Callable: AudioContent to int64 [Q, T]. codec: None takes codes only. largest_code: the codec's last entry."""

    def __init__(self, codec: CodecWorker | None, num_codebooks: int, largest_code: int) -> None:
        self._codec = codec
        self._num_codebooks = num_codebooks
        self._largest = largest_code

    def loaded(self, clip: AudioContent) -> AudioContent:
        """The clip as a waveform or as codes, neither encoded nor copied if it is one already.

        Raises RequestError for codes of another shape or range, and ReferenceAudioError for unusable audio.
        """
        if clip.codes is not None:
            return AudioContent(codes=self._checked(np.asarray(clip.codes)))
        if self._codec is None:
            raise RequestError("This engine has no audio tokenizer, so clips must be given as codes.")
        return AudioContent(waveform=_waveform(clip))

    @staticmethod
    def frames(loaded: AudioContent) -> int:
        """How many frames a loaded clip has once it is encoded."""
        if loaded.codes is not None:
            return int(loaded.codes.shape[1])
        return len(loaded.waveform) // FRAME_SAMPLES if loaded.waveform is not None else 0

    def __call__(self, clip: AudioContent) -> torch.Tensor:
        """The codes of a clip, loaded or not. Raises as `loaded` does."""
        if clip.codes is not None:
            return torch.from_numpy(self._checked(np.asarray(clip.codes)).astype(np.int64))
        loaded = self.loaded(clip)
        assert self._codec is not None
        assert loaded.waveform is not None
        return self._codec.encode(loaded.waveform).result()

    def _checked(self, given: np.ndarray) -> np.ndarray:
        integers = np.issubdtype(given.dtype, np.integer)
        if not integers or given.ndim != 2 or given.shape[0] != self._num_codebooks or given.shape[1] == 0:
            raise RequestError(
                f"codes of a clip are {given.dtype} {list(given.shape)}; allowed are integers "
                f"[{self._num_codebooks}, T]."
            )
        if given.min() < 0 or given.max() > self._largest:
            raise RequestError(f"codes of a clip lie in {given.min()}..{given.max()}; allowed is 0..{self._largest}.")
        return given


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
