"""Word errors of each held-out set, as each judge hears them.

    python -m scripts.demo_voice.measure source ceiling engine --output FOLDER

FOLDER/word_errors.json holds every clip's script and what was heard, FOLDER/word_errors.md the table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.demo_voice.held_out import Expected, all_sets
from scripts.demo_voice.judge import Judge
from scripts.demo_voice.scoring import fewest_word_errors
from scripts.demo_voice.speakers import SPEAKERS, Speak


@dataclass(frozen=True)
class Heard:
    """One clip as one judge hears it."""

    speaker: str
    judge: str
    set_name: str
    text: str
    heard: str
    errors: int
    words: int
    seconds: float


def judged(name: str, speak: Speak, sets: Mapping[str, Sequence[Expected]], judges: Mapping[str, Judge]) -> list[Heard]:
    """Every text of `sets`, spoken once and heard by each judge. name: of the speaker."""
    found = []
    for set_name, texts in sets.items():
        for expected in texts:
            audio, rate = speak(expected.text)
            for judge_name, judge in judges.items():
                words = judge.hear(audio, rate)
                errors, count = fewest_word_errors(expected.readings, words)
                seconds = round(len(audio) / rate, 2)
                found.append(Heard(name, judge_name, set_name, expected.text, " ".join(words), errors, count, seconds))
    return found


def table(clips: Sequence[Heard]) -> str:
    """Markdown: word errors a word of each set, a column for each speaker and judge."""
    sums: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for clip in clips:
        total = sums[clip.set_name, f"{clip.speaker}, {clip.judge}"]
        total[0] += clip.errors
        total[1] += clip.words
    rows = list(dict.fromkeys(row for row, _ in sums))
    columns = list(dict.fromkeys(column for _, column in sums))
    lines = [f"| set | words | {' | '.join(columns)} |", "|---|" + "---|" * (len(columns) + 1)]
    for row in rows:
        rates = " | ".join(f"{errors / max(words, 1):.3f}" for errors, words in (sums[row, name] for name in columns))
        lines.append(f"| {row} | {sums[row, columns[0]][1]} | {rates} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the speakers of the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.demo_voice.measure", description="Measure word errors.")
    parser.add_argument("speakers", nargs="+", choices=sorted(SPEAKERS), help="who speaks")
    parser.add_argument("--only", nargs="+", choices=list(all_sets()), help="names of sets (default: all)")
    parser.add_argument("--output", type=Path, default=Path("output"), help="where the results go (default: output)")
    options = parser.parse_args(arguments)
    sets = {name: texts for name, texts in all_sets().items() if not options.only or name in options.only}
    judges = {"default": Judge("default"), "domain": Judge("domain")}
    clips: list[Heard] = []
    for name in options.speakers:
        with SPEAKERS[name]() as speak:
            clips += judged(name, speak, sets, judges)
    options.output.mkdir(parents=True, exist_ok=True)
    content = json.dumps([asdict(clip) for clip in clips], indent=1) + "\n"
    (options.output / "word_errors.json").write_text(content, encoding="utf-8")
    (options.output / "word_errors.md").write_text(table(clips), encoding="utf-8")
    sys.stdout.write(table(clips))
    return 0


if __name__ == "__main__":
    sys.exit(main())
