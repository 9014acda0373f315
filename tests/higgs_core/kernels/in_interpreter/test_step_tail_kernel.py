"""The end of a decode step in Triton's interpreter: the same state as `higgs_core.sampling.step_tail.StepTail`."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from higgs_core.kernels.sampler import TritonSampler
from higgs_core.kernels.step_tail import TritonStepTail
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import Sampler
from higgs_core.sampling.step_tail import StepTail
from tests.helpers.kernel_shapes import model_config

CPU = torch.device("cpu")
BOS, EOS = 7, 8
CODES = 9


def states(codebooks: int, slots: int) -> list[DecodeState]:
    """Two equal states of slots in every stage of a segment; the last one sleeps."""
    made = []
    for _ in range(2):
        config = model_config(num_codebooks=codebooks, codebook_size=9)
        state = DecodeState.allocate(config, slots, 0, CPU)
        state.sampled.copy_(torch.arange(slots))
        state.step.copy_(torch.arange(slots) * 2)
        state.active[:-1] = True
        made.append(state)
    return made


def assert_equal_states(got: DecodeState, expected: DecodeState) -> None:
    for field in fields(DecodeState):
        ours, theirs = getattr(got, field.name), getattr(expected, field.name)
        if isinstance(theirs, torch.Tensor):
            assert torch.equal(ours, theirs), field.name


def preferring(tokens: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Logits of which these tokens are the best."""
    logits = torch.randn(*tokens.shape, CODES)
    return logits.scatter_add(-1, tokens[..., None], torch.full((*tokens.shape, 1), 5.0)).to(dtype)


def both(codebooks: int) -> tuple[TritonStepTail, StepTail]:
    config = model_config(num_codebooks=codebooks, codebook_size=9, audio_stream_bos_id=BOS, audio_stream_eos_id=EOS)
    shape = (codebooks, CODES, CPU)
    return TritonStepTail(config, TritonSampler(*shape), CPU), StepTail(config, Sampler(*shape), CPU)


@pytest.mark.parametrize("codebooks", [3, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whole_segments_run_alike_from_delay_head_to_the_last_eos(codebooks: int, dtype: torch.dtype) -> None:
    kernel_state, torch_state = states(codebooks, slots=5)
    for state in (kernel_state, torch_state):
        state.sampler.temperature[2:] = torch.tensor([0.5, 1.0, 1.0])
        state.sampler.top_k.fill_(CODES)
        state.sampler.ras_window[1:4] = torch.tensor([7, 1, 7])
        state.sampler.seed.copy_(torch.arange(5))
    kernel, plain = both(codebooks)
    ended = 0
    for _ in range(3 * codebooks):
        tokens = torch.randint(0, BOS, (5, codebooks))
        tokens[torch.rand(tokens.shape) < 0.05] = EOS
        logits = preferring(tokens, dtype)
        kernel(kernel_state, logits, CODES)
        plain(torch_state, logits, CODES)
        assert_equal_states(kernel_state, torch_state)
        ended += int((torch_state.emitted[:, -1] == 2).sum())
    assert ended  # the run does reach ends
    assert not torch_state.active[-1]


def test_one_row_of_the_middle_leaves_the_others_alone() -> None:
    kernel_state, torch_state = states(3, slots=4)
    kernel, plain = both(3)
    logits = preferring(torch.tensor([[1, EOS, 2]]))
    kernel(kernel_state.rows(1, 2), logits, CODES)
    plain(torch_state.rows(1, 2), logits, CODES)
    assert_equal_states(kernel_state, torch_state)
    assert kernel_state.step.tolist() == [0, 3, 4, 6]


def test_another_sampler_than_the_kernels_is_asked() -> None:
    config = model_config(num_codebooks=3, codebook_size=9, audio_stream_bos_id=BOS, audio_stream_eos_id=EOS)
    (state, _), tokens = states(3, slots=4), torch.full((4, 3), 4)
    TritonStepTail(config, lambda *_: tokens.clone(), CPU)(state, torch.zeros(4, 3, CODES), 1)
    assert state.column[3].tolist() == [4, 4, 4]
