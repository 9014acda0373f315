"""A decode step has as few launches as its kernels allow, counted without a GPU."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from higgs_core.kernels.plans.linear_plan import FAMILIES, NORM_MLP_ADD, Choice, Key, choices
from higgs_core.kernels.plans.plan_choice import keys_of
from higgs_core.kernels.triton_ops import triton_ops
from higgs_core.model.decoder import Decoder
from higgs_core.model.kv_cache import KVCache
from higgs_core.model.weights import allocate
from higgs_core.sampling.decode_state import DecodeState
from tests.helpers.kernel_shapes import model_config
from tests.helpers.node_count import counting_nodes

META = torch.device("meta")
LAYERS = 28


def nodes_of_a_step(rows: int, plan: dict[Key, Choice]) -> Counter[str]:
    config = model_config()
    config = type(config)(config.transformers, audio_paths=("dual",) * LAYERS, eos_token_ids=())
    ops = triton_ops(config, META, plan, processors=132, capability=90, pdl=True)
    decoder = Decoder(
        config,
        allocate(config, META, torch.bfloat16, text_head=False),
        KVCache(config, rows, 64, META, torch.bfloat16),
        ops,
    )
    state = DecodeState.allocate(config, rows, 64, META)
    tail = ops.step_tail(config, ops.sampler(config.num_codebooks, config.codebook_size, META), META)
    with counting_nodes() as nodes:
        tail(state, decoder.decode_step(state.column, state.position, state.active, 64), 1)
    return nodes


def first_choices(*families: str) -> dict[Key, Choice]:
    """The first of these families that has an operation for a number of rows, in its first configuration."""
    found = {}
    for key in keys_of(model_config(), torch.bfloat16, None):
        for family in families:
            if options := choices(key, family):
                found.setdefault(key, options[0])
    return found


def test_one_row_takes_four_launches_a_layer() -> None:
    nodes = nodes_of_a_step(1, first_choices(*FAMILIES))
    assert nodes["_norm_mlp_add_kernel"] == nodes["_rope_attention_kernel"] == nodes["_linear_add_kernel"] == LAYERS
    assert nodes["_norm_linear_kernel"] == LAYERS + 1  # and the audio head
    assert nodes.total() <= 130, nodes


@pytest.mark.parametrize("rows", [8, 32])
def test_more_rows_take_at_most_eight_launches_a_layer(rows: int) -> None:
    assert nodes_of_a_step(rows, first_choices(*FAMILIES)).total() <= 8 * LAYERS


def test_without_the_mlp_in_one_launch_it_takes_two() -> None:
    plan = first_choices("gemv", "skinny_gemm")
    assert all(choice.family != "fused_mlp" for choice in plan.values())
    one, two = nodes_of_a_step(1, first_choices(*FAMILIES)).total(), nodes_of_a_step(1, plan).total()
    assert two == one + LAYERS
    assert any(key.operation == NORM_MLP_ADD for key in plan)


def test_views_and_uninitialised_memory_are_no_nodes() -> None:
    x = torch.empty(4, 6, device=META)
    with counting_nodes() as nodes:
        x.view(6, 4).transpose(0, 1).new_empty(3).split(1)
    assert nodes == {}
    with counting_nodes() as nodes:
        (x + x).sum().to(torch.float64)
    assert nodes == {"add": 1, "sum": 1, "_to_copy": 1}
