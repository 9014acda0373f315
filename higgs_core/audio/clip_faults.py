"""What is wrong with a reference clip, in clauses for a warning. Loads no torch."""

from __future__ import annotations

from higgs_core.audio.clip_preparation import PreparedClip
from higgs_core.rates import FRAMES_PER_SECOND, SAMPLING_RATE
from higgs_core.text.speech_length import speech_length

RECOMMENDED_SECONDS = (3.0, 30.0)
MOST_CLIPPED = 1e-3
"""The share of samples at full scale that is not worth a word."""
LEAST_SNR_DB = 18.0
"""Below it noise is copied along. Speech without a pause has quietest sounds some 20 dB below its level."""
QUIETEST_DB = -45.0
"""Active level in dBFS of speech that is raised with its noise."""
LEAST_SOUNDING = 0.5
"""The share of a clip that is to be sound."""
LONG_PAUSE_SECONDS, MOST_LONG_PAUSES = 1.0, 2


def clip_warning(origin: str, clip: PreparedClip, transcript: str | None) -> str | None:
    """One sentence on what was done to a clip and what is wrong with it; None for a good one.

    origin: what the payload calls it.  transcript: the words that are said to be spoken in it.
    """
    clauses = (*clip.done, *clip_faults(clip, transcript))
    return f"{origin}: {'; '.join(clauses)}." if clauses else None


def clip_faults(clip: PreparedClip, transcript: str | None) -> tuple[str, ...]:
    """What is wrong with it, a clause each: its length as it is used, the rest as it came."""
    found, seconds = clip.found, len(clip.waveform) / SAMPLING_RATE
    faults = []
    shortest, longest = RECOMMENDED_SECONDS
    if not shortest <= round(seconds, 1) <= longest:
        faults.append(f"it lasts {seconds:.1f} s, and {shortest:g} to {longest:g} s of speech are recommended")
    if found.clipped > MOST_CLIPPED:
        faults.append(f"{found.clipped:.1%} of its samples are clipped")
    if found.speech_db < QUIETEST_DB:
        faults.append(f"its speech is very quiet at {found.speech_db:.0f} dBFS")
    if found.speech_db - found.noise_db < LEAST_SNR_DB:
        faults.append(f"its noise is only {found.speech_db - found.noise_db:.0f} dB below its speech")
    if found.sounding_seconds < LEAST_SOUNDING * found.seconds:
        faults.append(f"{1 - found.sounding_seconds / found.seconds:.0%} of it is silence")
    pauses = sum(end - start > LONG_PAUSE_SECONDS * SAMPLING_RATE for start, end in found.pauses)
    if pauses > MOST_LONG_PAUSES:
        faults.append(f"it has {pauses} long pauses")
    return (*faults, *_transcript_faults(transcript, seconds))


def _transcript_faults(transcript: str | None, seconds: float) -> tuple[str, ...]:
    """Whether the words can be those of the clip, by the slowest and the fastest that anybody speaks."""
    length = speech_length(transcript or "")
    if length is None:
        return ()
    if seconds * FRAMES_PER_SECOND < length.least:
        return (f"its transcript has more words than {seconds:.1f} s can hold",)
    if seconds * FRAMES_PER_SECOND > length.most:
        return (f"its transcript has too few words for {seconds:.1f} s",)
    return ()
