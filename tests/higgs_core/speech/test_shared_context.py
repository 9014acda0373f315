"""A context that outlives one request: what later requests hear of earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from higgs_core.cancellation import CancelToken
from higgs_core.errors import DeviceMemoryError, GenerationCancelled, NoAudioError
from higgs_core.params import GenerationParams
from higgs_core.speech.piece_context import PieceContext
from higgs_core.speech.request import SpeechRequest
from higgs_core.speech.session import new_context
from higgs_core.speech.speak import speak, stream_speech
from tests.helpers.simulated_engine import SimulatedEngine, runs_on, says_nothing, speaks_well, text_of


def request(script: str, **fields: Any) -> SpeechRequest:
    params = GenerationParams(seed=3, max_new_tokens=400)
    return SpeechRequest(**{"script": script, "system_prompt": "S", "params": params} | fields)


def heard(engine: SimulatedEngine) -> list[str]:
    """The words that stood before those of the last generation, after the system turn."""
    sample, _ = engine.asked[-1]
    turns = sample.messages[sample.shared_turns : -1 : 2]
    return ["".join(part.text for part in turn.parts if hasattr(part, "text")) for turn in turns]


def spoken(engine: SimulatedEngine, scripts: Sequence[str], context: PieceContext) -> None:
    for script in scripts:
        speak(engine, request(script), {}, context=context)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "before_the_fourth"),
    [
        (0, []),
        (1, ["First.", "Third."]),  # no clip gives the voice, so the speaker's first piece stays
        (2, ["First.", "Second.", "Third."]),
        (None, ["First.", "Second.", "Third."]),
    ],
)
def test_a_later_request_hears_the_pieces_of_earlier_ones(size: int | None, before_the_fourth: list[str]) -> None:
    engine = SimulatedEngine()
    first = request("First.", generation_chunk_buffer_size=size)
    spoken(engine, ["First.", "Second.", "Third.", "Fourth."], new_context(first))
    assert heard(engine) == before_the_fourth
    assert text_of(engine.asked[-1][0]) == "Fourth."


def test_a_stream_shares_its_context_too_and_a_request_without_one_hears_nothing() -> None:
    engine, context = SimulatedEngine(), new_context(request(""))
    for _ in stream_speech(engine, request("First."), {}, context=context):  # type: ignore[arg-type]
        pass
    speak(engine, request("Second."), {}, context=context)  # type: ignore[arg-type]
    assert heard(engine) == ["First."]
    speak(engine, request("Third."), {})  # type: ignore[arg-type]
    assert heard(engine) == []
    assert len(context) == 2


def test_a_piece_that_went_wrong_is_no_context_for_later_requests() -> None:
    engine = SimulatedEngine([speaks_well, runs_on, speaks_well])
    spoken(engine, ["First.", "Second.", "Third."], new_context(request("")))
    assert heard(engine) == ["First."]


def test_a_request_that_is_not_complete_leaves_the_context_as_it_was() -> None:
    """Else what is tried again after an error would hear itself."""
    context, cancel = new_context(request("")), CancelToken()
    long = request("One two three. Four five six.", chunk_max_word_num=3)
    spoken(SimulatedEngine(), ["First."], context)
    with pytest.raises(DeviceMemoryError):
        speak(SimulatedEngine([speaks_well, DeviceMemoryError("full")]), long, {}, context=context)  # type: ignore[arg-type]
    with pytest.raises(NoAudioError):
        speak(SimulatedEngine([says_nothing]), long, {}, context=context)  # type: ignore[arg-type]
    with pytest.raises(GenerationCancelled):
        speak(
            SimulatedEngine(),  # type: ignore[arg-type]
            long,
            {},
            context=context,
            cancel=cancel,
            check_samples=lambda *samples: cancel.cancel(),
        )
    engine = SimulatedEngine()
    spoken(engine, ["Last."], context)
    assert heard(engine) == ["First."]


def test_earlier_requests_leave_where_they_do_not_fit() -> None:
    """However long a conversation grows, what is kept of it fits the engine."""
    engine = SimulatedEngine(max_context=600)
    context = new_context(request("", generation_chunk_buffer_size=None))
    for _ in range(12):
        speak(engine, request("Some words to say.", generation_chunk_buffer_size=None), {}, context=context)  # type: ignore[arg-type]
    assert 1 <= len(heard(engine)) < 11
    assert len(context) == len(heard(engine)) + 1
