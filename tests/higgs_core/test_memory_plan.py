"""Slots and context of cards of every size, and whether the budget covers what the released model's sizes allocate."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
import torch

from benchmarks.models import FULL_SIZE, SMALLEST, released_codec_config
from higgs_core.codec.audio_codec import MAX_DECODE_FRAMES
from higgs_core.codec.transformers_codec import HiggsAudioV2TokenizerModel
from higgs_core.config import ModelConfig
from higgs_core.engine_config import AUTO, NumberOrAuto
from higgs_core.errors import ModelLoadError
from higgs_core.kernels import torch_ops
from higgs_core.memory_plan import (
    MOST_AUTO_SLOTS,
    SHORT_CONTEXT,
    DeviceMemory,
    MemoryPlan,
    decode_step_nbytes,
    plan_memory,
    prefill_nbytes,
    reserve_for,
)
from higgs_core.model.decoder import Decoder
from higgs_core.model.kv_cache import KVCache
from higgs_core.model.prompt_span import PromptSpan, lay_out
from higgs_core.model.weights import allocate
from higgs_core.runtime.decode_graph import StepRunner
from higgs_core.runtime.prefill import PREFILL_CHUNK
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import FAST_TOP_K, TextSampler
from higgs_core.sampling.text_state import TextState, TextStepTail
from tests.helpers.fake_tensors import fake_tensors
from tests.helpers.live_bytes import LiveBytes
from tests.helpers.paths import ROOT

GB = 10**9
BF16 = torch.bfloat16
CPU = torch.device("cpu")
WEIGHTS, LAYERS, CODEC, DRIVER = 11.54 * GB, 9.86 * GB, 0.8 * GB, 0.7 * GB
INT8 = WEIGHTS - LAYERS / 2 + 2 * 16_384 * 3072  # torch widens the largest matrix to multiply by it

# What cards of these names have, in bytes, as their drivers say.
CARDS = {
    "12 GB": 12.63 * GB,
    "16 GB": 16.86 * GB,
    "20 GB": 21.0 * GB,
    "24 GB (L4, A10)": 23.69 * GB,
    "24 GB (RTX 3090, RTX 4090)": 25.38 * GB,
    "32 GB": 33.6 * GB,
    "40 GB": 42.3 * GB,
    "48 GB (L40S)": 47.7 * GB,
    "48 GB (A40, A6000)": 51.0 * GB,
    "80 GB": 84.9 * GB,
    "96 GB": 101.0 * GB,
    "141 GB": 150.1 * GB,
}
BF16_PLANS = {
    "16 GB": (4, 2467),
    "20 GB": (8, 5227),
    "24 GB (L4, A10)": (8, 7839),
    "24 GB (RTX 3090, RTX 4090)": (8, 8192),
    "32 GB": (16, 8192),
    "40 GB": (24, 8192),
    "48 GB (L40S)": (24, 8192),
    "48 GB (A40, A6000)": (32, 8192),
    "80 GB": (64, 8192),
    "96 GB": (64, 8192),
    "141 GB": (64, 8192),
}
INT8_PLANS = {
    "12 GB": (7, 2158),
    "16 GB": (8, 5992),
    "20 GB": (8, 8192),
    "24 GB (L4, A10)": (8, 8192),
    "24 GB (RTX 3090, RTX 4090)": (8, 8192),
    "32 GB": (16, 8192),
    "40 GB": (24, 8192),
    "48 GB (L40S)": (32, 8192),
    "48 GB (A40, A6000)": (32, 8192),
    "80 GB": (64, 8192),
    "96 GB": (64, 8192),
    "141 GB": (64, 8192),
}


@cache
def released() -> ModelConfig:
    return FULL_SIZE.config()


def card(name: str, weights: float = WEIGHTS) -> DeviceMemory:
    return DeviceMemory(int(CARDS[name]), max(int(CARDS[name] - weights - CODEC - DRIVER), 0), is_gpu=True)


def plan(
    memory: DeviceMemory, slots: NumberOrAuto = AUTO, context: int = 8192, *, with_codec: bool = True
) -> MemoryPlan:
    return plan_memory(released(), BF16, memory, slots, context, with_codec=with_codec)


def gpus() -> list[DeviceMemory]:
    """The same weights on GPUs of 16 to 160 GB in steps that meet no border."""
    totals = [int(total * 0.377 * GB) for total in range(43, 425)]
    return [DeviceMemory(total, int(total - WEIGHTS - CODEC - DRIVER), is_gpu=True) for total in totals]


@pytest.mark.parametrize(("weights", "expected"), [(WEIGHTS, BF16_PLANS), (INT8, INT8_PLANS)], ids=["bf16", "int8"])
def test_each_card_gets_slots_and_context(weights: float, expected: dict[str, tuple[int, int]]) -> None:
    planned = {name: plan(card(name, weights)) for name in expected}
    assert {name: (plan.slots, plan.context) for name, plan in planned.items()} == {
        name: (slots, pytest.approx(context, abs=20)) for name, (slots, context) in expected.items()
    }


def test_a_card_that_the_weights_fill_is_refused_in_one_sentence() -> None:
    with pytest.raises(ModelLoadError, match=r"^Only 0\.0 GB of memory are free beside the weights, and 2\.") as caught:
        plan(card("12 GB"))
    assert "\n" not in caught.value.message
    assert caught.value.hint == "Use a larger device or smaller weights, or end what else uses its memory."


@pytest.mark.parametrize("slots", [AUTO, 1, 3, 40, 256])
@pytest.mark.parametrize("context", [64, 2048, 8192, 20_000])
def test_no_plan_takes_more_than_is_free(slots: NumberOrAuto, context: int) -> None:
    for memory in gpus():
        planned = plan(memory, slots, context)
        assert planned.left >= 0
        assert planned.kv_cache == KVCache.nbytes_per_position(released(), BF16) * planned.slots * (planned.context + 1)
        assert planned.kv_cache // 10 - 1 <= planned.prefix_cache <= planned.kv_cache // 10
        assert planned.context <= context


@pytest.mark.parametrize("slots", [AUTO, 8, 100])
@pytest.mark.parametrize("context", [512, 8192, 32_768])
def test_more_memory_never_gives_fewer_slots(slots: NumberOrAuto, context: int) -> None:
    planned = [plan(memory, slots, context) for memory in gpus()]
    counts = [plan.slots for plan in planned]
    assert counts == sorted(counts)
    for before, after in pairwise(planned):
        if before.slots == after.slots:
            assert before.context <= after.context


def test_the_context_is_shortened_before_slots_are_given_up() -> None:
    for memory in gpus():
        planned = plan(memory)
        if planned.slots < 8:
            # Another slot would not have had its share; what else it needs is worth a few positions.
            assert planned.context < SHORT_CONTEXT * 8 / planned.slots + 16
        if planned.context < 8192:
            assert planned.slots <= 8
        assert planned.context >= SHORT_CONTEXT or planned.slots == 1


def test_the_last_slot_may_be_shorter_still() -> None:
    needed = plan(card("141 GB"), 1, 1024)
    memory = card("24 GB (L4, A10)")
    spare = reserve_for(released(), BF16, memory, 1, 8192, with_codec=True).total
    free = spare + needed.kv_cache + needed.prefix_cache
    enough = plan(replace(memory, free=free + 10**6))
    assert (enough.slots, enough.context) == (1, pytest.approx(1024, abs=16))
    with pytest.raises(ModelLoadError, match="too little for one request"):
        plan(replace(memory, free=free - 10**6))


@pytest.mark.parametrize(("slots", "context"), [(1, 256), (3, 8192), (40, 8192), (100, 4096), (200, 512)])
def test_numbers_that_fit_are_kept(slots: int, context: int) -> None:
    planned = plan(card("80 GB"), slots, context)
    assert (planned.slots, planned.context) == (slots, context)


def test_a_number_that_does_not_fit_is_a_wish() -> None:
    planned = plan(card("24 GB (RTX 3090, RTX 4090)"), 16)
    assert planned.slots == 16
    assert SHORT_CONTEXT < planned.context < 8192
    planned = plan(card("24 GB (RTX 3090, RTX 4090)"), 256)
    assert 16 < planned.slots < 64
    assert planned.context == pytest.approx(SHORT_CONTEXT, abs=SHORT_CONTEXT / planned.slots)


def test_auto_leaves_a_long_context_its_length_where_it_can() -> None:
    for name, context, slots in (("24 GB (RTX 3090, RTX 4090)", 16_384, 4), ("141 GB", 131_072, 7)):
        planned = plan(card(name), AUTO, context)
        assert (planned.slots, planned.context) == (slots, context)


def test_auto_on_a_cpu_is_eight_however_much_memory_there_is() -> None:
    for free, expected in ((500 * GB, (8, 8192)), (9 * GB, (8, 7132)), (2 * GB, (6, 2112))):
        planned = plan(DeviceMemory(512 * GB, free, is_gpu=False))
        assert (planned.slots, planned.context) == expected
    assert plan(DeviceMemory(512 * GB, 500 * GB, is_gpu=False), 100).slots == 100


def test_without_a_codec_its_room_is_used() -> None:
    memory = card("16 GB")
    assert plan(memory, with_codec=False).reserve.codec == 0
    assert plan(memory, with_codec=False).slots > plan(memory).slots


def test_the_table_of_the_deployment_page_is_what_is_planned() -> None:
    text = (ROOT / "docs/deployment.md").read_text()
    rows = re.findall(r"^\| ([\d].*?) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    listed = {}
    for cards, slots, context in rows:
        for name in cards.split(", ") if cards not in CARDS else [cards]:
            listed[name] = (int(slots), pytest.approx(int(context), abs=50))
    int8 = {name: listed.pop(name) for name in list(listed) if name.endswith(" with int8")}
    assert listed == BF16_PLANS
    assert int8 == {f"{name} with int8": INT8_PLANS[name] for name in ("12 GB", "16 GB")}


# What operations allocate and free within themselves, and what libraries take, no test without a GPU can see.


@pytest.mark.parametrize("dtype", [BF16, torch.float32])
@pytest.mark.parametrize(("start", "audio"), [(0, 0), (0, 500), (0, PREFILL_CHUNK + 1), (7167, 1), (7167, 500)])
def test_prefill_stays_within_its_part(dtype: torch.dtype, start: int, audio: int) -> None:
    config, length = released(), PREFILL_CHUNK + 1
    token_ids, is_audio = torch.zeros(length, dtype=torch.long), torch.arange(length) < audio
    columns = torch.zeros(config.num_codebooks, audio, dtype=torch.long)
    rows = lay_out([PromptSpan(0, start, token_ids, is_audio, columns)], CPU)
    with fake_tensors():
        decoder = _decoder(dtype, slots=1)
        tensors = {name: tensor for name, tensor in vars(rows).items() if isinstance(tensor, torch.Tensor)}
        fakes = {name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in tensors.items()}
        with LiveBytes() as live:
            decoder._prefill(replace(rows, **fakes))
    assert live.peak > 40e6
    assert live.peak <= prefill_nbytes(config, dtype, 1, 8192)


@pytest.mark.parametrize("rows", [1, 8, 64])
def test_a_decode_step_stays_within_its_part(rows: int) -> None:
    config, ops = released(), torch_ops()
    with fake_tensors():
        decoder = _decoder(BF16, rows)
        state = DecodeState.allocate(config, rows, decoder.cache.dummy_position, CPU)
        tail = ops.step_tail(config, ops.sampler(config.num_codebooks, config.codebook_size, CPU), CPU)
        text = TextState.allocate(rows, decoder.cache.dummy_position, CPU)
        text_tail = TextStepTail(TextSampler(config.vocab_size, (5,), CPU), (3,), CPU)
        runner = StepRunner(decoder, state, tail, text, text_tail, None)
        with LiveBytes() as live:
            runner.run(rows, 512, FAST_TOP_K)
    assert live.peak <= decode_step_nbytes(config, BF16, rows)


def test_a_text_step_stays_within_its_part() -> None:
    config = released()
    with fake_tensors():
        decoder = _decoder(BF16, slots=1)
        state = DecodeState.allocate(config, 1, decoder.cache.dummy_position, CPU)
        sample = TextSampler(config.vocab_size, (5,), CPU)
        with LiveBytes() as live:
            logits = decoder.text_logits(torch.zeros(1, config.hidden_size, dtype=BF16))
            sample(logits, state.sampler, state.step)
    text = prefill_nbytes(config, BF16, 2, 8192) - prefill_nbytes(config, BF16, 1, 8192)
    assert live.peak <= text


def test_the_codec_stays_within_its_part() -> None:
    budget = reserve_for(released(), BF16, card("80 GB"), 8, 8192, with_codec=True).codec
    with fake_tensors():
        model = HiggsAudioV2TokenizerModel(released_codec_config()).eval()
        with LiveBytes() as decode:
            model.decode(torch.zeros(1, 8, MAX_DECODE_FRAMES, dtype=torch.long))
        with LiveBytes() as encode:
            model.encode(torch.zeros(1, 1, 30 * 24_000))
    assert decode.peak < budget / 2
    assert budget / 2 < encode.peak < budget


def _decoder(dtype: torch.dtype, slots: int) -> Decoder:
    config = released()
    weights = allocate(config, CPU, dtype, text_head=True)
    return Decoder(config, weights, KVCache(config, slots, 8192, CPU, dtype), torch_ops())


def test_a_small_model_gets_all_the_slots_that_auto_gives() -> None:
    planned = plan_memory(SMALLEST.config(), BF16, card("24 GB (L4, A10)"), AUTO, 8192, with_codec=True)
    assert (planned.slots, planned.context) == (MOST_AUTO_SLOTS, 8192)
