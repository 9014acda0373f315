"""`python -m benchmarks.lost_words`: words lost at the step limit of a piece, for voices of different rates. Simulated.

An engine that speaks at a given rate stops when its steps run out; the words not spoken by then are lost.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from higgs_core.params import GenerationParams
from higgs_core.rates import FRAMES_PER_SECOND
from higgs_core.speech.request import SpeechRequest
from higgs_core.speech.result import SpeechResult
from higgs_core.speech.speak import speak
from higgs_core.text.speech_length import spoken_words
from serverless.config.settings import Settings
from tests.helpers.simulated_engine import SimulatedEngine, text_of

RATES = (25, 30, 35, 40, 45, 50, 60, 70, 80)
"""Seconds for 100 words. Boson's sixteen example voices take 25.6 to 80.5, half of them more than 41."""

SCRIPT = " ".join(["This is one sentence of eight plain words."] * 60)


@dataclass(frozen=True)
class Policy:
    """How a script is cut and how many steps its pieces get."""

    name: str
    steps: int
    words_a_piece: int | None
    cap_follows_text: bool


POLICIES = (
    Policy("1024 steps, pieces of 100 words", 1024, 100, False),
    Policy("by default", Settings().max_new_tokens, None, True),
    Policy("`max_new_tokens` 1024 sent", 1024, None, False),
)


def words_lost(policy: Policy, seconds_for_100_words: float, script: str = SCRIPT) -> float:
    """Words of the script that were not spoken to their end."""
    engine = SimulatedEngine(columns_per_word=seconds_for_100_words / 100 * FRAMES_PER_SECOND)
    request = SpeechRequest(
        script=script,
        params=GenerationParams(max_new_tokens=policy.steps),
        chunk_max_word_num=policy.words_a_piece,
        cap_follows_text=policy.cap_follows_text,
        retries=0,
    )
    return spoken_words(script) - words_spoken(engine, speak(engine, request, {}))  # type: ignore[arg-type]


def words_spoken(engine: SimulatedEngine, spoken: SpeechResult) -> float:
    """Words that were spoken to their end, by the length of each piece's audio. No piece was generated again."""
    said = 0.0
    for (sample, _), piece in zip(engine.asked, spoken.pieces, strict=True):
        frames = round((piece.end_seconds - piece.start_seconds) * FRAMES_PER_SECOND)
        said += min(frames / engine.columns_per_word, spoken_words(text_of(sample)))
    return said


def main() -> int:
    words = spoken_words(SCRIPT)
    lines = [f"| seconds for 100 words | {' | '.join(policy.name for policy in POLICIES)} |", "|---" * 4 + "|"]
    for rate in RATES:
        lost = [words_lost(policy, rate) for policy in POLICIES]
        lines.append(f"| {rate} | {' | '.join(f'{each:.0f} ({100 * each / words:.0f} %)' for each in lost)} |")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
