"""The engine against transformers' own model and codec, on the same random weights, in fp32."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
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
from higgs_core.model.prompt_span import PromptSpan
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


def prefill(parts: EngineParts, prompt: Prompt, slot: int, start: int = 0, stop: int | None = None) -> None:
    """Positions start..stop of the prompt, all when not given."""
    parts.decoder.prefill([span_of(prompt, slot, start, prompt.length if stop is None else stop)])


def span_of(prompt: Prompt, slot: int, start: int, stop: int) -> PromptSpan:
    before, until = int(prompt.is_audio[:start].sum()), int(prompt.is_audio[:stop].sum())
    columns = prompt.columns[:, before:until]
    return PromptSpan(slot, start, prompt.positions[start:stop], prompt.is_audio[start:stop], columns)


def decode(parts: EngineParts, columns: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """columns: int64 [B, Q]. Logits [B, Q, V] of one step of as many rows."""
    active = torch.ones_like(positions, dtype=torch.bool)
    return parts.decoder.decode_step(columns, positions, active, max_kv_length=int(positions.max()) + 1)


def assert_equal(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Within 1e-4 of the whole, and no single logit off by 1e-4 of the largest."""
    theirs = theirs.reshape(ours.shape)
    assert theirs.std() > 0.1, "logits that are all alike would prove nothing"
    assert (ours - theirs).norm() <= 1e-4 * theirs.norm()
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@pytest.mark.parametrize("index", range(3))
def test_every_decode_step_after_prefill_has_transformers_logits(
    parts: EngineParts, twin: HiggsAudioV2ForConditionalGeneration, index: int
) -> None:
    prompt = prompt_of(parts, samples()[index])
    columns = torch.randint(0, 1026, (12, 8), generator=torch.Generator().manual_seed(index))
    prefill(parts, prompt, slot=0)
    past = twin(**prompt_inputs(prompt), use_cache=True).past_key_values
    for step, column in enumerate(columns):
        theirs = twin(audio_input_ids=column[None, None], past_key_values=past, use_cache=True)
        assert_equal(decode(parts, column[None], torch.tensor([prompt.length + step]))[0], theirs.logits[0, -1])


def test_rows_of_one_decode_step_are_as_each_is_alone(
    parts: EngineParts, twin: HiggsAudioV2ForConditionalGeneration
) -> None:
    """Their prompts are prefilled together."""
    prompts = [prompt_of(parts, sample) for sample in samples()]
    parts.decoder.prefill([span_of(prompt, slot, 0, prompt.length) for slot, prompt in enumerate(prompts)])
    pasts = [twin(**prompt_inputs(prompt), use_cache=True).past_key_values for prompt in prompts]
    columns = torch.randint(0, 1026, (4, 3, 8), generator=torch.Generator().manual_seed(9))
    positions = torch.tensor([prompt.length for prompt in prompts])
    for column in columns:
        ours = decode(parts, column, positions)
        for row, past in enumerate(pasts):
            theirs = twin(audio_input_ids=column[row][None, None], past_key_values=past, use_cache=True)
            assert_equal(ours[row], theirs.logits[0, -1])
        positions = positions + 1


def test_a_prompt_read_in_pieces_ends_in_the_same_logits(
    parts: EngineParts, twin: HiggsAudioV2ForConditionalGeneration
) -> None:
    """Each piece beside one of another prompt that starts elsewhere."""
    prompt, other = prompt_of(parts, samples()[2]), prompt_of(parts, samples()[1])
    column = torch.full((1, 8), 1024)
    theirs = twin(**prompt_inputs(prompt), use_cache=True)
    theirs = twin(audio_input_ids=column[None], past_key_values=theirs.past_key_values)
    pieces, others = (0, 1, 17, 40, prompt.length), (0, 5, 6, 30, other.length)  # in words, in a clip, at the end
    for (start, stop), (begin, end) in zip(pairwise(pieces), pairwise(others), strict=True):
        parts.decoder.prefill([span_of(prompt, 1, start, stop), span_of(other, 3, begin, end)])
    columns = column.expand(2, -1)
    ours = decode(parts, torch.cat([columns, columns]), torch.tensor([0, prompt.length, 0, other.length]))
    assert_equal(ours[1], theirs.logits[0, -1])
    expected = twin(**prompt_inputs(other), use_cache=True)
    expected = twin(audio_input_ids=column[None], past_key_values=expected.past_key_values)
    assert_equal(ours[3], expected.logits[0, -1])


def test_text_steps_have_the_logits_of_transformers_text_head(
    parts: EngineParts, twin: HiggsAudioV2ForConditionalGeneration
) -> None:
    """Rows of two prompts in one step, and an inactive one between them."""
    prompts = {0: prompt_of(parts, samples()[1]), 2: prompt_of(parts, samples()[0])}
    for slot, prompt in prompts.items():
        prefill(parts, prompt, slot, stop=prompt.length - 1)
    dummy = parts.decoder.cache.dummy_position
    tokens = torch.tensor([int(prompts[0].positions[-1]), 3, int(prompts[2].positions[-1])])
    positions = torch.tensor([prompts[0].length - 1, dummy, prompts[2].length - 1])
    active, lanes = torch.tensor([True, False, True]), torch.tensor([2, 0])
    ours = parts.decoder.text_step(tokens, positions, active, int(max(p.length for p in prompts.values())), lanes)
    for logits, prompt in zip(ours, (prompts[2], prompts[0]), strict=True):
        theirs = twin.text_lm_head(twin.model(**prompt_inputs(prompt)).last_hidden_state[0, -1])
        assert_equal(logits, theirs)


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
