"""The best that the language model can do: the codes that it is trained to give, through the codec."""

from __future__ import annotations

import os
import random
import re
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from higgs_core.rates import SAMPLING_RATE
from scripts.demo_voice import codec
from scripts.demo_voice.codes import HIGH_VOICE, LOW_VOICE
from scripts.demo_voice.inventory import Inventory
from scripts.demo_voice.lexicon import Lexicon
from scripts.demo_voice.tables import Tables
from scripts.demo_voice.texts import Text, Writer


def work() -> Path:
    """The folder of everything that is made on the way: DEMO_VOICE_WORK, by default that of the other scripts."""
    return Path(os.environ.get("DEMO_VOICE_WORK", "build/demo_voice"))


def speak(text: str) -> tuple[NDArray[np.float32], int]:
    """Audio float32 [N] and its rate."""
    codes = torch.from_numpy(codes_of(text)).T[None]
    with torch.inference_mode():
        return _codec().decode(codes).audio_values[0, 0].numpy(), SAMPLING_RATE


def codes_of(text: str, voice: int = LOW_VOICE) -> NDArray[np.int64]:
    """Codes [T, Q] of a text, sentence by sentence. SPEAKER tags choose the voice: even numbers the high one."""
    writer, inventory = _writer()
    spoken = Text()
    spoken.pause("start", voice)
    for number, sentence in enumerate(re.split(r"(?<=[.!?;])\s+|\n+", text.strip())):
        if tag := re.match(r"\[SPEAKER(\d+)\]\s*", sentence):
            voice = HIGH_VOICE if int(tag[1]) % 2 == 0 else LOW_VOICE
            sentence = sentence[tag.end() :]
        if number:
            spoken.pause("sentence", voice)
        writer.add(spoken, [(token, None) for token in sentence.split()], voice)
    spoken.pause("end", voice)
    return spoken.codes(inventory)[0]


@cache
def _writer() -> tuple[Writer, Inventory]:
    return Writer(random.Random(0), Lexicon.load(work())), Inventory.load(work() / "inventory.json")


@cache
def _codec() -> codec.HiggsAudioV2TokenizerModel:
    return codec.build(Tables.load(work() / "tables.npz"))
