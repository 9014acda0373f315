"""What the payload tests share: parse with default settings, and catch the sentence of a refusal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from higgs_core.errors import RequestError
from higgs_core.speech.voices import Voice, VoiceLibrary
from serverless.config.settings import Settings
from serverless.payload.parse import ParsedJob, parse_job


def library(*names: str) -> VoiceLibrary:
    """Voices of these names, each with the transcript "Words of NAME."."""
    return VoiceLibrary({name: Voice(name, f"Words of {name}.", np.zeros(24_000, np.float32)) for name in names})


ANNA_AND_BOB = library("anna", "bob")


def parsed(voices: VoiceLibrary = ANNA_AND_BOB, settings: Settings | None = None, **job_input: Any) -> ParsedJob:
    """The job of these fields, with a script unless they bring something to speak."""
    spoken = {"script": "Hello."} if not {"script", "messages", "dialogue", "prompt"} & set(job_input) else {}
    return parse_job({**spoken, **job_input}, settings or Settings(), voices=voices)


def refusal(job_input: Any, settings: Settings | None = None) -> RequestError:
    """The error that a job's input is answered with; one line in every case."""
    with pytest.raises(RequestError) as caught:
        parse_job(job_input, settings or Settings(), voices=ANNA_AND_BOB)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300
    return caught.value
