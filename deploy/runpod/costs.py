"""What an hour of speech costs on RunPod's GPUs, at best: python deploy/runpod/costs.py prints the table of the docs.

A decode step reads the weights of the decoder and the KV cache of every slot once, and gives each slot one frame of
40 ms. So the memory's bandwidth bounds what a card can speak, and with its price what an hour of speech costs:

    cost = price / (audio seconds that a worker gives in a second * share of the time that it works)

The bound is computed, not measured; put in the rate that `python -m benchmarks.gpu` measured on the card to get the
cost.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

FRAME_SECONDS = 0.04
STEP_WEIGHT_BYTES = 5.69e9  # of the released model in bf16 that a decode step reads
POSITION_BYTES = 2 * 28 * 8 * 128 * 2  # keys and values, layers, KV heads, head size, bf16
MEAN_POSITIONS = 1000  # of a slot: prompt and what is spoken so far


@dataclass(frozen=True)
class Card:
    """A GPU that RunPod lists: its pool, memory, GB/s of bandwidth, flex price in $ an hour, and slots by `auto`."""

    name: str
    pool: str
    memory_gb: int
    bandwidth: int
    price: float
    slots: int

    @property
    def step_seconds(self) -> float:
        """The least time of a decode step with all slots taken."""
        return (STEP_WEIGHT_BYTES + self.slots * MEAN_POSITIONS * POSITION_BYTES) / (self.bandwidth * 1e9)

    @property
    def audio_rate(self) -> float:
        """The most seconds of audio in a second, over all slots."""
        return self.slots * FRAME_SECONDS / self.step_seconds

    def cost(self, audio_rate: float, busy_share: float = 1.0) -> float:
        """$ for an hour of speech by a worker that gives `audio_rate` while it works, `busy_share` of the time."""
        return self.price / (audio_rate * busy_share)


CARDS = (
    Card("L4, left out", "-NVIDIA L4", 24, 300, 0.68, 8),
    Card("RTX A5000", "AMPERE_24", 24, 768, 0.68, 8),
    Card("RTX 3090", "AMPERE_24", 24, 936, 0.68, 8),
    Card("RTX 4090", "ADA_24", 24, 1008, 1.12, 8),
    Card("A40", "AMPERE_48", 48, 696, 1.22, 32),
    Card("RTX A6000", "AMPERE_48", 48, 768, 1.22, 32),
    Card("L40S", "ADA_48_PRO", 48, 864, 1.91, 24),
    Card("A100 80 GB", "AMPERE_80", 80, 2039, 2.74, 64),
    Card("H100", "ADA_80_PRO", 80, 3350, 4.18, 64),
    Card("H200", "HOPPER_141", 141, 4800, 5.58, 64),
)


def table() -> str:
    """Markdown."""
    lines = [
        "| card | pool | memory, GB | GB/s | $ an hour | slots | ms a step, at least | audio s a second, at most "
        "| $ an hour of speech, at least |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {card.name} | `{card.pool}` | {card.memory_gb} | {card.bandwidth} | {card.price:.2f} | {card.slots} "
        f"| {card.step_seconds * 1000:.1f} | {card.audio_rate:.0f} | {card.cost(card.audio_rate):.3f} |"
        for card in CARDS
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
