"""From piece to piece: seeds, context, sums and warnings, on results made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from higgs_core.chatml import AudioContent, Message, TextContent
from higgs_core.conversation import Plan
from higgs_core.errors import ModelLoadError, NoAudioError
from higgs_core.generation import GenerationResult
from higgs_core.narration import Narration, piece_seed
from higgs_core.params import MAX_SEED, GenerationParams
from higgs_core.request import SpeechRequest

BASE = (Message("system", "S"),)


def narration(
    pieces: int, *, seed: int | None = None, buffer_size: int | None = 2, max_context: int = 8192, steps: int = 100
) -> Narration:
    words = tuple(f"Piece number {at}." for at in range(pieces))
    plan = Plan(BASE, words, tuple(Message("user", piece) for piece in words), ("planned",))
    params = GenerationParams(seed=seed, max_new_tokens=steps)
    request = SpeechRequest(script="unused", params=params, generation_chunk_buffer_size=buffer_size)
    return Narration(request, plan, max_context)


def result(frames: int = 10, *segments: int, **fields: Any) -> GenerationResult:
    """A result whose codes and samples all hold its number of frames."""
    lengths = (frames, *segments)
    total = sum(lengths)
    return GenerationResult(
        **{
            "audio": np.full(total * 960, total, np.float32),
            "sampling_rate": 24_000,
            "audio_codes": [np.full((8, length), total, np.int64) for length in lengths],
            "delayed_audio_columns": [],
            "text": f"<{total}>",
            "text_token_ids": [total],
            "prompt_token_ids": [],
            "usage": {"prompt_tokens": 5, "completion_tokens": total, "total_tokens": 5 + total, "cached_tokens": 1},
            "finish_reason": "stop",
            "seed": 77,
            "timings": {"queue": 0.5, "first_audio": float(total), "total": 2.0},
        }
        | fields
    )


def told(story: Narration, *results: GenerationResult) -> Narration:
    for each in results:
        story.add(each)
    return story


def context_of(story: Narration) -> list[tuple[str, int]]:
    """The earlier pieces in the next sample: words, frames."""
    messages = story.sample().messages[len(BASE) : -1]
    words = [part.text for turn in messages[::2] for part in turn.parts if isinstance(part, TextContent)]
    codes = [part.codes for turn in messages[1::2] for part in turn.parts if isinstance(part, AudioContent)]
    assert all(code is not None and code.dtype == np.int64 for code in codes)
    return [(word, code.shape[1]) for word, code in zip(words, codes, strict=True) if code is not None]


def test_the_first_piece_has_the_requests_seed_and_later_ones_their_own() -> None:
    story = narration(3, seed=7)
    seeds = []
    for _ in range(3):
        seeds.append(story.params().seed)
        story.add(result(seed=7))
    assert seeds == [7, piece_seed(7, 1), piece_seed(7, 2)]
    assert len(set(seeds)) == 3
    assert story.result().seed == 7


def test_a_drawn_seed_makes_the_same_pieces_when_sent_back() -> None:
    story = narration(2)
    assert story.params().seed is None
    told(story, result(seed=123))
    assert story.params().seed == piece_seed(123, 1)
    assert told(story, result(seed=999)).result().seed == 123


def test_piece_seeds_are_valid_and_fixed_for_good() -> None:
    assert all(0 <= piece_seed(seed, at) <= MAX_SEED for seed in (0, 1, MAX_SEED) for at in range(200))
    assert piece_seed(42, 0) == 42
    assert piece_seed(42, 1) == 6468248914064894425


@pytest.mark.parametrize(("size", "kept"), [(0, []), (1, [3]), (2, [2, 3]), (None, [1, 2, 3]), (9, [1, 2, 3])])
def test_the_last_pieces_are_the_context(size: int | None, kept: list[int]) -> None:
    story = told(narration(4, buffer_size=size), result(1), result(2), result(3))
    assert context_of(story) == [(f"Piece number {frames - 1}.", frames) for frames in kept]


def test_segments_of_a_piece_are_one_clip_of_context() -> None:
    assert context_of(told(narration(2), result(4, 0, 3))) == [("Piece number 0.", 7)]


def test_a_piece_without_audio_is_no_context_but_said() -> None:
    story = told(narration(3), result(4), result(0))
    assert context_of(story) == [("Piece number 0.", 4)]
    spoken = told(story, result(5)).result()
    assert [(piece.start_seconds, piece.end_seconds) for piece in spoken.pieces] == [
        (0, 0.16),
        (0.16, 0.16),
        (0.16, 0.36),
    ]
    assert spoken.warnings[1:] == ("Piece 2 of 3 was left without audio by the model; another seed may help.",)


def test_context_gives_way_when_it_does_not_fit() -> None:
    story = told(narration(4, buffer_size=3, max_context=1000), result(300), result(300), result(300))
    assert [frames for _, frames in context_of(story)] == [300, 300]
    assert told(story, result(5)).result().warnings[1:] == (
        "From piece 4 on, fewer earlier pieces than generation_chunk_buffer_size=3 were kept as context, because more "
        "would not fit.",
    )


def test_unbounded_context_means_as_much_as_fits() -> None:
    story = told(narration(3, buffer_size=None, max_context=500), result(300), result(300))
    assert [frames for _, frames in context_of(story)] == [300]
    assert told(story, result(5)).result().warnings == ("planned",)


def test_everything_adds_up() -> None:
    spoken = told(narration(2), result(10), result(20, 5)).result()
    assert spoken.audio.dtype == np.float32
    assert np.array_equal(spoken.audio, np.repeat(np.float32([10, 25]), [10 * 960, 25 * 960]))
    assert [codes.shape for codes in spoken.audio_codes] == [(8, 10), (8, 20), (8, 5)]
    assert (spoken.text, spoken.text_token_ids) == ("<10><25>", [10, 25])
    assert spoken.usage == {"prompt_tokens": 10, "completion_tokens": 35, "total_tokens": 45, "cached_tokens": 2}
    assert spoken.timings == {"queue": 1.0, "first_audio": 10.0, "total": 4.0}
    assert [(piece.text, piece.start_seconds, piece.end_seconds) for piece in spoken.pieces] == [
        ("Piece number 0.", 0, 0.4),
        ("Piece number 1.", 0.4, 1.4),
    ]
    assert (spoken.finish_reason, spoken.sampling_rate, spoken.warnings) == ("stop", 24_000, ("planned",))


def test_one_piece_cut_off_is_a_cut_result() -> None:
    capped = result(100, finish_reason="length")
    spoken = told(narration(3), result(9), capped, result(9)).result()
    assert spoken.finish_reason == "length"
    assert spoken.warnings[1:] == (
        "Piece 2 of 3 was cut off at max_new_tokens=100 (4 s); raise max_new_tokens or lower chunk_max_word_num.",
    )
    spoken = told(narration(1), capped).result()
    assert spoken.warnings[1:] == ("The speech was cut off at max_new_tokens=100 (4 s); raise max_new_tokens.",)


def test_a_full_context_is_not_blamed_on_the_cap() -> None:
    spoken = told(narration(1, max_context=300), result(50, finish_reason="length")).result()
    assert "where the context of 300 positions was full" in spoken.warnings[1]


def test_no_audio_at_all_is_an_error() -> None:
    with pytest.raises(NoAudioError, match=r"^Model did not return audio tokens\.$"):
        told(narration(2), result(0), result(0)).result()


def test_an_engine_without_a_codec_cannot_speak() -> None:
    with pytest.raises(ModelLoadError, match="without an audio tokenizer"):
        narration(1).add(result(3, audio=None))


def test_progress_grows_to_one_and_a_guess_stays_below_the_next_piece() -> None:
    story = narration(2)
    shares = [story.share(columns) for columns in (0, 5, 20, 40, 10_000)]
    story.add(result())
    shares += [story.share(columns) for columns in (0, 5, 10_000)]
    story.add(result())
    shares.append(story.share(0))
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[4] < shares[5] == 0.5
    assert shares[-2] < shares[-1] == 1.0
