"""Streamed audio equals the whole decode: any length, any number of segments, any moment of looking."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from higgs_core import AudioChunk, ChatMLSample, GenerationParams, HiggsAudioEngine, Message
from higgs_core.codec.pieces import CONTEXT_FRAMES
from higgs_core.errors import EngineStoppedError, GenerationCancelled, RequestError
from higgs_core.runtime.generation import Segment
from higgs_core.runtime.streaming import ChunkPlan, stream_lengths
from tests.golden import CASES, CHECKPOINTS, FOLDER
from tests.helpers.patience import wait_until

TOLERANCE = 1e-5


def segment_of(codes: np.ndarray, *, ended: bool) -> Segment:
    """A finished segment whose complete frames are `codes` [8, T]."""
    frames = np.concatenate([np.full((8, 1), 1024), codes, *([np.full((8, 1), 1025)] if ended else [])], axis=1)
    delayed = np.full((8, frames.shape[1] + 7), 1025)
    for k in range(8):
        delayed[k, :k] = 1024
        delayed[k, k : k + frames.shape[1]] = frames[k]
    return Segment(list(delayed.T.copy()), ended=ended)


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("frames", [1, 2, 9, 10, 11, 12, 13, 40, 63, 64, 65, 150])
@pytest.mark.parametrize("captured", [(), tuple(stream_lengths())], ids=["plain", "captured"])
def test_joined_chunks_equal_the_full_decode(
    tiny_engine: HiggsAudioEngine, frames: int, ended: bool, captured: tuple[int, ...]
) -> None:
    codec = tiny_engine._parts.codec
    assert codec is not None
    codes = np.random.default_rng(frames).integers(0, 1024, (8, frames))
    whole = segment_of(codes, ended=ended)
    assert whole.codes(1024).tolist() == codes.tolist()
    plan, sent = ChunkPlan(captured), []
    for count in range(1, len(whole.columns) + 1):  # as the columns come in
        last = count == len(whole.columns)
        so_far = Segment(whole.columns[:count], ended=ended and last)
        for piece in plan.ready(so_far.complete_frames, final=last):
            decoded = codec.decode(torch.from_numpy(so_far.frames(piece.left, piece.right, 1024))[None])[0].numpy()
            first = (piece.start - piece.left) * 960
            sent.append(decoded[first : first + (piece.stop - piece.start) * 960])
    joined = np.concatenate(sent)
    full = codec.decode(torch.from_numpy(codes)[None])[0].numpy()
    assert joined.shape == full.shape == (frames * 960,)
    assert np.abs(joined - full).max() < TOLERANCE


def test_the_first_chunk_leaves_after_eighteen_sampled_columns() -> None:
    columns = [np.full(8, 1024)]
    for sampled in range(1, 19):
        columns.append(np.zeros(8, dtype=np.int64))
        pieces = list(ChunkPlan().ready(Segment(columns).complete_frames, final=False))
        assert bool(pieces) == (sampled == 18)
    assert pieces[0].stop == 1
    assert pieces[0].right == 1 + CONTEXT_FRAMES


def test_chunks_grow_and_never_overlap() -> None:
    plan, ends = ChunkPlan(), []
    for complete in range(500):
        ends += [(piece.start, piece.stop) for piece in plan.ready(complete, final=complete == 499)]
    assert [start for start, _ in ends] == [0, *[stop for _, stop in ends[:-1]]]
    assert ends[-1][1] == 499
    lengths = [stop - start for start, stop in ends[:-1]]
    assert lengths == sorted(lengths)
    assert lengths[:4] == [1, 2, 4, 8]


def test_every_chunk_of_a_segment_that_is_long_enough_has_a_captured_length() -> None:
    lengths = stream_lengths()
    assert lengths == [11, 13, 17, 25, 36, 52, 84]
    for frames in range(1, 300):
        plan = ChunkPlan(lengths)
        *before, last = [piece for now in range(frames + 1) for piece in plan.ready(now, final=now == frames)]
        assert all(piece.decoded_frames in lengths for piece in before)
        assert last.right == frames
        assert 0 <= last.left <= max(last.start - CONTEXT_FRAMES, 0)
        if last.decoded_frames not in lengths:
            assert not any(last.decoded_frames < length <= frames for length in lengths)
        if frames >= max(lengths):
            assert last.decoded_frames in lengths


@pytest.mark.parametrize("seed", range(8))
def test_a_stream_says_what_generate_says(tiny_engine: HiggsAudioEngine, seed: int) -> None:
    sample = ChatMLSample([Message("user", "Hello there." * (1 + seed % 3))])
    params = GenerationParams(max_new_tokens=20 + 25 * seed, temperature=1.0, seed=seed)
    whole = tiny_engine.generate(sample, params)
    stream = tiny_engine.stream(sample, params)
    chunks = list(stream)
    assert whole.audio is not None
    assert stream.result is not None
    joined = np.concatenate([chunk.audio for chunk in chunks])
    assert joined.shape == whole.audio.shape
    assert joined.size == 0 or np.abs(joined - whole.audio).max() < TOLERANCE
    assert np.array_equal(stream.result.audio, joined)
    assert [c.tolist() for c in stream.result.audio_codes] == [c.tolist() for c in whole.audio_codes]
    if joined.size:
        timings = stream.result.timings
        assert 0 < timings["codec"] < timings["total"]
        assert timings["prefill"] < timings["first_audio"] < timings["total"]
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    starts = np.cumsum([0, *[len(chunk.audio) for chunk in chunks[:-1]]]).tolist()
    assert [chunk.start_sample for chunk in chunks] == starts


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_several_segments_stream_exactly(checkpoint: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The golden checkpoints speak in many short segments; the tiny codec gives them a voice."""
    from higgs_core.checkpoint.tiny import write_tiny

    _, codec = write_tiny(tmp_path_factory.mktemp("tiny"))
    with HiggsAudioEngine.from_pretrained(
        str(FOLDER / checkpoint), audio_tokenizer=str(codec), device="cpu", max_context=1024
    ) as engine:
        cases = [case for case in CASES if case.checkpoint == checkpoint and not case.raw["audio_codes"]]
        streams = [(case, engine.stream(case.sample, case.params)) for case in cases]  # at once
        segments = 0
        for case, stream in streams:
            joined = np.concatenate([chunk.audio for chunk in stream])
            assert stream.result is not None
            case.check(stream.result)
            whole = engine.generate(case.sample, case.params)
            assert joined.shape == whole.audio.shape  # type: ignore[union-attr]
            assert joined.size == 0 or np.abs(joined - whole.audio).max() < TOLERANCE
            segments = max(segments, len(stream.result.audio_codes))
        assert segments >= 2


def test_leaving_a_stream_early_frees_the_slot(tiny_engine: HiggsAudioEngine) -> None:
    params = GenerationParams(max_new_tokens=3000, temperature=1.0, seed=0)
    with tiny_engine.stream(ChatMLSample([Message("user", "Hello there, this is a test.")]), params) as stream:
        assert isinstance(next(stream), AudioChunk)
    wait_until(lambda: not tiny_engine.stats()["active"])
    try:
        for _ in stream:
            pass
    except GenerationCancelled:
        assert stream.result is None


def test_a_codec_that_stops_in_mid_stream_ends_the_stream_and_no_other_request() -> None:
    with HiggsAudioEngine.from_pretrained("tiny", device="cpu", max_batch_size=2, max_context=2048) as engine:
        assert engine._codec is not None
        sample = ChatMLSample([Message("user", "Hello there, this is a test.")])
        stream = engine.stream(sample, GenerationParams(max_new_tokens=1500, temperature=1.0, seed=0))
        next(stream)
        engine._codec.close()
        for _ in range(3):  # whoever asks again is told again, and never that the stream is complete
            with pytest.raises(EngineStoppedError, match="codec"):
                list(stream)
        wait_until(lambda: engine.stats()["active"] == 0)
        assert stream.result is None
        assert engine._scheduler.healthy


def test_without_a_codec_there_is_no_stream_but_codes() -> None:
    with HiggsAudioEngine.from_pretrained(str(FOLDER / CHECKPOINTS[0]), device="cpu", max_context=512) as engine:
        case = CASES[0]
        with pytest.raises(RequestError, match="audio tokenizer"):
            engine.stream(case.sample, case.params)
        assert engine.generate(case.sample, case.params).audio is None
