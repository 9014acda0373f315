"""Who may speak the held-out texts: the voice that the model learned from, its codes alone, or the engine."""

from __future__ import annotations

import asyncio
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

Clip = tuple[NDArray[Any], int]
"""Mono audio [N] and its samples a second."""
Speak = Callable[[str], Clip]

SOURCE_VOICE = "kal16"


def speak_as_source(text: str) -> Clip:
    """`text` by the synthesizer flite, int16; speaker tags and sounds are left out."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speech.wav"
        # flite ends an utterance at a line's end only with punctuation, and takes a text without a space for a file
        words = " ".join(re.sub(r"\[[^\]]*\]", " ", text).split())
        subprocess.run(["flite", "-voice", SOURCE_VOICE, "-t", words, "-o", str(file)], check=True)
        return soundfile.read(file, dtype="int16")


@contextmanager
def source() -> Iterator[Speak]:
    """The voice that the model learned from."""
    yield speak_as_source


@contextmanager
def ceiling() -> Iterator[Speak]:
    """The codes that the model is trained to give for a text, decoded: the model can do no better."""
    from scripts.demo_voice.ceiling import speak

    yield speak


@contextmanager
def engine() -> Iterator[Speak]:
    """The speech service with `demo`, on the CPU; a long text is cut in pieces and everything has a seed."""
    from serverless.config.settings import Settings
    from serverless.service.service import SpeechService

    service = SpeechService(Settings(model_id="demo", device="cpu", max_concurrency=1))
    service.load()

    def speak(text: str) -> Clip:
        response = asyncio.run(service.run({"script": text, "seed": 1}, job_id="held-out"))
        return np.asarray(response.speech.audio), response.speech.sampling_rate

    with closing(service):
        yield speak


SPEAKERS = {"source": source, "ceiling": ceiling, "engine": engine}
"""Name of a speaker to what opens it."""
