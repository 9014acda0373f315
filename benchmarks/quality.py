"""What quantised weights cost in quality: `python -m benchmarks.quality`, on a CPU, with the checkpoints at hand.

Each variant is compared with fp32 weights and arithmetic. Along the columns that fp32 speaks greedily (teacher forced):
the relative error of the logits, their Kullback-Leibler divergence, and how often the best code is the same. Speaking
freely and greedily: how much of an utterance is the same until the first different code. `--words` has the judge of
scripts/demo_voice hear sampled speech too.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import torch

from benchmarks import engine_probe
from benchmarks.environment import software
from benchmarks.report import Report, Row, say
from higgs_core import AudioContent, ChatMLSample, GenerationParams, HiggsAudioEngine, Message
from higgs_core.build import EngineParts, LoadedModel, build_parts
from higgs_core.built_in import DEMO
from higgs_core.checkpoint.built_in_files import built_in_folders
from higgs_core.checkpoint.load import load_model
from higgs_core.prompt.delay_pattern import complete_frames
from higgs_core.prompt.tokenizer import HiggsTokenizer
from scripts.demo_voice import domain, held_out
from serverless.config.settings import DEFAULT_SYSTEM_PROMPT, Settings
from serverless.service.service import SpeechService
from tests.golden import CASES, CHECKPOINTS, FOLDER
from tests.helpers.transformers_twin import prompt_of

SLOTS, CONTEXT = 8, 2048
PIECE_WORDS = 25
CARRIED_PIECES = 2
CPU = torch.device("cpu")
WORD_SETS = ("domain", "open, known words")


@dataclass(frozen=True)
class Variant:
    """dtype: of everything that is not quantised.  kind: of the layers' matrices, as `DecoderWeights.kind`."""

    dtype: torch.dtype
    kind: str | None

    @property
    def name(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}{f' with {self.kind}' if self.kind else ''}"


REFERENCE = Variant(torch.float32, None)
VARIANTS = (
    Variant(torch.bfloat16, None),
    *(Variant(dtype, kind) for dtype in (torch.float32, torch.bfloat16) for kind in ("int8", "fp8")),
)


@dataclass(frozen=True, eq=False)
class Utterance:
    """What the reference speaks greedily for a sample: its first segment.

    columns: int64 [T, Q], the synthetic column first.  logits: float32 [T - 1, Q, V], of the columns after it.
    """

    sample: ChatMLSample
    params: GenerationParams
    columns: torch.Tensor
    logits: torch.Tensor


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("output/quality.json"))
    parser.add_argument("--sentences", type=int, default=24, help="spoken by demo (default: 24)")
    parser.add_argument("--long-texts", type=int, default=3, help="spoken by demo in pieces (default: 3)")
    parser.add_argument("--words", action="store_true", help="count word errors of demo too; takes many minutes")
    chosen = parser.parse_args(arguments)
    report = Report(chosen.output, software())
    for checkpoint in CHECKPOINTS:
        _golden(report, checkpoint)
    _demo(report, chosen.sentences, chosen.long_texts)
    if chosen.words:
        _words(report)
    say("\n" + report.table())
    say("\n" + markdown(report.rows))
    return 0


def markdown(rows: Sequence[Row]) -> str:
    """The table of docs/performance.md: error of the logits and agreement of the best code where bf16 is the dtype."""
    names = {"bfloat16": "bf16", "bfloat16 with int8": "bf16 with int8", "bfloat16 with fp8": "bf16 with fp8"}
    table: dict[str, list[str]] = {}
    for row in rows:
        if row.get("weights") in names and "logits_error" in row:
            cell = f"{row['logits_error']:.2%}, {row['best_code_agrees']:.2%}"
            table.setdefault(f"{row['heading']} ({row['codes']} codes)", []).append(cell)
    lines = [f"| | {' | '.join(names.values())} |", "|---|" + "---|" * len(names)]
    return "\n".join([*lines, *(f"| {heading} | {' | '.join(cells)} |" for heading, cells in table.items())]) + "\n"


def _golden(report: Report, checkpoint: str) -> None:
    """The cases of a checkpoint with random weights that speak at once; small differences decide their tokens."""
    cases = [case for case in CASES if case.checkpoint == checkpoint and case.params.force_audio_gen]
    reference = parts_of(FOLDER / checkpoint, REFERENCE)
    with HiggsAudioEngine(reference) as engine:
        utterances = [spoken(engine, case.sample, case.params) for case in cases]
    for variant in VARIANTS:
        figures = compared(parts_of(FOLDER / checkpoint, variant), [each for each in utterances if each is not None])
        report.add(checkpoint, weights=variant.name, **figures)


def _demo(report: Report, sentences: int, long_texts: int) -> None:
    with built_in_folders(DEMO) as (folder, _):
        with HiggsAudioEngine(parts_of(folder, REFERENCE)) as engine:
            texts = [text for pair in zip(*_sentence_sets(), strict=False) for text in pair][:sentences]
            sets = {
                "demo, sentences": [spoken(engine, turns(text), _greedy()) for text in texts],
                "demo, long texts": [
                    utterance
                    for text in held_out.long_texts()[:long_texts]
                    for utterance in _spoken_in_pieces(engine, text)
                ],
            }
        for name, utterances in sets.items():
            for variant in VARIANTS:
                figures = compared(parts_of(folder, variant), [each for each in utterances if each is not None])
                report.add(name, weights=variant.name, **figures)


def _sentence_sets() -> tuple[list[str], list[str]]:
    return domain.held_out(72), held_out.open_sentences()


def _words(report: Report) -> None:
    """Word errors of sampled speech, as the product speaks it. Needs pocketsphinx."""
    from scripts.demo_voice.judge import Judge
    from scripts.demo_voice.measure import judged

    judges = {"default": Judge("default")}
    sets = {name: texts for name, texts in held_out.all_sets().items() if name in WORD_SETS}
    for kind in ("auto", "int8", "fp8"):
        with closing(SpeechService(Settings(model_id=DEMO.name, device="cpu", weights=kind))) as service:
            service.load()

            def speak(text: str, service: SpeechService = service) -> tuple[np.ndarray, int]:
                response = asyncio.run(service.run({"script": text, "seed": 1}, job_id="quality"))
                return np.asarray(response.speech.audio), response.speech.sampling_rate

            clips = judged("engine", speak, sets, judges)
        for name in sets:
            heard = [clip for clip in clips if clip.set_name == name]
            words = sum(clip.words for clip in heard)
            errors = sum(clip.errors for clip in heard) / words
            report.add("demo, word errors", weights=kind, set=name, words=words, errors=errors)


def parts_of(folder: Path, variant: Variant) -> EngineParts:
    config, weights = load_model(folder, CPU, variant.dtype, kind=variant.kind)
    model = LoadedModel(config, weights, HiggsTokenizer.from_folder(str(folder)), None)
    return build_parts(model, SLOTS, CONTEXT)


def turns(text: str, *before: tuple[str, AudioContent]) -> ChatMLSample:
    """before: pieces of the text that were spoken already."""
    turns = [Message("system", DEFAULT_SYSTEM_PROMPT)]
    for words, codes in before:
        turns += [Message("user", words), Message("assistant", codes)]
    return ChatMLSample([*turns, Message("user", text)])


def _greedy() -> GenerationParams:
    return GenerationParams(max_new_tokens=75 + 25 * PIECE_WORDS, temperature=0.0, ras_win_len=None)


def spoken(engine: HiggsAudioEngine, sample: ChatMLSample, params: GenerationParams) -> Utterance | None:
    """None: nothing, or the synthetic column alone."""
    segments = engine.generate(sample, params).delayed_audio_columns
    if not segments or segments[0].shape[1] < 2:
        return None
    columns = torch.from_numpy(segments[0].T.copy())
    logits = teacher_forced(engine._parts, sample, columns)
    codes = columns[1:] < engine._parts.config.stream_bos
    if (logits.argmax(-1) == columns[1:])[codes].float().mean() < 0.99:
        raise RuntimeError("the logits are not those that the columns were taken from")
    return Utterance(sample, params, columns, logits)


def _spoken_in_pieces(engine: HiggsAudioEngine, text: str) -> Iterator[Utterance | None]:
    """Sentences in pieces of at most PIECE_WORDS words, each after the last pieces as context."""
    pieces = [""]
    for sentence in held_out.sentences_of(text):
        longer = f"{pieces[-1]} {sentence}".strip()
        if len(longer.split()) <= PIECE_WORDS:
            pieces[-1] = longer
        else:
            pieces.append(sentence)
    before: list[tuple[str, AudioContent]] = []
    for piece in pieces:
        utterance = spoken(engine, turns(piece, *before[-CARRIED_PIECES:]), _greedy())
        yield utterance
        if utterance is not None:
            codes = complete_frames(utterance.columns.T, engine._parts.config.stream_bos, ended=True)
            before.append((piece, AudioContent(codes=codes.numpy())))


def teacher_forced(parts: EngineParts, sample: ChatMLSample, columns: torch.Tensor) -> torch.Tensor:
    """Logits after a sample's prompt and each of `columns`, int64 [T, Q], but the last: float32 [T - 1, Q, V]."""
    with torch.inference_mode():
        return engine_probe.teacher_forced(parts.decoder, prompt_of(parts, sample), columns[:-1])


def compared(parts: EngineParts, utterances: Sequence[Utterance]) -> dict[str, float | int]:
    """The figures of a variant, from its parts.

    logits_error: of the logits' norm.  divergence: Kullback-Leibler, nats a code.  best_code_agrees: share of codes.
    same_columns: share of an utterance's columns before the first difference.  same_to_the_end: share of utterances.
    Codebooks that the reference gives one code only, and places that the delay pattern decides, are not counted.
    """
    difference = norm = divergence = 0.0
    agreeing = codes = 0
    every = torch.cat([utterance.columns[1:] for utterance in utterances])
    varied = torch.tensor([of[of < parts.config.stream_bos].unique().numel() > 1 for of in every.T])
    for utterance in utterances:
        found = teacher_forced(parts, utterance.sample, utterance.columns)
        difference += float((found - utterance.logits).double().square().sum())
        norm += float(utterance.logits.double().square().sum())
        counted = (utterance.columns[1:] < parts.config.stream_bos) & varied  # [T - 1, Q]
        exact, ours = utterance.logits[counted].log_softmax(-1), found[counted].log_softmax(-1)
        divergence += float((exact.exp() * (exact - ours)).sum())
        agreeing += int((exact.argmax(-1) == ours.argmax(-1)).sum())
        codes += int(counted.sum())
    with HiggsAudioEngine(parts) as engine:
        futures = [engine.submit(utterance.sample, utterance.params) for utterance in utterances]
        same = [
            _same_columns(future.result().delayed_audio_columns, utterance.columns)
            for future, utterance in zip(futures, utterances, strict=True)
        ]
    return {
        "utterances": len(utterances),
        "codebooks": int(varied.sum()),
        "codes": codes,
        "logits_error": (difference / norm) ** 0.5,
        "divergence": divergence / codes,
        "best_code_agrees": agreeing / codes,
        "same_columns": sum(same) / len(same),
        "same_to_the_end": sum(share == 1 for share in same) / len(same),
    }


def _same_columns(segments: Sequence[np.ndarray], expected: torch.Tensor) -> float:
    """Share of the longer one's columns before the first difference. segments: [Q, columns]; expected: [T, Q]."""
    found = torch.from_numpy(segments[0].T.copy()) if segments else expected[:0]
    shorter, longer = sorted((found.shape[0], expected.shape[0]))
    equal = (found[:shorter] == expected[:shorter]).all(-1)
    return int(equal.int().cumprod(0).sum()) / longer


if __name__ == "__main__":
    sys.exit(main())
