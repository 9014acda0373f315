"""Texts that the demo voice is judged by and that training must never see."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scripts.demo_voice import domain

ROOT = Path(__file__).parents[2]
TEXTS = Path(__file__).parent / "texts"
_WITHHELD = re.compile(r"\*([A-Za-z]+)\*")


@dataclass(frozen=True)
class Expected:
    """A text to speak and what should be heard: any of `readings` is right."""

    text: str
    readings: tuple[str, ...]

    @classmethod
    def as_written(cls, text: str) -> Expected:
        """A text of plain words, which is its own reading; speaker tags and sounds are not read."""
        return cls(text, (re.sub(r"\[[^\]]*\]", " ", text),))


@cache
def _open_lines() -> tuple[str, ...]:
    return tuple((TEXTS / "open.txt").read_text().splitlines())


def withheld_words() -> frozenset[str]:
    """Lower-case words of the open sentences that no training text may hold: how they sound is to be worked out."""
    return frozenset(word.lower() for line in _open_lines() for word in _WITHHELD.findall(line))


def open_sentences() -> list[str]:
    """72 sentences of everyday English and news; the first half has withheld words."""
    return [line.replace("*", "") for line in _open_lines()]


def sentences_with_withheld_words() -> list[str]:
    """The open sentences with at least one withheld word."""
    return [line.replace("*", "") for line in _open_lines() if "*" in line]


def sentences_of_known_words() -> list[str]:
    """The open sentences without a withheld word."""
    return [line for line in _open_lines() if "*" not in line]


def long_texts() -> list[str]:
    """Eight texts of ten sentences; two are dialogues with a tagged turn for each sentence."""
    return (TEXTS / "long.txt").read_text().strip().split("\n\n")


def written_forms() -> list[Expected]:
    """24 sentences with numbers and abbreviations as people write them."""
    lines = (TEXTS / "written.tsv").read_text().splitlines()
    return [Expected(text, tuple(readings)) for text, *readings in (line.split("\t") for line in lines)]


def _scripts_in(job: object) -> Iterator[str]:
    if isinstance(job, dict):
        if "speaker" in job and "text" in job:
            yield f"[{job['speaker']}] {job['text']}"
            return
        for name in ("script", "prompt", "transcript", "text", "openai_input"):
            value = job.get(name)
            if isinstance(value, str):
                yield value
                break
            if isinstance(value, dict):
                yield value["input"]
        yield from _scripts_in(job.get("dialogue"))
        if messages := job.get("messages"):
            last = messages[-1]["content"]
            yield last if isinstance(last, str) else " ".join(part["text"] for part in last if part["type"] == "text")
    elif isinstance(job, list):
        turns = [turn for item in job for turn in _scripts_in(item)]
        if turns:
            yield "\n".join(turns)


def texts_of_test_inputs() -> list[str]:
    """What the jobs of test_inputs/ and the requests of the README speak, each once."""
    texts: list[str] = []
    for file in sorted((ROOT / "test_inputs").glob("*.json")):
        texts.extend(_scripts_in(json.loads(file.read_text())["input"]))
    readme = (ROOT / "README.md").read_text()
    texts.extend(json.loads(f'"{script}"') for script in re.findall(r'"script": "((?:[^"\\]|\\.)*)"', readme))
    return list(dict.fromkeys(texts))


def sentences_of(text: str) -> list[str]:
    """The sentences and turns of `text`, without speaker tags."""
    parts = re.split(r"(?<=[.!?])\s+|\[SPEAKER\d\]|\n", text)
    return [sentence for part in parts if (sentence := part.strip())]


@cache
def _judged_sentences() -> frozenset[str]:
    texts = [*open_sentences(), *long_texts(), *(item.text for item in written_forms()), *texts_of_test_inputs()]
    sentences = (domain.words_of(sentence) for text in texts for sentence in (text, *sentences_of(text)))
    return frozenset(" ".join(words) for words in sentences if len(words) > 2)


def may_train_on(text: str) -> bool:
    """Whether `text`, one sentence, has no withheld word and is neither held out of the domain nor in a set above."""
    words = domain.words_of(text)
    return (
        withheld_words().isdisjoint(words)
        and not domain.is_held_out(text)
        and " ".join(words) not in _judged_sentences()
    )


def for_ci() -> list[str]:
    """Twelve sentences that show in a minute whether the voice is understood: six of the domain and six open ones."""
    known = sentences_of_known_words()
    return [*domain.held_out(6, seed=1), *known[:3], *sentences_with_withheld_words()[:3]]


def all_sets() -> dict[str, list[Expected]]:
    """Name of a set to what is spoken in it."""
    plain = {
        "domain": domain.held_out(72),
        "open, known words": sentences_of_known_words(),
        "open, withheld words": sentences_with_withheld_words(),
        "long": long_texts(),
        "test inputs": texts_of_test_inputs(),
        "CI": for_ci(),
    }
    sets = {name: [Expected.as_written(text) for text in texts] for name, texts in plain.items()}
    return sets | {"written forms": written_forms()}
