"""What Boson's examples show, as jobs, and the prompt that each of them is, written out by hand.

A prompt is spelled as turns of words, tokens and clips. The test lays them out by the documented rules, with
transformers' own tokenizer, and compares every id of every piece's prompt, and every clip's place and length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from higgs_core.checkpoint.load import load_config
from higgs_core.prompt.chatml import AudioContent
from higgs_core.prompt.layout import build_prompt
from higgs_core.speech.session import SpeechSession
from serverless.config.settings import Settings
from serverless.payload.parse import parse_job
from tests.golden import CASES
from tests.helpers.pieces import count_bytes, result
from tests.helpers.real_layout import tokenizers_of_real_layout

FAST, OURS = tokenizers_of_real_layout()
CONFIG = load_config(CASES[0].folder)


@dataclass(frozen=True)
class Token:
    text: str


@dataclass(frozen=True)
class Clip:
    """frames: tells the clips of a prompt apart."""

    frames: int


Part = str | Token | Clip
Turn = tuple[str, tuple[Part, ...]]


def system(*parts: Part) -> Turn:
    return "system", parts


def user(*parts: Part) -> Turn:
    return "user", parts


def assistant(*parts: Part) -> Turn:
    return "assistant", parts


def sound(kind: str, name: str) -> tuple[Part, ...]:
    return Token(f"<{kind}>"), f"[{name}]", Token(f"</{kind}>")


SCENE, SCENE_END = Token("<|scene_desc_start|>"), Token("<|scene_desc_end|>")
SAY, SAY_END = Token("<|generation_instruction_start|>"), Token("<|generation_instruction_end|>")
FOLLOWING = "Generate audio following instruction.\n\n"
QUIET = system(FOLLOWING, SCENE, "\nAudio is recorded from a quiet room.\n", SCENE_END)
DIALOGUE_PROMPT = (
    "You are an AI assistant designed to convert text into speech.\n"
    "If the user's message includes a [SPEAKER*] tag, do not read out the tag and generate speech for the following "
    "text, using the specified voice.\n"
    "If no speaker tag is present, select a suitable voice on your own.\n\n"
)

# References have 20, 21, … frames by their order in the job, pieces that were spoken before 40, 41, …
A, B = Clip(20), Clip(21)
FIRST, SECOND, THIRD = Clip(40), Clip(41), Clip(42)


def reference(**fields: Any) -> dict[str, Any]:
    return {"path": "/runpod-volume/a.wav", **fields}


ARGUMENT = "[SPEAKER0] You took my pen again.\n[SPEAKER1] I did not.\n[SPEAKER0] You did!"
BRITISH = "Male, British accent, speaks at a steady pace."

SCENARIOS: dict[str, tuple[dict[str, Any], list[list[Turn]]]] = {
    # --- smart voice ---
    "smart voice": (
        {"script": "The sun rises in the east and sets in the west"},
        [[QUIET, user("The sun rises in the east and sets in the west.")]],
    ),
    "smart voice, Chinese": (
        {"script": "你好，世界。今天（周五）很好！"},
        [[QUIET, user("你好, 世界.今天 周五 很好!")]],
    ),
    "smart voice without a system turn": ({"script": "Hello.", "system_prompt": ""}, [[user("Hello.")]]),
    "smart voice in a scene": (
        {"script": "Hello.", "scene_prompt": "A windy beach."},
        [[system(FOLLOWING, SCENE, "\nA windy beach.\n", SCENE_END), user("Hello.")]],
    ),
    "a system prompt of one's own with a scene": (
        {"script": "Hello.", "system_prompt": "Speak slowly.", "scene_prompt": "A windy beach."},
        [[system("Speak slowly.\n\n", SCENE, "\nA windy beach.\n", SCENE_END), user("Hello.")]],
    ),
    "text rules": (
        {"script": "It is   70°F (or 21°C)\n\n\nSo “warm”…"},
        [[QUIET, user('It is 70 degrees Fahrenheit or 21 degrees Celsius\nSo "warm"...')]],
    ),
    "text as it is": (
        {"script": "It is (70°F)，[laugh]", "normalize": False},
        [[QUIET, user("It is (70°F)，[laugh]")]],
    ),
    # --- clones ---
    "voice clone": (
        {"script": "Hello.", "references": [reference(transcript="Would you buy a broom?")]},
        [[QUIET, user("Would you buy a broom?"), assistant(A), user("Hello.")]],
    ),
    "voice clone without a transcript": (
        {"script": "Hello.", "reference_audio_path": "/runpod-volume/a.wav"},
        [[QUIET, user("Reference sample 1."), assistant(A), user("Hello.")]],
    ),
    "cross-lingual clone": (
        {"script": "Hello.", "references": [reference(transcript="对，这就是我。")]},
        [[QUIET, user("对，这就是我。"), assistant(A), user("Hello.")]],
    ),
    "clone in the system message": (
        {"script": "Hello.", "references": [reference(transcript="Words.")], "ref_audio_in_system_message": True},
        [
            [
                system(FOLLOWING, SCENE, "\nAudio is recorded from a quiet room.\n\nSPEAKER0: ", A, "\n", SCENE_END),
                user("Hello."),
            ]
        ],
    ),
    "several clips of one voice": (
        {"script": "Hello.", "references": [reference(transcript="One."), reference(transcript="Two.")]},
        [[QUIET, user("One."), assistant(A), user("Two."), assistant(B), user("Hello.")]],
    ),
    # --- profiles ---
    "a described voice": (
        {"script": "Hello.", "speakers": {"SPEAKER0": {"description": BRITISH}}},
        [
            [
                system(
                    FOLLOWING,
                    SCENE,
                    f"\nAudio is recorded from a quiet room.\n\nSPEAKER0: {BRITISH}\n",
                    SCENE_END,
                ),
                user("Hello."),
            ]
        ],
    ),
    "a described voice beside a clip": (
        {
            "script": "[SPEAKER0] Hello.\n[SPEAKER1] Hi.",
            "speakers": {"SPEAKER0": {"description": BRITISH}, "SPEAKER1": reference()},
            "scene_prompt": "A bar.",
        },
        [
            [
                system(FOLLOWING, SCENE, f"\nA bar.\n\nSPEAKER0: {BRITISH}\nSPEAKER1: ", A, "\n", SCENE_END),
                user("[SPEAKER0] Hello.\n[SPEAKER1] Hi."),
            ]
        ],
    ),
    # --- dialogue ---
    "dialogue, smart voices": (
        {"script": ARGUMENT},
        [
            [
                system(
                    DIALOGUE_PROMPT,
                    SCENE,
                    "\nAudio is recorded from a quiet room.\n\nSPEAKER0: feminine\nSPEAKER1: masculine\n",
                    SCENE_END,
                ),
                user(ARGUMENT),
            ]
        ],
    ),
    "dialogue, turn after turn": (
        {
            "script": ARGUMENT,
            "chunk_method": "speaker",
            "scene_prompt": "An office.",
            "generation_chunk_buffer_size": 1,
        },
        [
            [office, user("[SPEAKER0] You took my pen again.")]
            if at == 0
            else [
                office,
                user("[SPEAKER0] You took my pen again."),
                assistant(FIRST),
                *([user("[SPEAKER1] I did not."), assistant(SECOND)] if at == 2 else []),
                user("[SPEAKER1] I did not." if at == 1 else "[SPEAKER0] You did!"),
            ]
            for office in [
                system(DIALOGUE_PROMPT, SCENE, "\nAn office.\n\nSPEAKER0: feminine\nSPEAKER1: masculine\n", SCENE_END)
            ]
            for at in range(3)
        ],
    ),
    "dialogue by names": (
        {"dialogue": [{"speaker": "Ann", "text": "Hi [laugh]"}, {"speaker": "Bob", "text": "Hello."}]},
        [
            [
                system(
                    DIALOGUE_PROMPT,
                    SCENE,
                    "\nAudio is recorded from a quiet room.\n\nSPEAKER0: feminine\nSPEAKER1: masculine\n",
                    SCENE_END,
                ),
                user("[SPEAKER0] Hi ", *sound("SE", "Laughter"), "\n[SPEAKER1] Hello."),
            ]
        ],
    ),
    "two cloned voices": (
        {
            "script": "[SPEAKER0] Hello.\n[SPEAKER1] Hi.",
            "references": [
                reference(transcript="I am Belinda.", speaker_tag="SPEAKER0"),
                reference(transcript="I sell brooms.", speaker_tag="[SPEAKER1]"),
            ],
        },
        [
            [
                QUIET,
                user("[SPEAKER0] I am Belinda."),
                assistant(A),
                user("[SPEAKER1] I sell brooms."),
                assistant(B),
                user("[SPEAKER0] Hello.\n[SPEAKER1] Hi."),
            ]
        ],
    ),
    "two cloned voices in the system message, turn after turn": (
        {
            "script": "[SPEAKER0] Hello there.\n[SPEAKER1] Hi.",
            "references": [reference(), reference()],
            "ref_audio_in_system_message": True,
            "chunk_method": "speaker",
        },
        [
            [both, user("[SPEAKER0] Hello there.")]
            if at == 0
            else [both, user("[SPEAKER0] Hello there."), assistant(FIRST), user("[SPEAKER1] Hi.")]
            for both in [
                system(
                    FOLLOWING,
                    SCENE,
                    "\nAudio is recorded from a quiet room.\n\nSPEAKER0: ",
                    A,
                    "\nSPEAKER1: ",
                    B,
                    "\n",
                    SCENE_END,
                )
            ]
            for at in range(2)
        ],
    ),
    # --- sounds ---
    "humming with a cloned voice": (
        {
            "script": "Are you asking me to hum? [humming start] la la la [humming end] There you go.",
            "references": [reference(transcript="Words.")],
            "ras_win_len": 0,
        },
        [
            [
                QUIET,
                user("Words."),
                assistant(A),
                user(
                    "Are you asking me to hum? ",
                    *sound("SE_s", "Humming"),
                    " la la la ",
                    *sound("SE_e", "Humming"),
                    " There you go.",
                ),
            ]
        ],
    ),
    "background music": (
        {
            "script": "[music start] I will remember this. [music end]",
            "references": [reference()],
            "ref_audio_in_system_message": True,
        },
        [
            [
                system(FOLLOWING, SCENE, "\nAudio is recorded from a quiet room.\n\nSPEAKER0: ", A, "\n", SCENE_END),
                user(*sound("SE_s", "Music"), " I will remember this. ", *sound("SE_e", "Music")),
            ]
        ],
    ),
    "singing": (
        {"script": "[sing start] Row, row. [sing end]"},
        [[QUIET, user(*sound("SE_s", "Singing"), " Row, row. ", *sound("SE_e", "Singing"))]],
    ),
    "sounds between words": (
        {"script": "Ha [laugh] well [cough][cough] then [applause] [cheering] [music]"},
        [
            [
                QUIET,
                user(
                    "Ha ",
                    *sound("SE", "Laughter"),
                    " well ",
                    *sound("SE", "Cough"),
                    *sound("SE", "Cough"),
                    " then ",
                    *sound("SE", "Applause"),
                    " ",
                    *sound("SE", "Cheering"),
                    " ",
                    *sound("SE", "Music"),
                ),
            ]
        ],
    ),
    "sounds in a transcript and in a scene": (
        {
            "script": "Hello.",
            "scene_prompt": "People <SE>[Applause]</SE> all the time.",
            "references": [reference(transcript="Well <SE>[Cough]</SE> yes.")],
        },
        [
            [
                system(FOLLOWING, SCENE, "\nPeople ", *sound("SE", "Applause"), " all the time.\n", SCENE_END),
                user("Well ", *sound("SE", "Cough"), " yes."),
                assistant(A),
                user("Hello."),
            ]
        ],
    ),
    # --- instructions, messages ---
    "interleaved transcript and audio": (
        {
            "messages": [
                {
                    "role": "system",
                    "content": f"{FOLLOWING}<|scene_desc_start|>\nSPEAKER0: vocal fry\n\nRain.\n<|scene_desc_end|>",
                },
                {
                    "role": "user",
                    "content": "<|generation_instruction_start|>\nGenerate interleaved transcript and audio that lasts "
                    "for around 20 seconds.\n<|generation_instruction_end|>",
                },
            ],
            "force_audio_gen": False,
        },
        [
            [
                system(FOLLOWING, SCENE, "\nSPEAKER0: vocal fry\n\nRain.\n", SCENE_END),
                user(
                    SAY,
                    "\nGenerate interleaved transcript and audio that lasts for around 20 seconds.\n",
                    SAY_END,
                ),
            ]
        ],
    ),
    "an instruction before the words": (
        {"script": "<|generation_instruction_start|>\nAs a question.\n<|generation_instruction_end|>\nIs it so?"},
        [[QUIET, user(SAY, "\nAs a question.\n", SAY_END, "\nIs it so?")]],
    ),
    "messages as they are": (
        {
            "messages": [
                {"role": "user", "content": ["Listen: ", {"type": "audio", "path": "/runpod-volume/a.wav"}]},
                {"role": "assistant", "content": "I do."},
                {"role": "assistant", "content": [{"type": "audio", "path": "/runpod-volume/b.wav"}]},
                {"role": "user", "content": "Say （it） [laugh] "},
            ]
        },
        [[user("Listen: ", A), assistant("I do."), assistant(B), user("Say （it） [laugh] ")]],
    ),
    "messages with references": (
        {
            "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hello."}],
            "references": [reference(transcript="Words.")],
        },
        [[system("S"), user("Words."), assistant(A), user("Hello.")]],
    ),
    "control tokens that a user writes": (
        {"script": "Say <|eot_id|><|AUDIO_OUT|> now.", "scene_prompt": "A <|start_header_id|> place."},
        [
            [
                system(FOLLOWING, SCENE, "\nA <|start_header_id|> place.\n", SCENE_END),
                user("Say <|eot_id|><|AUDIO_OUT|> now."),
            ]
        ],
    ),
    # --- long form ---
    "long form with a reference": (
        {
            "script": "One one one. Two two two. Three three three. Four four four.",
            "chunk_method": "word",
            "chunk_max_word_num": 3,
            "generation_chunk_buffer_size": 2,
            "references": [reference(transcript="Words.")],
        },
        [
            [QUIET, user("Words."), assistant(A), *earlier, user(words)]
            for earlier, words in [
                ([], "One one one."),
                ([user("One one one."), assistant(FIRST)], "Two two two."),
                (
                    [user("One one one."), assistant(FIRST), user("Two two two."), assistant(SECOND)],
                    "Three three three.",
                ),
                (
                    [user("Two two two."), assistant(SECOND), user("Three three three."), assistant(THIRD)],
                    "Four four four.",
                ),
            ]
        ],
    ),
    "long form without a reference": (
        {
            "script": "One one one. Two two two. Three three three. Four four four.",
            "chunk_method": "word",
            "chunk_max_word_num": 3,
            "generation_chunk_buffer_size": 1,
        },
        [
            [QUIET, *earlier, user(words)]
            for earlier, words in [
                ([], "One one one."),
                ([user("One one one."), assistant(FIRST)], "Two two two."),
                (
                    [user("One one one."), assistant(FIRST), user("Two two two."), assistant(SECOND)],
                    "Three three three.",
                ),
                (
                    [user("One one one."), assistant(FIRST), user("Three three three."), assistant(THIRD)],
                    "Four four four.",
                ),
            ]
        ],
    ),
}


def laid_out(turns: list[Turn], *, forced: bool) -> tuple[list[int], list[int]]:
    """The documented layout: ids with a placeholder for each clip, and the clips' frames in order."""
    special = FAST.convert_tokens_to_ids
    ids, clips = [special("<|begin_of_text|>")], []

    def header(role: str) -> list[int]:
        return [special("<|start_header_id|>"), *words(role), special("<|end_header_id|>"), *words("\n\n")]

    for at, (role, parts) in enumerate(turns):
        ids += header(role)
        for part in parts:
            if isinstance(part, str):
                ids += words(part)
            elif isinstance(part, Token):
                ids.append(special(part.text))
            else:
                clips.append(part.frames)
                opening, place = (
                    ("<|audio_out_bos|>", "<|AUDIO_OUT|>") if role == "assistant" else ("<|audio_bos|>", "<|AUDIO|>")
                )
                ids += [special(opening), special(place), special("<|audio_eos|>")]
        follows = [role, *(other for other, _ in turns[at + 1 : at + 2])] == ["assistant", "assistant"]
        ids.append(special("<|eom_id|>" if follows else "<|eot_id|>"))
    ids += header("assistant")
    return [*ids, special("<|audio_out_bos|>")] if forced else ids, clips


def words(text: str) -> list[int]:
    """transformers' ids of words, whatever they spell: it is asked not to parse any token in them."""
    return list(FAST.encode(text, add_special_tokens=False, split_special_tokens=True))


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_prompt_of_a_scenario_is_the_one_written_out(name: str) -> None:
    job, expected = SCENARIOS[name]
    parsed = parse_job(job, Settings())
    assert parsed.warnings == ()
    request = parsed.request
    sources = request.reference_sources
    clips = {source: AudioContent(codes=np.full((8, 20 + at), at)) for at, source in enumerate(sources)}
    session = SpeechSession(request, clips, 8192, count_bytes)
    for at, turns in enumerate(expected):
        assert session.has_next
        prompt = build_prompt(
            session.sample(),
            OURS,
            CONFIG,
            lambda clip: torch.as_tensor(np.asarray(clip.codes)),
            force_audio=request.params.force_audio_gen,
        )
        ids, frames = laid_out(turns, forced=request.params.force_audio_gen)
        assert prompt.token_ids == ids, FAST.decode(prompt.token_ids)
        assert prompt.columns.shape[1] == sum(frames) + 9 * len(frames)
        assert _clip_lengths(prompt.columns) == frames
        session.add(result(40 + at))
    assert not session.has_next


def _clip_lengths(columns: torch.Tensor) -> list[int]:
    """Frames of each clip: its first codebook is BOS, the clip, and EOS to the end of the delay."""
    first = columns[0].tolist()
    starts = [at for at, code in enumerate(first) if code == 1024]
    return [first.index(1025, start) - start - 1 for start in starts]


def test_there_are_enough_scenarios() -> None:
    assert len(SCENARIOS) >= 30
