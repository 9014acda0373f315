"""From piece to piece: seeds, caps, context, what is generated again, sums and warnings, on results made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from higgs_core.errors import ModelLoadError, NoAudioError
from higgs_core.params import MAX_SEED, GenerationParams
from higgs_core.prompt.chatml import AudioContent, TextContent
from higgs_core.runtime.generation import GenerationResult
from higgs_core.speech.request import ReferenceSource, RequestMessage, SpeechRequest
from higgs_core.speech.session import SpeechSession, piece_seed, retry_seed
from tests.helpers.pieces import count_bytes, looping_codes, result


def new_session(
    pieces: int,
    *,
    seed: int | None = 7,
    buffer_size: int | None = 2,
    max_context: int = 8192,
    steps: int = 400,
    words: tuple[str, ...] = (),
    **fields: Any,
) -> SpeechSession:
    """words: of each piece, in place of three each."""
    words = words or tuple(f"Piece number {'ABCDEFGHIJ'[at]}." for at in range(pieces))
    script: dict[str, Any] = {
        "script": "\n".join(words),
        "chunk_method": "sentence" if len(words) > 1 else "none",
        "chunk_max_word_num": max(len(piece.split()) for piece in words) or 1,
    }
    if not words[0]:  # messages may hold audio alone
        script = {"messages": (RequestMessage("user", (TextContent(""),)),)}
    params = GenerationParams(seed=seed, max_new_tokens=steps, force_audio_gen=fields.pop("force_audio_gen", True))
    request = SpeechRequest(
        **{"system_prompt": "S", "system_prompt_is_default": False, "normalize": False}
        | script
        | {"params": params, "generation_chunk_buffer_size": buffer_size}
        | fields
    )
    clips = {source: AudioContent(waveform=np.zeros(960, np.float32)) for source in request.references}
    return SpeechSession(request, clips, max_context, count_bytes)


def after(session: SpeechSession, *results: GenerationResult) -> SpeechSession:
    """The session when each of the results has been kept."""
    for each in results:
        assert session.add(each) is not None
    return session


def context_of(session: SpeechSession) -> list[tuple[str, int]]:
    """The earlier pieces in the next sample: the last letter of their words, frames."""
    sample = session.sample()
    messages = sample.messages[sample.shared_turns : -1]
    words = [part.text for turn in messages[::2] for part in turn.parts if isinstance(part, TextContent)]
    codes = [part.codes for turn in messages[1::2] for part in turn.parts if isinstance(part, AudioContent)]
    assert all(code is not None and code.dtype == np.int64 for code in codes)
    return [(word[-2], code.shape[1]) for word, code in zip(words, codes, strict=True) if code is not None]


# --- seeds and caps ---


def test_the_first_piece_has_the_requests_seed_and_later_ones_their_own() -> None:
    session = new_session(3)
    seeds = []
    for _ in range(3):
        seeds.append(session.params().seed)
        session.add(result())
    assert seeds == [7, piece_seed(7, 1), piece_seed(7, 2)]
    assert len(set(seeds)) == 3
    assert session.result().seed == 7


def test_a_seed_that_was_drawn_is_reported_and_makes_the_same_pieces_when_sent_back() -> None:
    drawn = new_session(2, seed=None)
    first = drawn.params().seed
    assert first is not None
    after(drawn, result())
    again = after(new_session(2, seed=first), result())
    assert again.params() == drawn.params()
    assert after(drawn, result()).result().seed == first
    assert new_session(2, seed=None).params().seed != first


def test_derived_seeds_are_valid_and_fixed_for_good() -> None:
    assert all(0 <= piece_seed(seed, at) <= MAX_SEED for seed in (0, 1, MAX_SEED) for at in range(200))
    assert all(0 <= retry_seed(seed, at) <= MAX_SEED for seed in (0, 1, MAX_SEED) for at in range(4))
    assert piece_seed(42, 0) == retry_seed(42, 0) == 42
    assert piece_seed(42, 1) == 6468248914064894425
    assert retry_seed(42, 1) == 118976677217902179
    assert len({piece_seed(42, at) for at in range(9)} | {retry_seed(42, at) for at in range(1, 4)}) == 12


@pytest.mark.parametrize(
    ("words", "steps", "cap"),
    [
        ("Hello.", 2600, 100),
        ("One two three four.", 2600, 175),
        ("word " * 100, 2600, 2575),
        ("word " * 100, 1024, 1024),
        ("", 2600, 2600),  # audio alone, as in messages: nothing tells how long it takes
    ],
)
def test_a_piece_gets_the_steps_that_its_text_may_need_up_to_the_ceiling(words: str, steps: int, cap: int) -> None:
    assert new_session(1, words=(words,), steps=steps).params().max_new_tokens == cap


def test_steps_that_the_client_sends_are_what_every_piece_gets() -> None:
    session = new_session(2, steps=2000, cap_follows_text=False)
    assert session.params().max_new_tokens == 2000
    assert after(session, result()).params().max_new_tokens == 2000


def test_a_model_that_may_write_first_is_bounded_by_the_ceiling_alone() -> None:
    session = new_session(1, words=("Say something.",), steps=900, force_audio_gen=False)
    assert session.params().max_new_tokens == 900
    assert after(session, result(700)).result().warnings == ()


# --- context ---

CLIP = (ReferenceSource("references[0]", path="a.wav"),)


@pytest.mark.parametrize(
    ("size", "with_clip", "without"),
    [
        (0, "", ""),
        (1, "D", "AD"),
        (2, "CD", "ACD"),
        (3, "BCD", "ABCD"),
        (None, "ABCD", "ABCD"),
        (9, "ABCD", "ABCD"),
    ],
)
def test_the_context_is_the_last_pieces_and_without_a_reference_the_first(
    size: int | None, with_clip: str, without: str
) -> None:
    frames = {"A": 11, "B": 12, "C": 13, "D": 14}
    for references, kept in ((CLIP, with_clip), ((), without)):
        session = after(new_session(5, buffer_size=size, references=references), *map(result, frames.values()))
        assert context_of(session) == [(piece, frames[piece]) for piece in kept]


def test_the_first_piece_that_went_well_stays_in_the_context() -> None:
    bad = result(10, finish_reason="length")
    session = after(new_session(5, buffer_size=1), bad, result(11), result(12), result(13))
    assert context_of(session) == [("B", 11), ("D", 13)]


def test_the_first_piece_of_every_speaker_stays_in_the_context() -> None:
    words = ("[SPEAKER0] Is A.", "[SPEAKER1] Is B.", "[SPEAKER0] Is C.", "[SPEAKER1] Is D.", "[SPEAKER0] Is E.")
    session = after(new_session(5, buffer_size=1, words=words), *map(result, (11, 12, 13, 14)))
    assert context_of(session) == [("A", 11), ("B", 12), ("D", 14)]


def test_segments_of_a_piece_are_one_clip_of_context() -> None:
    assert context_of(after(new_session(2), result(9, 0, 3))) == [("A", 12)]


@pytest.mark.parametrize(
    "bad",
    [
        result(0),
        result(0, silent=40),
        result(2),
        result(20, silent=60),
        result(20, finish_reason="length"),
        result(200),
        result(120, codes=[looping_codes(120, 30)]),
    ],
    ids=["no audio", "silent", "too short", "silent end", "cut off", "too long", "loop"],
)
def test_a_piece_that_went_wrong_is_never_context(bad: GenerationResult) -> None:
    session = new_session(3, steps=300, cap_follows_text=False)
    assert context_of(after(session, result(9), bad)) == [("A", 9)]


def test_context_that_does_not_fit_is_dropped_and_a_speakers_first_piece_last() -> None:
    session = after(new_session(5, buffer_size=3, max_context=550), *[result(at) for at in (101, 102, 103, 104)])
    assert context_of(session) == [("A", 101), ("D", 104)]
    assert after(session, result(15)).result().warnings == (
        "From piece 5 on, fewer earlier pieces than generation_chunk_buffer_size=3 were kept as context, because more "
        "would not fit.",
    )
    assert context_of(after(new_session(2, max_context=300), result(140))) == []


def test_unbounded_context_means_as_much_as_fits() -> None:
    session = after(new_session(3, buffer_size=None, max_context=500), result(130), result(131))
    assert context_of(session) == [("A", 130)]
    assert after(session, result(15)).result().warnings == ()


def test_room_is_kept_for_a_slow_voice() -> None:
    """Ten words may take 325 steps; a context that leaves fewer costs the end of the piece."""
    words = ("Is A.", " ".join(["word"] * 10))
    for max_context, kept in ((600, 1), (500, 0)):
        session = after(new_session(2, max_context=max_context, words=words, steps=2600), result(120))
        assert len(context_of(session)) == kept


# --- pieces that are generated again ---


def test_a_piece_that_went_wrong_is_generated_once_more_with_a_seed_of_its_own() -> None:
    session = new_session(2, seed=None)
    first = session.params().seed
    assert first is not None
    assert session.may_retry
    assert session.add(result(0, seed=first)) is None
    assert (session.has_attempt, session.may_retry) == (True, False)
    again = session.params().seed
    assert again == retry_seed(first, 1)
    audio = session.add(result(12, seed=again))
    assert audio is not None
    assert len(audio) == 12 * 960
    assert context_of(session) == [("A", 12)]
    assert session.params().seed == piece_seed(first, 1)
    spoken = after(session, result(13, seed=5)).result()
    assert spoken.warnings == (
        f"Piece 1 of 2 was generated again, because with seed {first} it was left without audio; the generation with "
        f"seed {again} was kept.",
    )
    assert (spoken.seed, spoken.retried_pieces, spoken.finish_reason) == (first, 1, "stop")
    assert [codes.shape[1] for codes in spoken.audio_codes] == [12, 13]


def test_generations_that_are_not_kept_count_in_usage_and_timings() -> None:
    session = new_session(1, seed=None)
    session.add(result(0))
    session.add(result(12))
    spoken = session.result()
    assert spoken.usage == {"prompt_tokens": 10, "completion_tokens": 12, "total_tokens": 22, "cached_tokens": 2}
    assert spoken.timings == {"queue": 1.0, "total": 4.0, "first_audio": 2.0 + 12.0}


@pytest.mark.parametrize(
    ("seed", "retries", "most"), [(None, None, 1), (7, None, 0), (None, 0, 0), (7, 2, 2), (None, 3, 3)]
)
def test_a_seed_or_no_retries_keeps_the_piece_as_it_is(seed: int | None, retries: int | None, most: int) -> None:
    session = new_session(1, seed=seed, retries=retries)
    for _ in range(most):
        assert session.add(result(0)) is None
    assert session.add(result(12, finish_reason="length")) is not None
    spoken = session.result()
    assert any("generated again" in warning for warning in spoken.warnings) == (most > 0)
    assert any("cut off" in warning for warning in spoken.warnings)


def test_the_better_of_two_bad_generations_stays() -> None:
    silent, cut = result(0, seed=1), result(20, finish_reason="length", seed=2)
    for order in ((silent, cut), (cut, silent)):
        session = new_session(1, seed=None, steps=20, cap_follows_text=False)
        assert session.add(order[0]) is None
        audio = session.add(order[1])
        assert audio is not None
        assert len(audio) == 20 * 960
        spoken = session.result()
        assert "the generation with seed 2 was kept." in spoken.warnings[0]
        assert "with seed 1 it was left without audio" in spoken.warnings[0]
        assert "with seed 2 it was cut off" in spoken.warnings[0]
        assert "The speech was cut off at max_new_tokens=20 (1 s); raise max_new_tokens." in spoken.warnings


def test_of_two_equally_bad_generations_the_first_stays() -> None:
    session = new_session(1, seed=None)
    session.add(result(20, finish_reason="length", seed=1))
    session.add(result(30, finish_reason="length", seed=2))
    assert session.result().audio_codes[0].shape[1] == 20


def test_audio_that_was_sent_stays_and_a_warning_says_so() -> None:
    session = new_session(1, seed=None)
    assert session.add(result(20, finish_reason="length"), sent=True) is not None
    assert session.result().warnings[-1] == "The speech was kept: the audio had been sent before the fault was seen."
    sent = new_session(1, seed=5)
    sent.add(result(20, finish_reason="length"), sent=True)
    assert not any("generated again" in warning for warning in sent.result().warnings)


# --- silence at the end ---


def test_a_long_silent_end_is_cut_from_audio_and_codes() -> None:
    spoken = after(new_session(2), result(20, silent=40), result(30, 25, silent=20)).result()
    assert [codes.shape[1] for codes in spoken.audio_codes] == [35, 30, 40]
    assert len(spoken.audio) == (35 + 70) * 960
    assert [(piece.start_seconds, piece.end_seconds) for piece in spoken.pieces] == [(0, 1.4), (1.4, 4.2)]
    assert spoken.warnings == ()


def test_silence_of_a_natural_length_stays() -> None:
    spoken = after(new_session(1), result(20, silent=15)).result()
    assert len(spoken.audio) == 35 * 960


def test_silence_is_kept_when_the_client_wants_it() -> None:
    spoken = after(new_session(1, trim=False), result(20, silent=60)).result()
    assert len(spoken.audio) == 80 * 960
    assert spoken.warnings == ("The speech was followed by 2.4 s of silence.",)


def test_steps_that_ran_out_in_silence_cut_nothing_off() -> None:
    spoken = after(new_session(1), result(20, silent=60, finish_reason="length")).result()
    assert spoken.finish_reason == "length"
    assert spoken.warnings == ("The speech was followed by 2.4 s of silence, which was cut.",)


# --- sums and warnings ---


def test_a_piece_without_audio_has_its_place_and_is_said() -> None:
    spoken = after(new_session(3), result(9), result(0), result(10)).result()
    assert [(piece.start_seconds, piece.end_seconds) for piece in spoken.pieces] == [
        (0, 0.36),
        (0.36, 0.36),
        (0.36, 0.76),
    ]
    assert spoken.warnings == ("Piece 2 of 3 was left without audio by the model; another seed may help.",)


def test_everything_adds_up() -> None:
    spoken = after(new_session(2), result(10), result(20, 5)).result()
    assert spoken.audio.dtype == np.float32
    assert len(spoken.audio) == 35 * 960
    assert [codes.shape for codes in spoken.audio_codes] == [(8, 10), (8, 20), (8, 5)]
    assert (spoken.text, spoken.text_token_ids) == ("<10><25>", [10, 25])
    assert spoken.usage == {"prompt_tokens": 10, "completion_tokens": 35, "total_tokens": 45, "cached_tokens": 2}
    assert spoken.timings == {"queue": 1.0, "first_audio": 10.0, "total": 4.0}
    assert [(piece.text, piece.start_seconds, piece.end_seconds) for piece in spoken.pieces] == [
        ("Piece number A.", 0, 0.4),
        ("Piece number B.", 0.4, 1.4),
    ]
    assert (spoken.finish_reason, spoken.sampling_rate, spoken.warnings) == ("stop", 24_000, ())


def test_one_piece_cut_off_is_a_cut_result() -> None:
    capped = result(100, finish_reason="length")
    spoken = after(new_session(3, steps=100, cap_follows_text=False), result(9), capped, result(9)).result()
    assert spoken.finish_reason == "length"
    assert spoken.warnings == (
        "Piece 2 of 3 was cut off at max_new_tokens=100 (4 s); raise max_new_tokens or lower chunk_max_word_num.",
    )
    spoken = after(new_session(1, steps=100, cap_follows_text=False), capped).result()
    assert spoken.warnings == ("The speech was cut off at max_new_tokens=100 (4 s); raise max_new_tokens.",)


def test_a_cap_that_followed_the_text_is_named_as_such() -> None:
    spoken = after(new_session(1, words=("Hello.",)), result(100, finish_reason="length")).result()
    assert spoken.warnings == (
        "The speech was cut off after 100 steps (4 s), the most for such a text; send a larger max_new_tokens.",
    )


@pytest.mark.parametrize("fields", [{"words": ("word " * 500,)}, {"words": ("",)}], ids=["long", "no words"])
def test_a_ceiling_that_cut_is_named_as_such(fields: dict[str, Any]) -> None:
    spoken = after(new_session(1, steps=2600, **fields), result(2600, finish_reason="length")).result()
    assert spoken.warnings == (
        "The speech was cut off after 2600 steps (104 s), the most for any piece here; send a larger max_new_tokens.",
    )


def test_warnings_about_fields_come_first() -> None:
    spoken = after(new_session(1, words=("",), scene_prompt="A bar."), result(50, silent=60)).result()
    assert [warning.split()[0] for warning in spoken.warnings] == ["scene_prompt", "The"]


def test_a_full_context_is_not_blamed_on_the_cap() -> None:
    spoken = after(new_session(1, max_context=300), result(50, finish_reason="length")).result()
    assert "where the context of 300 positions was full" in spoken.warnings[0]


def test_pieces_with_the_same_fault_share_a_sentence() -> None:
    spoken = after(new_session(4), result(1), result(9), result(2), result(0)).result()
    assert spoken.warnings == (
        "Piece 4 of 4 was left without audio by the model; another seed may help.",
        "Pieces 1, 3 of 4 were far too short for the text; words may be missing, another seed may help.",
    )


def test_no_audio_at_all_is_an_error() -> None:
    with pytest.raises(NoAudioError, match=r"^Model did not return audio tokens\.$"):
        after(new_session(2), result(0), result(0)).result()


def test_an_engine_without_a_codec_cannot_speak() -> None:
    with pytest.raises(ModelLoadError, match="without an audio tokenizer"):
        new_session(1).add(result(3, audio=None))


def test_progress_grows_to_one_and_a_guess_stays_below_the_next_piece() -> None:
    session = new_session(2, seed=None)
    shares = [session.share([columns]) for columns in (0, 5, 20, 40, 10_000)]
    session.add(result())
    shares += [session.share([columns]) for columns in (0, 5, 10_000)]
    session.add(result())
    shares.append(session.share([]))
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[4] < shares[5] == 0.5
    assert shares[-2] < shares[-1] == 1.0
