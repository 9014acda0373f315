"""The cases of the check at start catch what a wrong kernel could do: torch functions with one thing changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from higgs_core.kernels import torch_ops
from higgs_core.kernels.attention.decode_attention import attention_mask, decode_attention
from higgs_core.kernels.attention.rope_attention import LayerAttention
from higgs_core.kernels.attention.rope_kv import RopeTable, rope_kv_write, rotation
from higgs_core.kernels.checks import self_check_attention
from higgs_core.kernels.checks.self_check import Case, checked
from higgs_core.kernels.checks.self_check_attention import rope_attention_cases
from higgs_core.kernels.checks.self_check_calls import one_draw, one_layer, one_layer_exactly, one_step_tail
from higgs_core.kernels.checks.self_check_cases import ROWS, Cases
from higgs_core.kernels.linear.quantized_weight import QuantizedWeight, Weight
from higgs_core.kernels.linear.torch_linear import linear
from higgs_core.sampling.decode_state import DecodeState
from higgs_core.sampling.sampler import Sampler, SamplerRows
from higgs_core.sampling.step_tail import StepTail
from tests.helpers.kernel_shapes import model_config

Tensor = torch.Tensor
CPU, BF16 = torch.device("cpu"), torch.bfloat16
OPS = torch_ops()
# The released model's sizes, an eighth or so of them; a group of 3 queries as there.
CONFIG = model_config(
    hidden_size=384,
    intermediate_size=640,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=64,
    num_codebooks=8,
    codebook_size=130,
    audio_stream_bos_id=128,
    audio_stream_eos_id=129,
)
KV_HEADS = CONFIG.num_kv_heads


def passes(kernel: Callable[..., Any], reference: Callable[..., Any], cases: Iterable[Case], exact: Any = None) -> bool:
    def tried(*arguments: Any) -> Any:
        try:
            return kernel(*arguments)
        except Exception as error:  # counts as caught where the kernel is real, but here it is a mistake of the test
            failures.append(error)
            raise

    failures: list[Exception] = []
    taken = checked("tried", tried, reference, cases, exact=exact) is tried
    assert not failures
    return taken


def cases(dtype: torch.dtype = BF16) -> Cases:
    return Cases(CONFIG, CPU, dtype)


# Attention


def attention(
    *,
    seen: Callable[[Tensor, Tensor], Tensor] = lambda mask, positions: mask,
    angle: Callable[[tuple[Tensor, Tensor]], tuple[Tensor, Tensor]] = lambda factors: factors,
    written_at: Callable[[Tensor], Tensor] = lambda positions: positions,
    query: Callable[[Tensor], Tensor] = lambda q: q,
    result: Callable[[Tensor], Tensor] = lambda out: out,
    caches: Callable[[Tensor, Tensor, Tensor], None] = lambda k, v, positions: None,
) -> Any:
    """The torch function with one thing changed.

    seen: of the mask [B, C] and the positions.  query: of the rotated [B, Hq, D].  result: of the output [B, Hq, D].
    caches: writes to them once more.
    """

    def rope_attention(
        table: RopeTable, positions: Tensor, active: Tensor, max_kv_length: int, kv_heads: int
    ) -> LayerAttention:
        lengths = (positions + 1).where(active, 1)
        mask = attention_mask(lengths, max_kv_length, 1, table.cos.dtype)[:, 0, 0].clone()
        mask = seen(mask, lengths - 1)[:, None, None].expand(-1, kv_heads, -1, -1).contiguous()
        factors = angle(rotation(table.cos[positions], table.sin[positions]))

        def layer(qkv: Tensor, k_cache: Tensor, v_cache: Tensor) -> Tensor:
            q = rope_kv_write(qkv, factors, k_cache, v_cache, positions)
            out = decode_attention(query(q), k_cache, v_cache, mask).view(q.shape)
            moved = written_at(positions)
            if not torch.equal(moved, positions):
                rows = torch.arange(positions.shape[0])
                k_cache[rows, :, moved] = k_cache[rows, :, positions]
                k_cache[rows, :, positions] = 0
            caches(k_cache, v_cache, positions)
            return result(out).reshape(q.shape[0], -1)

        return layer

    return rope_attention


def without(*, back: int | None = None, place: slice | None = None, beyond: int = 1) -> Any:
    """Leaves positions out in rows longer than `beyond`: the one `back` before the own, or those of `place`."""

    def seen(mask: Tensor, positions: Tensor) -> Tensor:
        for row, position in enumerate(positions.tolist()):
            if position >= beyond:
                mask[row, position - back if back is not None else place] = -torch.inf
        return mask

    return attention(seen=seen)


def with_row_wrong(out: Tensor) -> Tensor:
    out[out.shape[0] // 2] *= 1.1
    return out


def value_in_another_slot(k_cache: Tensor, v_cache: Tensor, positions: Tensor) -> None:
    v_cache[-1, :, positions[0]] = v_cache[0, :, positions[0]]


def head_swapped(out: Tensor) -> Tensor:
    group = out.shape[1] // KV_HEADS
    return out.view(-1, KV_HEADS, group, out.shape[-1]).flip(2).reshape(out.shape)


def attention_passes(kernel: Any, shapes: tuple[tuple[int, int], ...], dtype: torch.dtype = BF16) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(self_check_attention, "ROWS_AND_CONTEXTS", shapes)
        layers = (one_layer(each, KV_HEADS) for each in (kernel, OPS.rope_attention))
        return passes(*layers, rope_attention_cases(CONFIG, CPU, dtype), one_layer_exactly(KV_HEADS))


SHAPES = ((1, 4160), (2, 2112), (5, 512), (8, 320), (32, 128))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_attention_in_torch_passes(dtype: torch.dtype) -> None:
    assert attention_passes(attention(), SHAPES, dtype)


@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(without(back=0), id="own position left out"),
        pytest.param(without(place=slice(0, 1)), id="first position left out"),
        pytest.param(without(back=1), id="last cached position left out"),
    ],
)
@pytest.mark.parametrize("shape", [(1, 4160), (1, 8192), (2, 2112), (5, 2112), (8, 320), (32, 512)])
def test_a_position_left_out_is_caught_at_every_number_of_rows(shape: tuple[int, int], mutant: Any) -> None:
    assert not attention_passes(mutant, (shape,))


@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(without(place=slice(64, 96), beyond=96), id="a split dropped"),
        pytest.param(without(place=slice(31, 32), beyond=32), id="the end of a block left out"),
        pytest.param(without(back=1, beyond=2048), id="one position short beyond 2048"),
        pytest.param(attention(result=head_swapped), id="heads of a group swapped"),
        pytest.param(attention(result=lambda out: out * 1.01), id="result 1 % too large"),
        pytest.param(attention(result=with_row_wrong), id="one row wrong"),
        pytest.param(attention(query=lambda q: q * 1.01), id="scores 1 % too large"),
        pytest.param(attention(angle=lambda f: (f[0], -f[1])), id="rotated the other way"),
        pytest.param(attention(written_at=lambda p: (p - 1).clamp(min=0)), id="key written one position off"),
        pytest.param(attention(caches=value_in_another_slot), id="value written to another slot"),
    ],
)
def test_attention_that_is_wrong_is_caught(mutant: Any) -> None:
    assert not attention_passes(mutant, SHAPES)


# The simple kernels and the linear layers


def last_column_kept_out(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    normed = OPS.rms_norm(x, weight, eps)
    normed[:, -1] = 0
    return normed


def last_column_not_summed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    size = x.float()[:, :-1].pow(2).sum(-1, keepdim=True) / x.shape[1]
    return (x * (size + eps).rsqrt()).to(x.dtype) * weight


def one_of_32_rows_wrong(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    normed = OPS.rms_norm(x, weight, eps)
    normed[31:] *= 1.02
    return normed


def swapped(gate_up: Tensor) -> Tensor:
    return OPS.swiglu(gate_up.roll(gate_up.shape[-1] // 2, -1))


def larger(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *arguments: function(*arguments) * 1.01


def test_the_simple_functions_pass() -> None:
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        assert passes(partial(OPS.rms_norm), OPS.rms_norm, cases(dtype).norm())
        assert passes(partial(OPS.swiglu), OPS.swiglu, cases(dtype).gated())
        assert passes(partial(OPS.embed_columns), OPS.embed_columns, cases(dtype).embed())


@pytest.mark.parametrize("mutant", [last_column_kept_out, last_column_not_summed, one_of_32_rows_wrong])
def test_a_norm_that_is_wrong_is_caught(mutant: Callable[..., Tensor]) -> None:
    assert not passes(mutant, OPS.rms_norm, cases().norm())


def test_one_percent_too_large_is_caught_everywhere() -> None:
    assert not passes(larger(OPS.rms_norm), OPS.rms_norm, cases().norm())
    assert not passes(larger(OPS.swiglu), OPS.swiglu, cases().gated())
    assert not passes(larger(OPS.embed_columns), OPS.embed_columns, cases().embed())


def test_gate_and_up_swapped_is_caught() -> None:
    assert not passes(swapped, OPS.swiglu, cases().gated())


KINDS = [None, torch.int8, torch.float8_e4m3fn]
OUT, IN = 160, 384


def scaled(weight: Weight, factor: float) -> Weight:
    if isinstance(weight, QuantizedWeight):
        return QuantizedWeight(weight.values, weight.scales * factor)
    return weight * factor


def without_last_input(weight: Weight) -> Weight:
    """As a kernel whose last block of the inner dimension is one element short."""
    kept = weight.values if isinstance(weight, QuantizedWeight) else weight
    kept = kept.float()
    kept[:, -1] = 0
    return QuantizedWeight(kept, weight.scales) if isinstance(weight, QuantizedWeight) else kept.to(weight.dtype)


def scales_of_the_neighbour(weight: Weight) -> Weight:
    assert isinstance(weight, QuantizedWeight)
    return QuantizedWeight(weight.values, weight.scales.roll(1))


def linear_passes(
    change: Callable[[Weight], Weight], kind: torch.dtype | None, *, residuals: float = 1, dtype: torch.dtype = BF16
) -> dict[str, bool]:
    """Which of the operations pass with a changed weight, or with the residual added more or less often."""

    def linear_add(x: Tensor, weight: Weight, residual: Tensor) -> Tensor:
        return residual.mul_(residuals).add_(linear(x, change(weight)))

    def norm_mlp_add(residual: Tensor, norm: Tensor, eps: float, gate_up: Weight, down: Weight) -> Tensor:
        inner = OPS.swiglu(OPS.norm_linear(residual, norm, eps, gate_up))
        return linear_add(inner, down, residual)

    def norm_linear(x: Tensor, norm: Tensor, eps: float, weight: Weight) -> Tensor:
        return OPS.norm_linear(x, norm, eps, change(weight))

    made = cases(dtype)
    return {
        "norm_linear": passes(norm_linear, OPS.norm_linear, made.norm_linear(OUT, kind)),
        "linear_add": passes(linear_add, OPS.linear_add, made.linear_add(OUT, IN, kind)),
        "norm_mlp_add": passes(norm_mlp_add, OPS.norm_mlp_add, made.norm_mlp_add(kind, rows=(1, 32))),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_linear_layers_pass(kind: torch.dtype | None, dtype: torch.dtype) -> None:
    assert all(linear_passes(lambda weight: weight, kind, dtype=dtype).values())


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_linear_layers_are_caught(kind: torch.dtype | None) -> None:
    none = {"norm_linear": False, "linear_add": False, "norm_mlp_add": False}
    assert linear_passes(lambda weight: scaled(weight, 1.01), kind) == none
    assert linear_passes(without_last_input, kind) == none
    for residuals in (0, 2):
        assert linear_passes(lambda weight: weight, kind, residuals=residuals) == {**none, "norm_linear": True}


@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_scale_of_another_feature_is_caught(kind: torch.dtype) -> None:
    assert not any(linear_passes(scales_of_the_neighbour, kind).values())


def test_a_fused_mlp_with_gate_and_up_swapped_is_caught() -> None:
    def norm_mlp_add(residual: Tensor, norm: Tensor, eps: float, gate_up: Tensor, down: Tensor) -> Tensor:
        gate, up = F.linear(OPS.rms_norm(residual, norm, eps), gate_up).chunk(2, -1)
        return residual.add_(F.linear(F.silu(up) * gate, down))

    assert not passes(norm_mlp_add, OPS.norm_mlp_add, cases().norm_mlp_add())


# The sampler and the end of a step


class RasWindowOffByOne(Sampler):
    def __call__(self, logits: Tensor, window: Tensor, rows: SamplerRows, step: Tensor, max_top_k: int) -> Tensor:
        off = rows.ras_window + self.off
        changed = SamplerRows(rows.temperature, rows.top_k, rows.top_p, off, rows.ras_win_max_num_repeat, rows.seed)
        return super().__call__(logits, window, changed, step, max_top_k)


class OneTooMany(RasWindowOffByOne):
    off = 1


class OneTooFew(RasWindowOffByOne):
    off = -1


class OneBookWrong(Sampler):
    def __call__(self, *arguments: Any) -> Tensor:
        tokens = super().__call__(*arguments)
        tokens[:, -1] = tokens[:, 0]
        return tokens


def draw_of(make: Any) -> Callable[..., Tensor]:
    return one_draw(make, CONFIG.num_codebooks, CONFIG.codebook_size, CPU)


def test_the_sampler_passes_and_wrong_ones_are_caught() -> None:
    assert passes(draw_of(Sampler), draw_of(Sampler), cases().sampler())
    for wrong in (OneTooMany, OneTooFew, OneBookWrong):
        assert not passes(draw_of(wrong), draw_of(Sampler), cases().sampler()), wrong


class Tail:
    """The torch function, then one thing changed. before: what the state was."""

    def __init__(self, change: Callable[[DecodeState, DecodeState], None], *arguments: Any) -> None:
        self._change, self._step_tail = change, StepTail(*arguments)

    def __call__(self, state: DecodeState, logits: Tensor, max_top_k: int) -> None:
        parts = {name: getattr(state, name).clone() for name in DecodeState.__annotations__ if name != "sampler"}
        before = DecodeState(**parts, sampler=state.sampler)
        self._step_tail(state, logits, max_top_k)
        self._change(state, before)


def countdown_off_by_one(state: DecodeState, before: DecodeState) -> None:
    running = before.eos_reach > 0
    state.eos_reach[running] += 1


def one_row_stays(state: DecodeState, before: DecodeState) -> None:
    row = int(before.active.nonzero()[0])
    state.position[row] = before.position[row]


def window_not_shifted(state: DecodeState, before: DecodeState) -> None:
    state.window.copy_(before.window)


def asleep_yet_counted(state: DecodeState, before: DecodeState) -> None:
    state.step.copy_(before.step + 1)


def a_row_never_ends(state: DecodeState, before: DecodeState) -> None:
    state.active.copy_(before.active)


def tail_of(make: Any) -> Callable[..., None]:
    return one_step_tail(make, Sampler, CONFIG, CPU)


def test_the_end_of_a_step_passes_and_wrong_ones_are_caught() -> None:
    assert passes(tail_of(StepTail), tail_of(StepTail), cases().step_tail())
    for wrong in (countdown_off_by_one, one_row_stays, window_not_shifted, asleep_yet_counted, a_row_never_ends):
        assert not passes(tail_of(partial(Tail, wrong)), tail_of(StepTail), cases().step_tail()), wrong
    for sampler in (OneTooMany, OneTooFew):
        kernel = one_step_tail(StepTail, sampler, CONFIG, CPU)
        assert not passes(kernel, tail_of(StepTail), cases().step_tail()), sampler


def test_all_cases_have_1_2_5_8_and_32_rows() -> None:
    assert ROWS == (1, 2, 5, 8, 32)
    assert tuple(rows for rows, _ in self_check_attention.ROWS_AND_CONTEXTS) == ROWS
