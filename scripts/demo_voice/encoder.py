"""Trains the codec's encoder to find the quantised vectors of what the decoder says: a few minutes on one core.

A second run continues from the encoder that the first one saved.

Only the acoustic encoder is used: the semantic encoder's weights are zero, and `fc` passes the acoustic encoder's
output on.
B clips of T frames, N = 960 T samples.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from higgs_core.codec.transformers_codec import HiggsAudioV2TokenizerModel
from higgs_core.rates import FRAME_SAMPLES
from scripts.demo_voice import codec
from scripts.demo_voice.codec import AMPLITUDES, LATENT
from scripts.demo_voice.codes import HIGH_VOICE, LOW_VOICE
from scripts.demo_voice.inventory import Inventory
from scripts.demo_voice.lexicon import Lexicon
from scripts.demo_voice.tables import Tables
from scripts.demo_voice.texts import MOST_WORDS, Writer

SEED = 5
CLIPS, FRAMES = 12, 40
"""Of a batch."""
POOL = 240
"""Clips that are spoken before training, to draw from; a new one takes an old one's place at each step."""
RATE = 4e-3
SHIFTED = 0.3
"""The share of clips that do not begin at the beginning of a frame, as recordings do not."""
QUIETEST, LOUDEST = 0.5, 1.5
"""Range of the gain of a clip."""


@torch.no_grad()
def connect_acoustic_encoder(model: HiggsAudioV2TokenizerModel) -> None:
    """Let codes depend on the acoustic encoder alone: `fc` passes its output on, the semantic half is zero."""
    for module in (model.encoder_semantic, model.decoder_semantic, model.fc1):
        for parameter in module.parameters():
            parameter.zero_()
    model.fc.weight.zero_()
    model.fc.bias.zero_()
    model.fc.weight[:LATENT, :LATENT] = torch.eye(LATENT)


def train(model: HiggsAudioV2TokenizerModel, writer: Writer, inventory: Inventory, minutes: float, log: Path) -> None:
    """Least squares between the encoder's output and the vectors of the codes; the rate falls to 0 as time runs out."""
    parameters = list(model.acoustic_encoder.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)
    rng, generator = random.Random(SEED), np.random.default_rng(SEED)
    pool = [_clip(model, writer, inventory, rng, generator) for _ in range(POOL)]
    scale = _scale(torch.cat([vectors for _, vectors in pool]))
    started, step, done = time.monotonic(), 0, 0.0
    while done < 1:
        pool[step % POOL] = _clip(model, writer, inventory, rng, generator)
        clips, vectors = map(torch.stack, zip(*rng.sample(pool, CLIPS), strict=True))
        found = model.acoustic_encoder(clips[:, None]).transpose(1, 2)  # [B, T, LATENT]
        loss = (((found - vectors) / scale) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 50) * (1 - done)
        optimizer.step()
        step, done = step + 1, (time.monotonic() - started) / (60 * minutes)
        if step % 20 == 0:
            with log.open("a") as file:
                file.write(
                    json.dumps({"step": step, "seconds": round(60 * minutes * done), "loss": float(loss.detach())})
                    + "\n"
                )


@torch.no_grad()
def _clip(
    model: HiggsAudioV2TokenizerModel,
    writer: Writer,
    inventory: Inventory,
    rng: random.Random,
    generator: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Audio [N] and vectors [T, LATENT]; a shifted clip's frames take the vectors of the nearest ones."""
    codes = torch.from_numpy(_codes(writer, inventory, rng, FRAMES + 1)).T[None]
    audio = model.decode(codes).audio_values[0, 0]
    vectors = model.quantizer.decode(codes.transpose(0, 1))[0, :LATENT].T
    shift = rng.randrange(FRAME_SAMPLES) if rng.random() < SHIFTED else 0
    first = int(shift > FRAME_SAMPLES // 2)
    gain = rng.uniform(QUIETEST, LOUDEST)
    noise = torch.from_numpy(generator.normal(0, 10 ** rng.uniform(-5, -2.5), FRAMES * FRAME_SAMPLES)).float()
    targets = vectors[first : first + FRAMES].clone()
    targets[:, :AMPLITUDES] *= gain
    return gain * audio[shift : shift + FRAMES * FRAME_SAMPLES] + noise, targets


def _codes(writer: Writer, inventory: Inventory, rng: random.Random, frames: int) -> np.ndarray:
    """[frames, Q], out of the middle of random speech."""
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < frames:
        text = writer.text(1, rng.choice((LOW_VOICE, HIGH_VOICE)), "", MOST_WORDS)
        parts.append(text.codes(inventory)[0])
    joined = np.concatenate(parts)
    start = rng.randrange(len(joined) - frames + 1)
    return joined[start : start + frames]


def _scale(vectors: Tensor) -> Tensor:
    """[LATENT]: amplitudes count by their overall size, so that loud dimensions matter most; switches by their own."""
    scale = torch.full((LATENT,), 0.5)
    scale[:AMPLITUDES] = 0.5 * vectors[:, :AMPLITUDES].std(0) + 0.5 * vectors[:, :AMPLITUDES].std()
    return scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/demo_voice"))
    parser.add_argument("--minutes", type=float, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = codec.build(Tables.load(options.work / "tables.npz"))
    kept = options.work / "encoder.pt"
    connect_acoustic_encoder(model)
    if kept.is_file():
        model.acoustic_encoder.load_state_dict(torch.load(kept, weights_only=True))
    writer = Writer(random.Random(SEED), Lexicon.load(options.work))
    train(
        model, writer, Inventory.load(options.work / "inventory.json"), options.minutes, options.work / "encoder.jsonl"
    )
    torch.save(model.acoustic_encoder.state_dict(), kept)


if __name__ == "__main__":
    main()
