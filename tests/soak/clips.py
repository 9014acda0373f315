"""Reference clips of the soak: random noise of any length in several formats, and files that mean harm."""

from __future__ import annotations

import base64
import io
import random
import struct

import numpy as np
import soundfile

RATE = 24_000
_SAVED_AS = (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"))


def base64_text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def noise(draw: random.Random, seconds: float) -> np.ndarray:
    """float32 [N] at RATE."""
    samples = np.random.default_rng(draw.getrandbits(32)).standard_normal(round(seconds * RATE))
    return np.float32(0.1) * samples.astype(np.float32)


def saved(samples: np.ndarray, file_format: str = "WAV", subtype: str = "PCM_16") -> bytes:
    target = io.BytesIO()
    soundfile.write(target, samples, RATE, format=file_format, subtype=subtype)
    return target.getvalue()


def random_clip(draw: random.Random) -> bytes:
    """A file of 0.5 to 15 seconds; no two have the same length or content."""
    return saved(noise(draw, draw.uniform(0.5, 15.0)), *draw.choice(_SAVED_AS))


def hostile_clips(draw: random.Random) -> dict[str, bytes]:
    """Files that no worker can or should speak with, by what is wrong with them."""
    good = saved(noise(draw, 1.0))
    flac = bytearray(saved(noise(draw, 1.0), "FLAC"))
    flac[18:26] = (655_350 << 44 | 7 << 41 | 15 << 36 | 2**36 - 1).to_bytes(8, "big")
    unsound = noise(draw, 1.0)
    unsound[draw.randrange(len(unsound))] = np.nan
    return {
        "cut in its header": good[: draw.randrange(1, 44)],
        "flac whose header lies": bytes(flac),
        "not a number": saved(unsound, "WAV", "FLOAT"),
        "silence": saved(np.zeros(RATE, np.float32)),
        "too short": saved(noise(draw, 0.01)),
        "no audio": draw.randbytes(draw.randrange(1, 50_000)),
        "a web page": b"<!doctype html><title>Not found</title>" * draw.randrange(1, 50),
        "a playlist": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "wav of a strange rate": good[:24] + struct.pack("<I", 2**31 - 1) + good[28:],
    }
