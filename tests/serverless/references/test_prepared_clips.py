"""Clips of a request are mended before they are used, and the response says so."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from higgs_core import HiggsAudioEngine
from higgs_core.audio import encode_audio
from higgs_core.speech.request import ReferenceSource
from serverless.config.settings import Settings
from serverless.references.resolve import ClipResolver, ResolvedClips
from tests.helpers.loopback import LOOPBACK, Server
from tests.helpers.paths import CLIP
from tests.helpers.patience import PATIENCE
from tests.helpers.service import answer, items, serving

DATA = CLIP.read_bytes()
WORDS = (CLIP.parent / "reference.txt").read_text().strip()
SPEECH = soundfile.read(CLIP, dtype="float32")[0]
PADDED = encode_audio(np.concatenate([np.zeros(48_000, np.float32), SPEECH]), "wav")
JOB = {"script": "Hello.", "seed": 3, "max_new_tokens": 30}
CUT = "references[0]: 1.8 s of silence were cut."


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def reference(data: bytes, **fields: Any) -> dict[str, Any]:
    return {"references": [{"audio_base64": encoded(data), "transcript": WORDS, **fields}]}


def resolved(*sources: ReferenceSource, prepare: bool = True, settings: Settings | None = None) -> ResolvedClips:
    async def main() -> ResolvedClips:
        resolver = ClipResolver(settings or Settings(), LOOPBACK)
        try:
            async with resolver.resolved(sources, timeout_seconds=PATIENCE, prepare=prepare) as clips:
                return clips
        finally:
            resolver.close()

    return asyncio.run(main())


def test_clips_are_mended_wherever_they_come_from(tmp_path: Path) -> None:
    (tmp_path / "padded.wav").write_bytes(PADDED)
    with Server(lambda connection: connection.answer(PADDED)) as server:
        sources = (
            ReferenceSource("references[0]", url=server.url),
            ReferenceSource("references[1]", base64=encoded(PADDED)),
            ReferenceSource("references[2]", path=str(tmp_path / "padded.wav")),
            ReferenceSource("references[3]", base64=encoded(DATA)),
            ReferenceSource("references[4]", url=server.url, transcript="Fetched once, and named twice."),
        )
        clips = resolved(*sources, settings=Settings(reference_dirs=(tmp_path,)))
    assert [warning.partition(":")[0] for warning in clips.warnings] == [
        "references[0]",
        "references[1]",
        "references[2]",
        "references[4]",
    ]
    first, *others = (clips.audio[sources[at]].waveform for at in (0, 1, 2, 4))
    assert first is not None
    assert len(first) < len(SPEECH) + 6_000
    for other in others:
        np.testing.assert_array_equal(first, other)
    np.testing.assert_array_equal(clips.audio[sources[3]].waveform, SPEECH)


def test_who_wants_clips_as_they_are_gets_them(tiny_engine: HiggsAudioEngine) -> None:
    clips = resolved(ReferenceSource("references[0]", base64=encoded(PADDED)), prepare=False)
    (clip,) = clips.audio.values()
    np.testing.assert_array_equal(clip.waveform, np.concatenate([np.zeros(48_000, np.float32), SPEECH]))
    with serving(tiny_engine) as service:
        job = {**JOB, **reference(PADDED), "prepare_references": False}
        assert CUT not in asyncio.run(answer(service, job))["warnings"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_response_says_what_was_done_at_both_ways_out(tiny_engine: HiggsAudioEngine, stream: bool) -> None:
    with serving(tiny_engine) as service:
        job = {**JOB, **reference(PADDED), "stream": stream}
        last = asyncio.run(items(service, job))[-1] if stream else asyncio.run(answer(service, job))
    assert CUT in last["warnings"]


def test_a_good_clip_has_the_codes_that_it_always_had_and_is_encoded_once(tiny_engine: HiggsAudioEngine) -> None:
    other = encode_audio(np.concatenate([np.zeros(30_000, np.float32), SPEECH[::-1]]), "wav")
    with serving(tiny_engine) as service:
        first = asyncio.run(answer(service, {**JOB, **reference(DATA)}))
        before = tiny_engine.stats()
        again = asyncio.run(answer(service, {**JOB, **reference(DATA), "prepare_references": False}))
        padded = [asyncio.run(answer(service, {**JOB, **reference(other)})) for _ in range(2)]
        after = tiny_engine.stats()
    assert not [warning for warning in first["warnings"] if warning.startswith("references")]
    assert first["audio_base64"] == again["audio_base64"]
    assert padded[0]["audio_base64"] == padded[1]["audio_base64"]
    assert after["cache_misses"] - before["cache_misses"] == 1  # the other clip, once
