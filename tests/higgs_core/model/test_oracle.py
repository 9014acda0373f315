"""The engine against transformers' own model and codec, on the same random weights, in fp32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, HiggsAudioV2ForConditionalGeneration, HiggsAudioV2TokenizerModel

from benchmarks.models import SMALLEST, random_parts
from higgs_core import AudioContent, ChatMLSample, GenerationParams, HiggsAudioEngine, Message, TextContent
from higgs_core.build import EngineParts, load_parts
from higgs_core.checkpoint.tiny import write_tiny
from higgs_core.codec.audio_codec import AudioCodec
from higgs_core.engine_config import EngineConfig
from higgs_core.prompt.layout import Prompt
from tests.helpers.transformers_twin import prompt_inputs, prompt_of, transformers_twin

SLOTS = 4


def clip(frames: int, seed: int) -> AudioContent:
    return AudioContent(codes=np.random.default_rng(seed).integers(0, 1024, (8, frames)))


def samples() -> list[ChatMLSample]:
    """Prompts with no clip, one spoken by the assistant, and clips of every role between words."""
    return [
        ChatMLSample([Message("user", "The sun rises in the east.")]),
        ChatMLSample(
            [
                Message("system", "Generate audio following instruction."),
                Message("user", "It was the night before my birthday."),
                Message("assistant", clip(31, 1)),
                Message("user", "Hooray!"),
            ]
        ),
        ChatMLSample(
            [
                Message("system", [TextContent("SPEAKER0: "), clip(5, 2), TextContent(" and SPEAKER1: "), clip(1, 3)]),
                Message("user", [clip(12, 4), TextContent("Say that again.")]),
                Message("assistant", [clip(9, 5), clip(2, 6)]),
                Message("user", "Once more."),
            ]
        ),
    ]


@pytest.fixture(scope="module", params=["tiny", "uneven heads"])
def parts(request: pytest.FixtureRequest) -> EngineParts:
    torch.set_num_threads(1)
    if request.param == "tiny":
        return load_parts(EngineConfig("tiny", device="cpu", dtype="fp32", max_batch_size=SLOTS, max_context=512))
    return random_parts(SMALLEST, "cpu", torch.float32, slots=SLOTS, context=512)


@pytest.fixture(scope="module")
def twin(parts: EngineParts) -> HiggsAudioV2ForConditionalGeneration:
    """It takes two ids for audio, so its second one stands for clips of system and user turns."""
    return transformers_twin(parts.config, parts.weights, delay_token=parts.tokenizer.control.audio_in)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def prefill(parts: EngineParts, prompt: Prompt, slot: int) -> torch.Tensor:
    """Logits [Q, V] of the prompt's last position."""
    hidden = parts.decoder.prefill(
        slot,
        0,
        prompt.positions,
        prompt.is_audio.nonzero()[:, 0],
        (~prompt.is_audio).nonzero()[:, 0],
        prompt.columns.T.contiguous(),
    )
    return parts.decoder.audio_logits(hidden)[0]


def assert_equal(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Within 1e-4 of the whole, and no single logit off by 1e-4 of the largest."""
    theirs = theirs.reshape(ours.shape)
    assert theirs.std() > 0.1, "logits that are all alike would prove nothing"
    assert (ours - theirs).norm() <= 1e-4 * theirs.norm()
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@pytest.mark.parametrize("index", range(3))
def test_prefill_and_every_decode_step_have_transformers_logits(
    parts: EngineParts, twin: HiggsAudioV2ForConditionalGeneration, index: int
) -> None:
    prompt = prompt_of(parts, samples()[index])
    columns = torch.randint(0, 1026, (12, 8), generator=torch.Generator().manual_seed(index))

    theirs = twin(**prompt_inputs(prompt), use_cache=True)
    assert_equal(prefill(parts, prompt, slot=0), theirs.logits[0, -1])

    for step, column in enumerate(columns):
        position = torch.tensor([prompt.length + step])
        ours = parts.decoder.decode_step(
            column[None], position, torch.ones(1, dtype=torch.bool), max_kv_length=prompt.length + step + 1
        )
        theirs = twin(audio_input_ids=column[None, None], past_key_values=theirs.past_key_values, use_cache=True)
        assert_equal(ours[0], theirs.logits[0, -1])


def test_rows_of_one_decode_step_are_as_each_is_alone(
    parts: EngineParts, twin: HiggsAudioV2ForConditionalGeneration
) -> None:
    prompts = [prompt_of(parts, sample) for sample in samples()]
    pasts = []
    for slot, prompt in enumerate(prompts):
        prefill(parts, prompt, slot)
        pasts.append(twin(**prompt_inputs(prompt), use_cache=True).past_key_values)
    columns = torch.randint(0, 1026, (4, 3, 8), generator=torch.Generator().manual_seed(9))
    lengths = torch.tensor([prompt.length for prompt in prompts])
    for column in columns:
        ours = parts.decoder.decode_step(
            column, lengths, torch.ones_like(lengths, dtype=torch.bool), max_kv_length=int(lengths.max()) + 1
        )
        for row, past in enumerate(pasts):
            theirs = twin(audio_input_ids=column[row][None, None], past_key_values=past, use_cache=True)
            assert_equal(ours[row], theirs.logits[0, -1])
        lengths = lengths + 1


def test_a_prompt_read_in_pieces_ends_in_the_same_logits(
    parts: EngineParts, twin: HiggsAudioV2ForConditionalGeneration
) -> None:
    prompt = prompt_of(parts, samples()[2])
    theirs = twin(**prompt_inputs(prompt))
    columns = prompt.columns.T.contiguous()
    start, done, hidden = 0, 0, torch.empty(0)
    for stop in (1, 17, 40, prompt.length):  # inside words, inside a clip, at the end
        is_audio = prompt.is_audio[start:stop]
        count = int(is_audio.sum())
        hidden = parts.decoder.prefill(
            1,
            start,
            prompt.positions[start:stop],
            is_audio.nonzero()[:, 0],
            (~is_audio).nonzero()[:, 0],
            columns[done : done + count],
        )
        start, done = stop, done + count
    assert_equal(parts.decoder.audio_logits(hidden)[0], theirs.logits[0, -1])


def test_text_logits_are_those_of_transformers_text_head(
    parts: EngineParts, twin: HiggsAudioV2ForConditionalGeneration
) -> None:
    prompt = prompt_of(parts, samples()[1])
    hidden = parts.decoder.prefill(
        0,
        0,
        prompt.positions,
        prompt.is_audio.nonzero()[:, 0],
        (~prompt.is_audio).nonzero()[:, 0],
        prompt.columns.T.contiguous(),
    )
    theirs = twin.text_lm_head(twin.model(**prompt_inputs(prompt)).last_hidden_state[0, -1])
    assert_equal(parts.decoder.text_logits(hidden)[0], theirs)


def test_greedy_tokens_are_those_of_transformers_generate_until_the_audio_ends() -> None:
    parts = load_parts(EngineConfig("tiny", device="cpu", dtype="fp32", max_batch_size=2, max_context=512))
    unused = parts.config.vocab_size - 1
    twin = transformers_twin(parts.config, parts.weights, delay_token=unused)
    params = GenerationParams(max_new_tokens=48, temperature=0, ras_win_len=None, seed=0)
    words = ["The sun rises in the east.", "Hooray!", "One, two, three.", "A long way home", "so"]
    compared = 0
    with HiggsAudioEngine(parts) as engine:
        for number, text in enumerate(words):
            turns = [Message("user", "A clip."), Message("assistant", clip(10 + number, number))] if number % 2 else []
            sample = ChatMLSample([*turns, Message("user", text)])
            ours = torch.from_numpy(engine.generate(sample, params).delayed_audio_columns[0])
            theirs = _generate(twin, prompt_of(parts, sample), params.max_new_tokens)
            count = min(_first_end(ours), _first_end(theirs))
            assert torch.equal(ours[:, :count], theirs[:, :count])
            assert _first_end(ours) == _first_end(theirs), "the audio ends at the same column"
            compared += count
    assert compared > 100


def _generate(twin: HiggsAudioV2ForConditionalGeneration, prompt: Prompt, steps: int) -> torch.Tensor:
    """What transformers adds to the prompt's columns, [Q, C], its synthetic first column among them."""
    settings = GenerationConfig(max_new_tokens=steps, do_sample=False, pad_token_id=0)
    sequences = twin.generate(**prompt_inputs(prompt), generation_config=settings)
    return sequences[0, prompt.columns.shape[1] :].T


def _first_end(columns: torch.Tensor) -> int:
    """The first column that holds stream EOS, or how many there are."""
    ends = (columns == 1025).any(0).nonzero()[:, 0].tolist()
    return ends[0] if ends else columns.shape[1]


@pytest.fixture(scope="module")
def codec_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"))[1]


@pytest.mark.parametrize("extra", [0, 1, 481, 959])
def test_a_clip_is_encoded_as_transformers_encodes_its_whole_frames(codec_folder: Path, extra: int) -> None:
    theirs = HiggsAudioV2TokenizerModel.from_pretrained(codec_folder).eval()
    codec = AudioCodec.from_folder(codec_folder, torch.device("cpu"))
    noise = np.random.default_rng(extra).standard_normal(960 * 37 + extra).astype(np.float32) * 0.3
    expected = theirs.encode(torch.from_numpy(noise[: 960 * 37])[None, None]).audio_codes[0]
    codes = codec.encode(noise)
    assert codes.shape == (8, 37)
    assert torch.equal(codes, expected)
    assert all(row.unique().numel() > 1 for row in codes), "codes that never change would prove nothing"


def test_codes_are_decoded_as_transformers_decodes_them(codec_folder: Path) -> None:
    theirs = HiggsAudioV2TokenizerModel.from_pretrained(codec_folder).eval()
    codec = AudioCodec.from_folder(codec_folder, torch.device("cpu"))
    codes = torch.randint(0, 1024, (2, 8, 23), generator=torch.Generator().manual_seed(0))
    audio = codec.decode(codes)
    assert audio.shape == (2, 23 * 960)
    assert audio.dtype == torch.float32
    assert audio.std() > 1e-3
    torch.testing.assert_close(audio, theirs.decode(codes).audio_values[:, 0], rtol=1e-5, atol=1e-6)
