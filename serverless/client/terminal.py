"""Lines at the terminal: progress while the job runs, and what the result says."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from serverless.client.errors import printable
from serverless.client.items import number

MAX_WARNINGS = 20
_BAR = 24


class ProgressLine:
    """One line that rewrites itself; silent where the stream is not a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = stream.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def show(self, item: Mapping[str, Any], received: int, seconds: float) -> None:
        if self._shown:
            self._stream.write(f"\r\x1b[K{progress_text(item, received, seconds)}")
            self._stream.flush()


def progress_text(item: Mapping[str, Any], received: int, seconds: float) -> str:
    """`[######..................]  25 %, 3.2 s of audio, 4 s` or what is known of it."""
    progress = item.get("progress")
    progress = progress if isinstance(progress, dict) else {}
    share, audio_seconds = number(progress.get("share")), number(progress.get("audio_seconds"))
    parts = []
    if share is not None:
        share = min(max(share, 0.0), 1.0)
        done = round(_BAR * share)
        parts.append(f"[{'#' * done}{'.' * (_BAR - done)}] {100 * share:3.0f} %")
    elif not received:
        parts.append("waiting in the queue" if item.get("state") == "IN_QUEUE" else "working")
    if audio_seconds is not None:
        parts.append(f"{audio_seconds:.1f} s of audio")
    if received:
        parts.append(f"{received / 1000:.0f} kB received")
    return ", ".join([*parts, f"{seconds:.0f} s"])


def summary(result: Mapping[str, Any], path: Path, *, said: Collection[str] = ()) -> str:
    """`speech.wav: 3.20 s of audio, real-time factor 0.31, seed 7`, and the result's warnings below.

    said: warnings that were shown before.
    """
    timings, warnings = result.get("timings"), result.get("warnings")
    factor = number(timings.get("real_time_factor")) if isinstance(timings, dict) else None
    seed = result.get("seed")
    facts = [
        (number(result.get("duration_seconds")), "{:.2f} s of audio"),
        (factor, "real-time factor {:.2f}"),
        (seed if isinstance(seed, int) and number(seed) is not None else None, "seed {}"),
        (printable(result.get("finish_reason")) or None, "finish reason {}"),
    ]
    about = ", ".join(text.format(value) for value, text in facts if value is not None)
    lines = [printable(warning) for warning in warnings] if isinstance(warnings, list) else []
    shown = [f"warning: {line}" for line in lines if line and line not in said]
    return "\n".join([f"{path}: {about}" if about else str(path), *shown[:MAX_WARNINGS]])
