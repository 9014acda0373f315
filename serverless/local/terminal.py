"""What a local run shows at the terminal: a bar for each job, then a line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from higgs_core.errors import HiggsError
from serverless.delivery.response import SpeechResponse
from serverless.delivery.serialise import timings_json

if TYPE_CHECKING:
    from higgs_core.speech.progress import Progress

_BAR_FORMAT = "{desc}: {percentage:3.0f}%|{bar:30}| {elapsed}{postfix}"


class ProgressBar:
    """A job's progress; nothing where there is no terminal."""

    def __init__(self, name: str) -> None:
        self._bar = tqdm(total=100, desc=name, unit="%", leave=False, disable=None, bar_format=_BAR_FORMAT)

    def __call__(self, progress: Progress) -> None:
        self._bar.set_postfix_str(f"{progress.audio_seconds:.1f} s of audio", refresh=False)
        self._bar.update(100 * progress.share - self._bar.n)

    def close(self) -> None:
        self._bar.close()


def summary(response: SpeechResponse, file: Path) -> str:
    """One line about a success."""
    factor, usage = timings_json(response).get("real_time_factor"), response.speech.usage
    pace = f"real-time factor {factor:.3f}" if factor is not None else "no real-time factor"
    return (
        f"{response.duration_seconds:6.2f} s of audio, {pace}, {usage['prompt_tokens']} + "
        f"{usage['completion_tokens']} tokens, {response.speech.finish_reason} -> {file}"
    )


def failure(error: HiggsError) -> str:
    """One line about a failure."""
    return " ".join(part for part in ("FAILED:", error.message, error.hint) if part)
