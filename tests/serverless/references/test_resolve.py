"""References of a request: each way to give a clip, the caps, and voices of the library."""

from __future__ import annotations

import asyncio
import base64
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from higgs_core.errors import ReferenceAudioError
from higgs_core.speech.request import Clips, ReferenceSource
from higgs_core.speech.voices import Voice
from serverless.config.settings import Settings
from serverless.references.resolve import ClipResolver
from tests.helpers.clips import resolve
from tests.helpers.loopback import LOOPBACK, Connection, Server
from tests.helpers.paths import CLIP
from tests.helpers.patience import PATIENCE

WORDS = (CLIP.parent / "reference.txt").read_text().strip()
DATA = CLIP.read_bytes()
ENCODED = base64.b64encode(DATA).decode()
SAMPLES = soundfile.read(CLIP, dtype="float32")[0]
SETTINGS = Settings(reference_dirs=(CLIP.parent,))


def clip(settings: Settings = SETTINGS, **source: Any) -> np.ndarray[Any, Any]:
    reference = ReferenceSource("references[0]", **source)
    content = asyncio.run(resolve([reference], settings, timeout_seconds=PATIENCE, guard=LOOPBACK))[reference]
    assert content.waveform is not None
    return content.waveform


def refusal(settings: Settings = SETTINGS, **source: Any) -> ReferenceAudioError:
    with pytest.raises(ReferenceAudioError) as failure:
        clip(settings, **source)
    assert failure.value.field == "references[0]"
    return failure.value


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(ENCODED, id="plain"),
        pytest.param(f"data:audio/wav;base64,{ENCODED}", id="data address"),
        pytest.param(f"DATA:AUDIO/WAV;BASE64,{ENCODED}", id="capitals"),
        pytest.param(f"data:audio/ogg; codecs=opus;base64,{ENCODED}", id="with parameters"),
        pytest.param(f"data:;base64,{ENCODED}", id="without a type"),
        pytest.param(base64.encodebytes(DATA).decode(), id="with line breaks"),
        pytest.param(base64.encodebytes(DATA).decode().replace("\n", "\r\n"), id="with carriage returns"),
    ],
)
def test_base64_is_decoded(payload: str) -> None:
    np.testing.assert_array_equal(clip(base64=payload), SAMPLES)


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "=",
        "====",
        "A",
        "not base64!",
        ENCODED[:-1],
        ENCODED + "=",
        ENCODED[:100] + " " + ENCODED[100:],
        ENCODED[:100] + "\0" + ENCODED[100:],
        ENCODED[:100] + "-_" + ENCODED[102:],
        "é" + ENCODED,
        "\ud800",
        "data:",
        "data:,",
        "data:audio/wav;base64",
        "data:audio/wav;base64,",
        f"data:audio/wav,{ENCODED}",
        f"data:audio/wav;base64,data:audio/wav;base64,{ENCODED}",
        "/etc/passwd",
        "http://127.0.0.1/",
        str(CLIP),
    ],
)
def test_what_is_not_base64_is_refused_and_never_taken_for_something_else(payload: str) -> None:
    error = refusal(base64=payload)
    assert error.message in (
        "Invalid base64 audio payload.",
        "references[0] does not hold audio in a format that is read.",  # /etc/passwd happens to be base64
    )
    assert "passwd" not in error.message


def test_base64_is_measured_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*_: Any, **__: Any) -> bytes:
        raise AssertionError("decoded")

    settings = Settings(max_reference_bytes=1000)
    monkeypatch.setattr(base64, "b64decode", unwanted)
    assert refusal(settings, base64="A" * 2000).message == "references[0] has more than 0.001 MB."


def test_the_cap_on_bytes_is_exact(tmp_path: Path) -> None:
    for spare, fits in ((0, True), (-1, False)):
        settings = Settings(max_reference_bytes=len(DATA) + spare, reference_dirs=(CLIP.parent,))
        ways = [{"base64": ENCODED}, {"base64": base64.encodebytes(DATA).decode()}, {"path": str(CLIP)}]
        with Server(lambda connection: connection.answer(DATA)) as server:
            for way in [*ways, {"url": server.url}]:
                if fits:
                    assert len(clip(settings, **way)) == len(SAMPLES)
                else:
                    refusal(settings, **way)


def test_a_path_inside_an_allowed_folder_is_read() -> None:
    np.testing.assert_array_equal(clip(path=str(CLIP)), SAMPLES)
    assert refusal(Settings(), path=str(CLIP)).message == (
        "references[0] is not a readable file inside the allowed folders."
    )


def test_a_url_is_fetched() -> None:
    with Server(lambda connection: connection.answer(DATA, Content_Type="text/plain")) as server:
        np.testing.assert_array_equal(clip(url=f"{server.url}/a%20b.mp3?signature=x#t=1"), SAMPLES)
        assert server.seen[0].path == "/a%20b.mp3?signature=x"


def test_loopback_is_refused_unless_a_guard_says_otherwise() -> None:
    source = ReferenceSource("references[0]", url="http://127.0.0.1/a.wav")
    with pytest.raises(ReferenceAudioError, match=r"^references\[0\] could not be fetched\.$"):
        asyncio.run(resolve([source], SETTINGS, timeout_seconds=PATIENCE))


def test_a_page_instead_of_a_clip_is_named() -> None:
    with Server(lambda connection: connection.answer(b"<html>Not here</html>")) as server:
        assert refusal(url=server.url).message == "references[0] is a page or text, not audio."


def test_urls_are_fetched_at_the_same_time() -> None:
    together = threading.Barrier(4)

    def script(connection: Connection) -> None:
        together.wait(PATIENCE)  # answers only once all four are asked
        connection.answer(DATA)

    with Server(script) as server:
        sources = [ReferenceSource(f"references[{at}]", url=f"{server.url}/{at}") for at in range(4)]
        clips = asyncio.run(resolve(sources, SETTINGS, timeout_seconds=PATIENCE, guard=LOOPBACK))
    assert list(clips) == sources


def test_one_address_named_twice_is_fetched_once() -> None:
    with Server(lambda connection: connection.answer(DATA)) as server:
        sources = [ReferenceSource(f"references[{at}]", url=server.url) for at in range(3)]
        clips = asyncio.run(resolve(sources, SETTINGS, timeout_seconds=PATIENCE, guard=LOOPBACK))
        assert len(server.seen) == 1
    assert len(clips) == 3


def test_a_clip_that_is_wrong_here_ends_the_request_before_a_slow_address_answers() -> None:
    asked = threading.Event()

    def script(connection: Connection) -> None:
        asked.set()
        connection.drip(b"H", pause=0.05)

    with Server(script) as server:
        slow = ReferenceSource("references[0]", url=server.url)
        wrong = ReferenceSource("references[1]", base64="!")
        with pytest.raises(ReferenceAudioError) as failure:
            asyncio.run(resolve([slow, wrong], SETTINGS, timeout_seconds=600, guard=LOOPBACK))
        assert failure.value.field == "references[1]"
        assert not asked.is_set() or server.gone.wait(PATIENCE)  # and the address is given up


def test_the_first_way_that_is_given_wins() -> None:
    np.testing.assert_array_equal(clip(base64=ENCODED, path="/etc/passwd", voice="nobody"), SAMPLES)
    assert "could not be fetched" in refusal(url="ftp://x/", base64=ENCODED).message


def test_limits_on_length_come_from_the_settings() -> None:
    assert "longer than 2 s" in refusal(Settings(max_reference_seconds=2), base64=ENCODED).message
    assert "at least 10 s" in refusal(Settings(min_reference_seconds=10), base64=ENCODED).message


def test_no_sources_need_nothing() -> None:
    assert asyncio.run(resolve([], Settings(), timeout_seconds=1)) == {}


# -- Codes ------------------------------------------------------------------------------------------------------------

CODES = np.arange(8 * 50, dtype=np.int16).reshape(8, 50)


def test_codes_of_a_request_and_of_a_voice_stay_codes() -> None:
    voice = Voice("anna", "Words.", codes=CODES)
    sent = ReferenceSource("references[0]", codes=CODES + 1)
    named = ReferenceSource("voice", voice=voice)

    async def clips() -> Clips:
        resolver = ClipResolver(SETTINGS)
        try:
            async with resolver.resolved([sent, named], timeout_seconds=1, voices={voice: CODES}) as found:
                return found.audio
        finally:
            resolver.close()

    found = asyncio.run(clips())
    np.testing.assert_array_equal(found[sent].codes, CODES + 1)
    assert found[named].codes is CODES


def test_codes_count_towards_the_seconds_of_all_clips() -> None:
    settings = Settings(max_total_reference_seconds=3)
    sources = [ReferenceSource(f"references[{at}]", codes=CODES) for at in range(2)]
    with pytest.raises(ReferenceAudioError, match=r"references\[1\] brings the clips of this request to 4.0 s"):
        asyncio.run(resolve(sources, settings, timeout_seconds=1))
