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
from scripts.demo_voice.inventory import PAUSES, PITCH, Inventory, Sound
from scripts.demo_voice.lexicon import Lexicon
from scripts.demo_voice.sequences import HIGH_VOICE, LEVELS, LOW_VOICE
from scripts.demo_voice.source import PAUSE
from scripts.demo_voice.tables import Tables
from scripts.demo_voice.texts import BASE, Text, Writer


def work() -> Path:
    """The folder of everything that is made on the way."""
    return Path(os.environ.get("DEMO_VOICE_WORK", "build/demo_voice"))


def speak(text: str, voice: int = LOW_VOICE) -> tuple[NDArray[np.float32], int]:
    """Audio float32 [N] and its rate. SPEAKER tags choose the voice: even numbers the high one."""
    codes = torch.from_numpy(codes_of(text, voice)).T[None]
    with torch.inference_mode():
        return _codec().decode(codes).audio_values[0, 0].numpy(), SAMPLING_RATE


def codes_of(text: str, voice: int = LOW_VOICE) -> NDArray[np.int64]:
    """Codes [T, Q] of a text, sentence by sentence."""
    writer, inventory = _writer()
    spoken = Text()
    spoken.sounds.append(Sound(PAUSE, frames=PAUSES["start"]))
    for values, value in ((spoken.levels, BASE), (spoken.voices, voice), (spoken.letters, 0), (spoken.ends, 0)):
        values.append(value)
    for number, sentence in enumerate(re.split(r"(?<=[.!?;])\s+|\n+", text.strip())):
        if tag := re.match(r"\[SPEAKER(\d+)\]\s*", sentence):
            voice = HIGH_VOICE if int(tag[1]) % 2 == 0 else LOW_VOICE
            sentence = sentence[tag.end() :]
        if number:
            spoken.pause("sentence", voice)
        writer.add(spoken, [(token, None) for token in sentence.split()], voice)
    spoken.pause("end", voice)
    codes, owners = inventory.codes(spoken.sounds)
    codes[:, PITCH] = (np.array(spoken.voices) * LEVELS + np.array(spoken.levels))[owners]
    return codes


@cache
def _writer() -> tuple[Writer, Inventory]:
    return Writer(random.Random(0), Lexicon.load(work())), Inventory.load(work() / "inventory.json")


@cache
def _codec() -> codec.HiggsAudioV2TokenizerModel:
    return codec.build(Tables.load(work() / "tables.npz"))
