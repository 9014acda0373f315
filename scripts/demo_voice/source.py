"""The source voice: flite's `kal16` (Debian's libflite1), through its C library, with the times of its phones.

The library rather than the command, because only it tells which word and syllable a phone belongs to, and because
speaking a word takes 0.3 ms this way.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

PAUSE = "pau"


@dataclass(frozen=True)
class Segment:
    """A phone. end: in seconds.  stressed: in a stressed syllable.  word: its number in the text, -1 for a pause."""

    phone: str
    end: float
    stressed: bool
    word: int


@dataclass(frozen=True)
class Utterance:
    """audio: float32 [N] at `rate` samples a second."""

    audio: NDArray[np.float32]
    rate: int
    segments: tuple[Segment, ...]


class _Wave(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    )


@cache
def _library() -> tuple[ctypes.CDLL, ctypes.c_void_p]:
    """libflite, and its voice. Raises OSError unless Debian's libflite1 is installed."""
    flite = ctypes.CDLL("libflite.so.1", mode=ctypes.RTLD_GLOBAL)
    for name in ("libflite_cmulex.so.1", "libflite_usenglish.so.1"):
        ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    kal16 = ctypes.CDLL("libflite_cmu_us_kal16.so.1", mode=ctypes.RTLD_GLOBAL)
    for name, result, arguments in (
        ("flite_synth_text", ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_void_p)),
        ("utt_wave", ctypes.POINTER(_Wave), (ctypes.c_void_p,)),
        ("utt_relation", ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_char_p)),
        ("relation_head", ctypes.c_void_p, (ctypes.c_void_p,)),
        ("path_to_item", ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_char_p)),
        ("item_next", ctypes.c_void_p, (ctypes.c_void_p,)),
        ("ffeature_string", ctypes.c_char_p, (ctypes.c_void_p, ctypes.c_char_p)),
        ("ffeature_float", ctypes.c_float, (ctypes.c_void_p, ctypes.c_char_p)),
        ("delete_utterance", None, (ctypes.c_void_p,)),
    ):
        function = getattr(flite, name)
        function.restype, function.argtypes = result, arguments
    flite.flite_init()
    register = kal16.register_cmu_us_kal16
    register.restype, register.argtypes = ctypes.c_void_p, (ctypes.c_char_p,)
    return flite, ctypes.c_void_p(register(None))


def speak(text: str) -> Utterance:
    """Speak one line of text."""
    flite, voice = _library()
    utterance = flite.flite_synth_text(text.encode(), voice)
    try:
        wave = flite.utt_wave(utterance).contents
        audio = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).astype(np.float32) / 32768
        segments = []
        words = 0
        item = flite.relation_head(flite.utt_relation(utterance, b"Segment"))
        last_word = None
        while item:
            phone = flite.ffeature_string(item, b"name").decode()
            word = -1
            if phone != PAUSE:
                here = flite.path_to_item(item, b"R:SylStructure.parent.parent")
                if here != last_word:  # an item of its own even where a word is said twice
                    words += 1
                word, last_word = words - 1, here
            stressed = flite.ffeature_string(item, b"R:SylStructure.parent.stress") == b"1"
            segments.append(Segment(phone, flite.ffeature_float(item, b"end"), stressed, word))
            item = flite.item_next(item)
        return Utterance(audio, wave.sample_rate, tuple(segments))
    finally:
        flite.delete_utterance(utterance)
