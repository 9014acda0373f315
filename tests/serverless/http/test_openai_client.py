"""The real OpenAI client, against the real server."""

from __future__ import annotations

import base64
import json

import numpy as np
import openai
import pytest
import requests
import soundfile
from numpy.typing import NDArray

from higgs_core.audio import decode_audio, encode_audio, ffmpeg_path
from higgs_core.built_in import DEMO, TINY
from serverless.http.errors import HttpProblem
from serverless.http.models import require_model
from serverless.service.service import SpeechService
from tests.helpers.audio import decoded
from tests.helpers.http_server import Running
from tests.helpers.paths import CLIP
from tests.helpers.patience import PATIENCE

WORDS = "A sentence that is long enough to be heard in more than one piece, and then a little longer than that."
SEED = 11
OPTIONS = {"seed": SEED, "max_new_tokens": 200}
LOSSLESS = ("wav", "flac", "pcm")
LOSSY = ("mp3", "opus", pytest.param("aac", marks=pytest.mark.skipif(ffmpeg_path() is None, reason="needs ffmpeg")))


@pytest.fixture(scope="module")
def client(shared_server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{shared_server.url}/v1", api_key="not needed", max_retries=0)


@pytest.fixture(scope="module")
def expected(shared_server: Running) -> NDArray[np.int16]:
    """int16 [N]: what /generate answers for the same words and seed."""
    result = shared_server.generate({"script": WORDS, **OPTIONS}).json()
    return samples(base64.b64decode(result["audio_base64"]), "wav")


def samples(data: bytes, fmt: str) -> NDArray[np.int16]:
    return np.rint(decoded(data, fmt) * 32_768).astype(np.int16)


def assert_same(heard: NDArray[np.int16], expected: NDArray[np.int16]) -> None:
    """Equal sample by sample. A window of the codec rounds float32 in another order than the whole does, which shows in
    16 bits as one step, seldom, where a sample lies on the edge between two."""
    assert heard.shape == expected.shape
    apart = np.abs(heard.astype(int) - expected)
    assert apart.max() <= 1
    assert np.count_nonzero(apart) < len(expected) / 1000


def speak(client: openai.OpenAI, fmt: str) -> bytes:
    response = client.audio.speech.create(
        model="tiny", voice="default", input=WORDS, response_format=fmt, extra_body=OPTIONS
    )
    return response.content


def speak_streamed(client: openai.OpenAI, fmt: str) -> list[bytes]:
    with client.audio.speech.with_streaming_response.create(
        model="tiny", voice="default", input=WORDS, response_format=fmt, extra_body=OPTIONS
    ) as response:
        return list(response.iter_bytes())


@pytest.mark.parametrize("fmt", LOSSLESS)
def test_a_lossless_format_holds_the_samples_of_generate(
    client: openai.OpenAI, expected: NDArray[np.int16], fmt: str
) -> None:
    assert_same(samples(speak(client, fmt), fmt), expected)
    assert_same(samples(b"".join(speak_streamed(client, fmt)), fmt), expected)


@pytest.mark.parametrize("fmt", LOSSY)
def test_a_lossy_format_holds_the_sound_of_generate(
    client: openai.OpenAI, server: Running, expected: NDArray[np.int16], fmt: str
) -> None:
    whole, streamed = speak(client, fmt), b"".join(speak_streamed(client, fmt))
    assert samples_of_lossy(whole).shape == samples_of_lossy(streamed).shape
    np.testing.assert_array_equal(samples_of_lossy(whole), samples_of_lossy(streamed))
    assert likeness(samples_of_lossy(streamed), expected) > 0.85


def samples_of_lossy(data: bytes) -> NDArray[np.float32]:
    return decode_audio(data, origin="the answer")


def likeness(heard: NDArray[np.float32], expected: NDArray[np.int16]) -> float:
    """Correlation at the best delay, as encoders add up to a tenth of a second."""
    spread = np.correlate(heard, expected[: len(expected) - 4_800].astype(np.float32) / 32_768, "valid")
    best = int(np.argmax(spread))
    part = heard[best : best + len(expected) - 4_800]
    return float(np.corrcoef(part, expected[: len(part)])[0, 1])


def test_bytes_arrive_while_the_rest_is_still_being_generated(client: openai.OpenAI, server: Running) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="default", input=WORDS * 8, response_format="pcm", extra_body={"seed": SEED}
    ) as response:
        pieces = response.iter_bytes()
        first = next(pieces)
        working = server.service.stats()["in_flight"]
        rest = sum(len(piece) for piece in pieces)
    assert working == 1
    assert rest > len(first) > 0


def test_events_carry_the_audio_and_end_with_the_usage(client: openai.OpenAI, expected: NDArray[np.int16]) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts",
        voice="default",
        input=WORDS,
        response_format="pcm",
        stream_format="sse",
        extra_body=OPTIONS,
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    *deltas, done = (json.loads(line.removeprefix("data: ")) for line in lines)
    assert len(deltas) > 1
    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    joined = b"".join(base64.b64decode(delta["audio"]) for delta in deltas)
    assert_same(samples(joined, "pcm"), expected)
    assert done["type"] == "speech.audio.done"
    usage = done["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > usage["input_tokens"] > 0
    assert done["seed"] == SEED


def test_instructions_become_the_scene(client: openai.OpenAI, server: Running) -> None:
    scene = "A stadium full of people."
    spoken = client.audio.speech.create(
        model="tiny", voice="default", input=WORDS, instructions=scene, response_format="wav", extra_body=OPTIONS
    )
    same = server.generate({"script": WORDS, "scene_prompt": scene, **OPTIONS}).json()
    plain = server.generate({"script": WORDS, **OPTIONS}).json()
    expected = samples(base64.b64decode(same["audio_base64"]), "wav")
    assert_same(samples(spoken.content, "wav"), expected)
    assert same["audio_base64"] != plain["audio_base64"]


def test_a_voice_of_the_library_speaks_and_an_unknown_one_is_named(client: openai.OpenAI) -> None:
    client.audio.speech.create(model="tiny", voice="belinda", input="Hello.", extra_body={"max_new_tokens": 30})
    with pytest.raises(openai.BadRequestError) as refused:
        client.audio.speech.create(model="tiny", voice="nobody", input="Hello.")
    assert "belinda" in refused.value.message
    assert refused.value.param == "voice"


def test_mp3_is_what_a_client_gets_that_names_no_format(client: openai.OpenAI) -> None:
    response = client.audio.speech.create(
        model="tiny", voice="default", input="Hello.", extra_body={"max_new_tokens": 30}
    )
    assert response.response.headers["content-type"] == "audio/mpeg"


def test_a_field_without_effect_is_named_beside_bare_audio(client: openai.OpenAI) -> None:
    response = client.audio.speech.create(
        model="tiny", voice="default", input="Hello.", extra_body={"max_new_tokens": 30, "gain": 3}
    )
    assert any("gain" in warning for warning in json.loads(response.response.headers["x-warnings"]))


def test_the_model_says_what_a_built_in_checkpoint_is(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> tuple[bool, str | None]:
        (model,) = requests.get(f"{server.url}/v1/models", timeout=PATIENCE).json()["data"]
        return model["random_weights"], model["notice"]

    assert told() == (True, TINY.description)
    monkeypatch.setattr(SpeechService, "built_in", DEMO)
    assert told() == (False, DEMO.description)
    monkeypatch.setattr(SpeechService, "built_in", None)
    assert told() == (False, None)


def test_the_models_are_listed_and_found(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tts-1").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")


@pytest.mark.parametrize("served", ["bosonai/higgs-audio-v2-generation-3B-base", "bosonai/higgs-tts-2-3b-base"])
def test_the_released_model_goes_by_each_of_its_names(served: str) -> None:
    for name in (
        *("bosonai/higgs-audio-v2-generation-3B-base", "bosonai/higgs-tts-2-3b-base", "higgs-tts-2-3b-base"),
        *("higgs-audio-v2-generation-3B-base", "tts-1", "higgs-audio-v2", None),
    ):
        require_model(name, served)
    for name in ("higgs", "bosonai", "", 5, "tiny"):
        with pytest.raises(HttpProblem, match="not served here"):
            require_model(name, served)


def test_the_dated_names_of_openais_models_are_taken(client: openai.OpenAI) -> None:
    for name in ("gpt-4o-mini-tts-2025-12-15", "tts-1-1106", "tts-1-hd-1106"):
        client.audio.speech.create(model=name, voice="alloy", input="Hello.", extra_body={"max_new_tokens": 30})
        assert client.models.retrieve(name).id == "tiny"
    for name in (
        "tts-2-1106",
        "tts-1-",
        "tts-1-110",
        "gpt-4o-mini-tts-2025-12-15x",
        "gpt-4o-2025-12-15",
        "tts-1-１１０６",
    ):
        with pytest.raises(openai.NotFoundError):
            client.audio.speech.create(model=name, voice="alloy", input="Hello.")


def test_the_lists_of_names_are_read_by_the_client(client: openai.OpenAI) -> None:
    voices = client.get("/audio/voices", cast_to=object)
    assert len(voices["voices"]) >= 2  # type: ignore[index]
    listed = client.get("/audio/models", cast_to=object)["models"]  # type: ignore[index]
    assert [model["id"] for model in listed][:2] == ["tiny", "tts-1"]
    for model in listed:
        assert client.models.retrieve(model["id"]).id == "tiny"


def test_another_model_is_refused_by_name_of_the_field(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.audio.speech.create(model="whisper-1", voice="default", input="Hello.")
    assert refused.value.param == "model"
    assert refused.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": "Hello.", "response_format": "midi"}, "response_format"),
        ({"input": "Hello.", "stream_format": "carrier pigeon"}, "stream_format"),
        ({"input": "Hello.", "temperature": 99}, "temperature"),
        ({"input": "Hello.", "speed": 9}, "speed"),
    ],
)
def test_a_wrong_field_is_a_bad_request_that_names_it(
    client: openai.OpenAI, body: dict[str, object], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("/audio/speech", cast_to=object, body={"model": "tiny", "voice": "default", **body})
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"
    assert param in refused.value.message


def test_speed_shortens_the_same_speech(client: openai.OpenAI, server: Running, expected: NDArray[np.int16]) -> None:
    fast = client.audio.speech.create(
        model="tiny", voice="default", input=WORDS, response_format="pcm", speed=2, extra_body=OPTIONS
    )
    whole = server.generate({"script": WORDS, "speed": 2, **OPTIONS}).json()
    heard = samples(fast.content, "pcm")
    assert len(heard) / len(expected) == pytest.approx(0.5, abs=1e-4)
    assert whole["duration_seconds"] == pytest.approx(len(heard) / 24_000, abs=1e-4)  # it has four digits
    assert whole["chunks"][-1]["end_seconds"] == pytest.approx(whole["duration_seconds"], abs=0.1)


def test_what_is_wrong_with_a_clip_is_told_beside_bare_audio(client: openai.OpenAI) -> None:
    speech = soundfile.read(CLIP, dtype="float32")[0]
    padded = encode_audio(np.concatenate([np.zeros(48_000, np.float32), speech]), "wav")
    clip = {"audio_base64": base64.b64encode(padded).decode(), "transcript": "The words of a clip."}
    response = client.audio.speech.with_raw_response.create(
        model="tts-1", voice="default", input="Hello.", extra_body={"references": [clip], "max_new_tokens": 30}
    )
    warnings = json.loads(response.headers["x-warnings"])
    assert any("references[0]: 1.8 s of silence were cut" in warning for warning in warnings)
