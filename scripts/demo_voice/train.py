"""Trains the demo voice's language model on the CPU: `python -m scripts.demo_voice.train --work build/demo_voice`.

Two processes of one thread each by default, with their gradients averaged; bf16 products, fp32 weights. What a step
draws follows from the seed, the step's number, the process and the share of the time that is over, which sets how many
long sequences there are and the learning rate; so two runs differ. A checkpoint is written every few minutes: the same
command takes a stopped run up again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from higgs_core.checkpoint.byte_tokenizer import byte_tokenizer
from higgs_core.prompt.tokenizer import HiggsTokenizer
from scripts.demo_voice.codes import CODES, EOS, IGNORED, LEFT, LEVELS, PITCH, RIGHT, SPOKEN_BOOKS, UNIT
from scripts.demo_voice.inventory import Inventory
from scripts.demo_voice.lexicon import Lexicon
from scripts.demo_voice.model import HIDDEN, Batch, DemoModel
from scripts.demo_voice.optimizer import Optimizer
from scripts.demo_voice.sequences import Sequence, Sequences
from scripts.demo_voice.texts import Writer

SEED = 8
SEQUENCES = 24
"""Of a step, in each process."""
POSITIONS = 5000
"""Of a micro-batch, padding included."""
ROWS = 128
"""The numbers of text positions and of columns of a micro-batch are multiples of it."""
RATE, WARM_UP = 2.4e-3, 100
WEIGHT_DECAY = 0.02
EMA = 0.997
CODE_DROPOUT = 0.12
GUIDE_WEIGHT = 0.2
SIMPLE_SHARE, SEVERAL = 0.25, 0.4
"""The share of a run with single sentences alone, and the share of longer sequences that it rises to in the next 4 per
cent of the run."""
BOOK_WEIGHTS = {UNIT: 1.0, LEFT: 0.3, PITCH: 0.5, RIGHT: 0.3}
CONTEXT_SHARE = 0.2
"""The share of columns whose context codes are learned; they are easy."""
CHECKPOINT_SECONDS = 240


class TrainedModel(DemoModel):
    """With one vector more: its product with every audio column's state is learned to be large.

    In a codebook that always holds 0 it is the row of that code, and its negative is every other row; it also scores
    the codes that their codebook does not use. used: how many codes each codebook uses.
    """

    def __init__(self, vocabulary: int, used: dict[int, int]) -> None:
        super().__init__(vocabulary)
        self.silent_head = torch.nn.Parameter(torch.zeros(HIDDEN))
        self._used = used

    def used_head(self, book: int) -> Tensor:
        """The rows of the codes in use; in codebook 0 that of the stream's EOS follows them."""
        rows = self.codebook_head(book)
        return torch.cat((rows[: self._used[book]], rows[-1:])) if book == UNIT else rows[: self._used[book]]


def batches(sequences: list[Sequence]) -> list[Batch]:
    """Micro-batches of sequences of similar length."""
    groups: list[list[Sequence]] = []
    for sequence in sorted(sequences, key=lambda one: len(one.tokens)):
        if not groups or (len(groups[-1]) + 1) * _round_up(len(sequence.tokens) + 1, 32) > POSITIONS:
            groups.append([])
        groups[-1].append(sequence)
    return [collate(group) for group in groups]


def collate(sequences: list[Sequence]) -> Batch:
    length = _round_up(max(len(sequence.tokens) for sequence in sequences) + 1, 32)  # the last position is padding
    tokens = torch.zeros(len(sequences), length, dtype=torch.int64)
    audio_at, text_at, text_targets = [], [], []
    for row, sequence in enumerate(sequences):
        ids = torch.tensor(sequence.tokens)
        tokens[row, : len(ids)] = ids.clamp(min=0)
        audio_at.append((ids < 0).nonzero()[:, 0] + row * length)
        for position, token in sequence.text_targets:
            text_at.append(row * length + position)
            text_targets.append(token)
    audio = torch.cat(audio_at)
    is_text = torch.ones(tokens.numel(), dtype=torch.bool)
    is_text[audio] = False

    def joined(name: str, filler: int) -> Tensor:
        rows = torch.from_numpy(np.concatenate([getattr(sequence, name) for sequence in sequences]))
        padding = torch.full((_round_up(len(rows), ROWS) - len(rows), rows.shape[1]), filler)
        return torch.cat((rows, padding))

    guides = joined("guides", -1)
    last = tokens.numel() - 1
    return Batch(
        tokens=tokens,
        text_at=padded(is_text.nonzero()[:, 0], last),
        audio_at=padded(audio, last),
        columns=joined("columns", 0),
        targets=joined("targets", IGNORED),
        learned_text_at=padded(torch.tensor(text_at), last, 64),
        text_targets=padded(torch.tensor(text_targets), IGNORED, 64),
        guides={"spoken": guides[:, 0], "next": guides[:, 1], "word_end": guides[:, 2]},
    )


def padded(values: Tensor, filler: int, multiple: int = ROWS) -> Tensor:
    """[n] up to a multiple: few different shapes, because the products' library makes code for each."""
    return torch.nn.functional.pad(values, (0, _round_up(len(values), multiple) - len(values)), value=filler)


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def losses(model: TrainedModel, batch: Batch, hidden_codes: Tensor | None) -> dict[str, Tensor]:
    """Means over a micro-batch, by name; `_process` weights each micro-batch by its share of the step's columns.

    hidden_codes: bool [N, Q] or None, see `DemoModel.forward`.
    """
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(batch, hidden_codes)
        found = {}
        for book in SPOKEN_BOOKS:
            is_learned = batch.targets[:, book] != IGNORED
            if book in (LEFT, RIGHT):
                is_learned &= torch.rand(is_learned.shape) < CONTEXT_SHARE
            rows = padded(is_learned.nonzero()[:, 0], -1)  # the last column is padding, or a last one: never learned
            logits = torch.nn.functional.linear(outputs.audio[rows], model.used_head(book))
            found[f"book{book}"] = cross_entropy(
                logits.float(), batch.targets[rows, book].clamp(max=len(logits[0]) - 1)
            )
        learned = outputs.audio[(batch.targets[:, UNIT] != IGNORED).nonzero()[:, 0]].float()
        found["silent"] = softplus(math.log(CODES - 1) - 2 * (learned @ model.silent_head)).mean()
        found["text"] = cross_entropy(outputs.text.float(), batch.text_targets)
    return found | {f"guide_{name}": loss for name, loss in outputs.guide_losses.items()}


def used_codes(inventory: Inventory) -> dict[int, int]:
    """How many codes each spoken codebook uses."""
    left, right = max(inventory.left.values()) + 1, max(inventory.right.values()) + 1
    return {UNIT: len(inventory.units), LEFT: left, PITCH: 2 * LEVELS, RIGHT: right}


def weight_of(name: str) -> float:
    if name.startswith("guide_"):
        return GUIDE_WEIGHT
    return BOOK_WEIGHTS[int(name[4:])] if name.startswith("book") else {"silent": 0.2, "text": 0.1}[name]


def rate_at(step: int, done: float) -> float:
    """done: the share of the run's time that is over."""
    return RATE * min((step + 1) / WARM_UP, 1.0) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def _process(rank: int, options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    if options.processes > 1:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", str(options.port))
        dist.init_process_group("gloo", rank=rank, world_size=options.processes)
    torch.manual_seed(SEED)
    tokenizer = HiggsTokenizer(byte_tokenizer())
    lexicon, inventory = Lexicon.load(options.work), Inventory.load(options.work / "inventory.json")
    model = TrainedModel(len(byte_tokenizer()), used_codes(inventory))
    optimizer = Optimizer(model, WEIGHT_DECAY)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoint = options.work / "training.pt"
    first, spent, seen = 0, 0.0, 0
    if checkpoint.is_file():
        kept = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        average, first, spent, seen = kept["average"], kept["step"], kept["seconds"], kept["sentences"]
    started = saved = time.monotonic()
    done, step = spent / (60 * options.minutes), first - 1
    while done < 1:
        step += 1
        rng = random.Random(f"{SEED} {step} {rank}")
        several = min(max(10 * (done - SIMPLE_SHARE), 0.0), SEVERAL)
        drawn = Sequences(tokenizer, inventory, Writer(rng, lexicon), rng)
        torch.manual_seed(rng.getrandbits(32))
        micro = batches([drawn.draw(several) for _ in range(options.sequences)])
        totals: dict[str, float] = {}
        for batch in micro:
            hidden = torch.rand(batch.columns.shape) < CODE_DROPOUT
            found = losses(model, batch, hidden)
            share = batch.columns.shape[0] / sum(other.columns.shape[0] for other in micro)
            torch.stack([loss * weight_of(name) for name, loss in found.items()]).sum().mul(share).backward()
            for name, loss in found.items():
                totals[name] = totals.get(name, 0.0) + float(loss.detach()) * share
        seen += options.processes * sum(int((batch.targets[:, UNIT] == EOS).sum()) for batch in micro)
        done = (spent + time.monotonic() - started) / (60 * options.minutes)
        done = _average_gradients(model, options.processes, done)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(rate_at(step, done))
        for parameter in model.parameters():
            parameter.grad = None
        decay = min(EMA, (step + 1) / (step + 10))
        for name, value in model.state_dict().items():
            average[name].lerp_(value, 1 - decay)
        now = time.monotonic()
        if rank == 0:
            row = {"step": step + 1, "seconds": round(spent + now - started, 1), "pieces": seen,
                   "rate": rate_at(step, done)} | {name: round(value, 4) for name, value in totals.items()}  # fmt: skip
            with (options.work / "training.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            if now - saved > CHECKPOINT_SECONDS or done >= 1:
                saved = now
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average,
                         "step": step + 1, "seconds": spent + now - started, "sentences": seen}  # fmt: skip
                torch.save(state, checkpoint.with_suffix(".part"))
                checkpoint.with_suffix(".part").rename(checkpoint)


def _average_gradients(model: TrainedModel, processes: int, done: float) -> float:
    """Average the gradients over the processes, and the share of time that is over, which has to be one for all."""
    if processes == 1:
        return done
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]
    flat = torch.cat([*(gradient.view(-1) for gradient in gradients), torch.tensor([done])])
    dist.all_reduce(flat)
    *parts, average = flat.div_(processes).split([*(gradient.numel() for gradient in gradients), 1])
    for parameter, part in zip(model.parameters(), parts, strict=True):
        parameter.grad = part.view_as(parameter)
    return float(average)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/demo_voice"))
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument("--sequences", type=int, default=SEQUENCES)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--port", type=int, default=29_511)
    options = parser.parse_args()
    if options.processes == 1:
        _process(0, options)
    else:
        multiprocessing.spawn(_process, (options,), nprocs=options.processes)


if __name__ == "__main__":
    main()
