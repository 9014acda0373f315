"""A call that hangs: whoever waits is told one sentence, whoever comes is refused, and closing does not wait for it."""

from __future__ import annotations

import ast
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from higgs_core import AudioContent, ChatMLSample, GenerationParams, HiggsAudioEngine, Message
from higgs_core import engine as engine_module
from higgs_core.build import EngineParts, load_parts
from higgs_core.engine_config import EngineConfig
from higgs_core.errors import EngineStoppedError
from tests.helpers.paths import ROOT
from tests.helpers.patience import PATIENCE, wait_until

HELLO = ChatMLSample([Message("user", "Hello there, listen to this.")])
CLIP = ChatMLSample([Message("assistant", AudioContent(waveform=np.zeros(24_000, np.float32))), Message("user", "Hi.")])
LONG = GenerationParams(max_new_tokens=300, temperature=1.0, seed=0)
ENGINE = "The engine does not answer any more; this worker is being replaced."
CODEC = "The audio codec does not answer any more; this worker is being replaced."


class Hung:
    """An engine whose watchdog's time stands still until the test lets it run, and a call of it that can be held."""

    def __init__(self, parts: EngineParts) -> None:
        self.parts = parts
        self.hangs, self._released, self._time = threading.Event(), threading.Event(), threading.Event()
        self.engine = HiggsAudioEngine(parts, hang_seconds=0.2, clock=self._clock)

    def _clock(self) -> float:
        return time.monotonic() if self._time.is_set() else 0.0

    def warm(self) -> None:
        """Until each thread has done its first work, it has five times as long."""
        self.engine.generate(HELLO, GenerationParams(max_new_tokens=20, seed=1))

    def hold(self, owner: Any, name: str) -> None:
        """The next call of the method hangs."""
        call = getattr(owner, name)

        def held(*arguments: Any) -> Any:
            self.hangs.set()
            self._released.wait()
            return call(*arguments)

        setattr(owner, name, held)

    def find(self) -> None:
        """Wait until the call hangs and everything else has come to rest, and let the watchdog find it."""
        assert self.hangs.wait(PATIENCE)
        beats = [each.heartbeat for each in self.engine._watchdog._watched]
        wait_until(lambda: sum(beat.busy for beat in beats) == 1)
        self._time.set()
        wait_until(lambda: not self.engine.healthy)

    def release(self) -> None:
        self._released.set()


@pytest.fixture
def hung() -> Iterator[Hung]:
    made = Hung(load_parts(EngineConfig("tiny", device="cpu", max_batch_size=2, max_context=1024, max_waiting=6)))
    yield made
    made.release()
    made.engine.close()


PLACES: dict[str, tuple[Callable[[EngineParts], Any], str, str]] = {
    "prefill": (lambda parts: parts.decoder, "prefill", ENGINE),
    "decode step": (lambda parts: parts.runner, "run", ENGINE),
    "postprocess": (lambda parts: parts.postprocess, "_add_column", ENGINE),
    "prefix": (lambda parts: parts.prefixes, "fetch", ENGINE),
    "decode of the codec": (lambda parts: parts.codec, "decode", CODEC),
    "encode of the codec": (lambda parts: parts.codec, "encode", CODEC),
}


@pytest.mark.parametrize("place", PLACES)
def test_everybody_is_told_and_the_engine_is_unhealthy(hung: Hung, place: str) -> None:
    owner, name, sentence = PLACES[place]
    hung.warm()
    hung.hold(owner(hung.parts), name)
    told: list[str] = []
    hung.engine.on_failure(lambda error: told.append(error.message))
    with ThreadPoolExecutor() as pool:

        def one(stream: bool) -> None:
            sample = CLIP if "encode" in place else HELLO
            if stream:
                with hung.engine.stream(sample, LONG) as chunks:
                    list(chunks)
            else:
                hung.engine.generate(sample, LONG)

        asked = [pool.submit(one, stream) for stream in (False, True, False, True)]  # two of them wait for a slot
        hung.find()
        for each in asked:
            error = each.exception(PATIENCE)
            assert isinstance(error, EngineStoppedError)
            assert error.message == sentence
            assert error.recycle_worker
    assert told == [sentence]
    assert hung.engine.failure is not None
    with pytest.raises(EngineStoppedError, match="does not answer"):
        hung.engine.submit(HELLO)
    with pytest.raises(EngineStoppedError, match="does not answer"):
        hung.engine.stream(HELLO)


def test_what_a_call_brings_that_wakes_up_later_is_dropped(hung: Hung) -> None:
    hung.warm()
    hung.hold(hung.parts.runner, "run")
    future = hung.engine.submit(HELLO, LONG)
    hung.find()
    error = future.exception(PATIENCE)
    hung.release()
    assert hung.engine.close(), "both threads end once the call has returned"
    assert future.exception() is error
    assert str(hung.engine.failure) == ENGINE


def test_a_text_step_that_hangs_is_found(hung: Hung) -> None:
    hung.warm()
    hung.hold(hung.parts.runner, "run_text")
    params = GenerationParams(max_new_tokens=30, seed=0, force_audio_gen=False)
    future = hung.engine.submit(HELLO, params)
    hung.find()
    assert str(future.exception(PATIENCE)) == ENGINE


@pytest.mark.parametrize("what", ["capture", "first stream"])
def test_a_warm_up_that_hangs_ends_in_the_sentence(hung: Hung, what: str) -> None:
    hung.hold(*((hung.parts.decode_step, "warm_up") if what == "capture" else (hung.parts.decoder, "prefill")))
    with ThreadPoolExecutor(1) as pool:
        warming = pool.submit(hung.engine.warm_up)
        hung.find()
        assert str(warming.exception(PATIENCE)) == ENGINE


def test_a_cancelled_request_in_a_hung_step_is_over_for_its_caller(hung: Hung) -> None:
    hung.warm()
    hung.hold(hung.parts.runner, "run")
    future, stream = hung.engine.submit(HELLO, LONG), hung.engine.stream(HELLO, LONG)
    assert hung.hangs.wait(PATIENCE)
    assert future.cancel()
    stream.close()
    hung.find()
    assert future.cancelled()
    with pytest.raises(EngineStoppedError):
        next(stream)


@pytest.mark.parametrize("place", ["decode step", "decode of the codec"])
def test_closing_leaves_a_thread_behind_that_hangs(hung: Hung, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the watchdog has found it: whoever waits is told by `close`."""
    monkeypatch.setattr(engine_module, "CLOSE_SECONDS", 0.2)
    owner, name, _ = PLACES[place]
    hung.warm()
    hung.hold(owner(hung.parts), name)
    future = hung.engine.submit(HELLO, LONG)
    assert hung.hangs.wait(PATIENCE)
    assert not hung.engine.close()
    assert isinstance(future.exception(PATIENCE), EngineStoppedError)


def test_the_watchdogs_thread_asks_nothing_of_torch(hung: Hung) -> None:
    """A call of CUDA's would hang behind the one that hangs already."""
    called: set[str] = set()

    def note(frame: Any, event: str, argument: Any) -> None:
        if threading.current_thread().name == "higgs-watchdog":
            module = frame.f_globals.get("__name__") if event == "call" else getattr(argument, "__module__", None)
            called.add(str(module))

    threading.setprofile(note)
    try:
        watched = Hung(hung.parts)
    finally:
        threading.setprofile(None)
    hung.engine.close()
    watched.warm()
    watched.hold(watched.parts.runner, "run")
    futures = [watched.engine.submit(HELLO, LONG) for _ in range(3)]
    stream = watched.engine.stream(HELLO, LONG)
    watched.find()
    for future in futures:
        assert isinstance(future.exception(PATIENCE), EngineStoppedError)
    with pytest.raises(EngineStoppedError):
        list(stream)
    watched.release()
    assert watched.engine.close()
    assert "higgs_core.runtime.streaming" in called
    assert not [module for module in called if module.startswith("torch")]


def test_a_wall_clock_that_jumps_by_hours_changes_nothing(hung: Hung, monkeypatch: pytest.MonkeyPatch) -> None:
    params = GenerationParams(max_new_tokens=60, temperature=1.0, seed=4)
    expected = hung.engine.generate(HELLO, params)
    jumps = itertools.cycle((0.0, 7200.0, -86_400.0, 3.0))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + next(jumps))
    with hung.engine.stream(HELLO, params) as stream:
        audio = np.concatenate([chunk.audio for chunk in stream])
    assert expected.audio is not None
    assert audio.shape == expected.audio.shape
    assert hung.engine.generate(HELLO, params).timings["total"] > 0
    assert hung.engine.healthy


def test_no_deadline_is_on_the_wall_clock() -> None:
    """It may say when something is: the expiry of a presigned address, when a model was offered, a voice added."""
    allowed = {f"serverless/{name}.py" for name in ("delivery/s3", "http/app", "voices/catalogue", "voices/library")}
    asks = {"time.time", "datetime.now", "datetime.utcnow"}
    found = set()
    for file in [*(ROOT / "higgs_core").rglob("*.py"), *(ROOT / "serverless").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in asks:
                found.add(str(file.relative_to(ROOT)))
    assert found <= allowed
