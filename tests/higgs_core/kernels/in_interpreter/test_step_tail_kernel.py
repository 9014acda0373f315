"""The end of a decode step in Triton's interpreter: the same state as `higgs_core.sampling.step_tail.StepTail`."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from higgs_core.kernels.step_tail import TritonStepTail
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.step_tail import StepTail
from tests.helpers.kernel_shapes import model_config

CPU = torch.device("cpu")
BOS, EOS = 7, 8


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


@pytest.mark.parametrize("codebooks", [3, 8])
def test_whole_segments_run_alike_from_delay_head_to_the_last_eos(codebooks: int) -> None:
    config = model_config(num_codebooks=codebooks, codebook_size=9, audio_stream_bos_id=BOS, audio_stream_eos_id=EOS)
    kernel_state, torch_state = states(codebooks, slots=5)
    tokens = torch.empty(5, codebooks, dtype=torch.int64)
    kernel, plain = (kind(config, lambda *_: tokens.clone(), CPU) for kind in (TritonStepTail, StepTail))
    ended = 0
    for _ in range(3 * codebooks):
        tokens.random_(0, BOS)
        tokens[torch.rand(tokens.shape) < 0.05] = EOS
        kernel(kernel_state, tokens, 1)
        plain(torch_state, tokens, 1)
        assert_equal_states(kernel_state, torch_state)
        ended += int((torch_state.emitted[:, -1] == 2).sum())
    assert ended  # the run does reach ends
    assert not torch_state.active[-1]


def test_one_row_of_the_middle_leaves_the_others_alone() -> None:
    config = model_config(num_codebooks=3, codebook_size=9, audio_stream_bos_id=BOS, audio_stream_eos_id=EOS)
    kernel_state, torch_state = states(3, slots=4)
    tokens = torch.tensor([[1, EOS, 2]])
    TritonStepTail(config, lambda *_: tokens, CPU)(kernel_state.rows(1, 2), tokens, 1)
    StepTail(config, lambda *_: tokens, CPU)(torch_state.rows(1, 2), tokens, 1)
    assert_equal_states(kernel_state, torch_state)
    assert kernel_state.step.tolist() == [0, 3, 4, 6]
