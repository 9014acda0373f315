"""What a card would refuse, found without one: torch's fake tensors say that they lie on a GPU, and a graph of the
operations takes the place of a CUDA graph.

A captured step may read nothing on the host and copy nothing from it, and no Python value that changes between two
steps may be part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.models import SMALLEST, random_parts
from higgs_core import GenerationParams
from higgs_core.build import EngineParts
from higgs_core.kernels.ops import torch_ops
from higgs_core.model.decoder import Decoder
from higgs_core.model.kv_cache import KVCache
from higgs_core.model.prompt_span import PrefillRows, PromptSpan, lay_out
from higgs_core.model.weights import allocate
from higgs_core.runtime.decode_graph import StepRunner
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import Sampler, TextSampler
from higgs_core.sampling.step_tail import StepTail
from higgs_core.sampling.text_state import TextState, TextStepTail
from tests.helpers.fake_tensors import fake_tensors

CARD = torch.device("cuda")
CONFIG = SMALLEST.config()
SLOTS, CONTEXT = 4, 256
needs_cuda_build = pytest.mark.skipif(
    not torch.backends.cuda.is_built(), reason="this build of torch knows no GPU, not even a fake one"
)


class OnTheCard(TorchDispatchMode):
    """Notes operations that bring a tensor of the host's to the card; the other way is an error of fake tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.from_host: list[str] = []
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        found = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, torch.Tensor)]
        self.count += 1
        if {tensor.device.type for tensor in tensors} == {"cpu", "cuda"}:
            self.from_host.append(str(func))
        return found


@pytest.fixture
def fake_card() -> Iterator[FakeTensorMode]:
    with fake_tensors() as mode:
        yield mode


def runner_on_the_card() -> tuple[StepRunner, Decoder, DecodeState, TextState]:
    weights = allocate(CONFIG, CARD, torch.bfloat16, text_head=True)
    cache = KVCache(CONFIG, SLOTS, CONTEXT, CARD, torch.bfloat16)
    decoder = Decoder(CONFIG, weights, cache, torch_ops())
    state = DecodeState.allocate(CONFIG, SLOTS, cache.dummy_position, CARD)
    text = TextState.allocate(SLOTS, cache.dummy_position, CARD)
    tail = StepTail(CONFIG, Sampler(CONFIG.num_codebooks, CONFIG.codebook_size, CARD), CARD)
    text_tail = TextStepTail(TextSampler(CONFIG.vocab_size, (5, 6), CARD), (3, 4), CARD)
    return StepRunner(decoder, state, tail, text, text_tail, None), decoder, state, text


@needs_cuda_build
def test_steps_read_nothing_on_the_host_and_take_nothing_from_it(fake_card: FakeTensorMode) -> None:
    runner, *_ = runner_on_the_card()
    steps: tuple[Callable[[], None], ...] = (lambda: runner.run(3, 100, 64), lambda: runner.run_text(3, 100))
    for step in steps:
        step()  # constants that are made once come to be outside the count
        with OnTheCard() as card:
            step()
        assert card.count > 100
        assert card.from_host == []


@needs_cuda_build
def test_the_fake_card_refuses_what_a_card_refuses(fake_card: FakeTensorMode) -> None:
    """Or the tests here would prove nothing."""
    there = torch.zeros(3, device=CARD)
    with pytest.raises(Exception, match="_local_scalar_dense"):
        int(there[0])
    with pytest.raises(RuntimeError, match="device"):
        there + torch.zeros(3)
    with OnTheCard() as card:
        there.copy_(torch.zeros(3))
    assert card.from_host == ["aten.copy_.default"]


@needs_cuda_build
def test_what_the_host_writes_to_a_row_never_makes_it_wait(
    fake_card: FakeTensorMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers are filled in, and the one tensor goes through pinned memory."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor.shape) or tensor)
    _, _, state, text = runner_on_the_card()
    with OnTheCard() as card:
        state.begin(1, GenerationParams(), 7)
        state.begin_segment(1, torch.full((8, 3), 1024), 10, 1)
        text.begin(2, 9, 10)
        state.move(1, 0, CONTEXT)
        text.deactivate(2, CONTEXT)
    assert pinned == [(3, 8)]
    assert len(card.from_host) == 1


def laid_out(*chosen: int) -> PrefillRows:
    """Rows of ragged spans, on the host: text only, a clip in the middle behind a prefix, audio only."""
    draw = torch.Generator().manual_seed(0)

    def span(slot: int, start: int, is_audio: list[int]) -> PromptSpan:
        columns = torch.randint(0, 1024, (8, sum(is_audio)), generator=draw)
        ids = torch.randint(0, 200, (len(is_audio),), generator=draw)
        return PromptSpan(slot, start, ids, torch.tensor(is_audio, dtype=torch.bool), columns)

    spans = [span(2, 0, [0] * 9), span(0, 20, [0, 0, 1, 1, 1, 0, 0]), span(3, 5, [1, 1])]
    return lay_out([spans[index] for index in chosen], torch.device("cpu"))


@needs_cuda_build
@pytest.mark.parametrize("rows", [laid_out(0), laid_out(1), laid_out(0, 1, 2)], ids=["text", "clip", "three slots"])
def test_prefill_reads_nothing_on_the_host_and_takes_nothing_from_it(
    fake_card: FakeTensorMode, rows: PrefillRows
) -> None:
    _, decoder, *_ = runner_on_the_card()
    there = {
        field.name: torch.empty(value.shape, dtype=value.dtype, device=CARD)
        for field in fields(PrefillRows)
        if isinstance(value := getattr(rows, field.name), torch.Tensor)
    }
    decoder._prefill(replace(rows, **there))
    with OnTheCard() as card:
        decoder._prefill(replace(rows, **there))
    assert card.count > 50
    assert card.from_host == []


# --- steps as graphs


@pytest.fixture(scope="module")
def parts() -> EngineParts:
    return random_parts(SMALLEST, "cpu", torch.float32, slots=SLOTS, context=CONTEXT)


def everything(parts: EngineParts) -> list[torch.Tensor]:
    """What steps read and write."""
    runner = parts.runner
    tensors = [getattr(part, f.name) for part in (runner._state, runner._text) for f in fields(part)]
    return [parts.decoder.cache._all, *(tensor for tensor in tensors if isinstance(tensor, torch.Tensor))]


def graph_of(step: Callable[[], None]) -> Callable[[], None]:
    step()
    traced = make_fx(step, tracing_mode="real")()
    return lambda: traced()


def begin_everyone(parts: EngineParts) -> None:
    """Rows of every kind: speaking with and without RAS, writing text, idle."""
    runner = parts.runner
    for slot in range(SLOTS):
        runner._state.begin(slot, GenerationParams(temperature=0.4 * slot, seed=slot), slot)
        runner._state.deactivate(slot, CONTEXT)
        runner._text.deactivate(slot, CONTEXT)
    runner._state.begin_segment(0, torch.full((8, 1), 1024), 30, 1)
    runner._state.begin_segment(2, torch.full((8, 70), 3), 7, 9)
    runner._text.begin(1, 11, 12)


def change_rows(parts: EngineParts, turn: int) -> None:
    """What the host does between two steps: rows end, begin, change from one kind to the other, and move."""
    runner = parts.runner
    if turn == 4:
        runner._state.deactivate(0, CONTEXT)
        runner._text.begin(0, 21, 40)
    if turn == 7:
        runner._text.deactivate(1, CONTEXT)
        runner._state.begin_segment(1, torch.full((8, 2), 5), 60, 33)
    if turn == 9:
        runner._state.move(2, 3, CONTEXT)
    if turn == 12:
        runner._state.begin(2, GenerationParams(temperature=1.0, top_k=3, seed=5), 5)
        runner._text.begin(2, 8, 3)


def test_steps_replayed_from_a_graph_are_those_run_plainly(parts: EngineParts) -> None:
    runner, every_code = parts.runner, parts.config.codebook_size
    plain = (lambda: runner._step(SLOTS, CONTEXT, every_code), lambda: runner._text_step(SLOTS, CONTEXT))
    with torch.no_grad():
        parts.decoder.cache._all.normal_(generator=torch.Generator().manual_seed(1))
        keys = parts.decoder.cache._all.clone()
        begin_everyone(parts)
        replayed = tuple(graph_of(step) for step in plain)
        outcomes = []
        for steps in (plain, replayed):
            parts.decoder.cache._all.copy_(keys)
            for tensor in everything(parts)[1:]:
                tensor.zero_()
            begin_everyone(parts)
            found = []
            for turn in range(16):
                change_rows(parts, turn)
                for step in steps:
                    step()
                found.append([tensor.clone() for tensor in everything(parts)[1:]])
            outcomes.append([*found, [parts.decoder.cache._all.clone()]])
    for turn, (expected, given) in enumerate(zip(*outcomes, strict=True)):
        assert all(torch.equal(one, other) for one, other in zip(expected, given, strict=True)), turn
    emitted = torch.stack([tensors[7] for tensors in outcomes[0][:-1]])
    assert emitted[:, :, -1].sum(0).count_nonzero() >= 3  # rows 0 to 3 spoke at some time
    begin_everyone(parts)
    for slot in range(SLOTS):
        runner._state.deactivate(slot, CONTEXT)
        runner._text.deactivate(slot, CONTEXT)
