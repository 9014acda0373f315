"""The language model as it is trained: Higgs Audio v2's decoder with gradients, and attention heads that can be guided.

The engine has no backward pass. This is the same mathematics written for training on a CPU: DualFFN layers, rotary
positions, RMSNorm in fp32, the sum of the codebooks' embeddings as input. Sequences of a batch are padded to one
length; the MLPs see their own positions only. `tests/demo_voice/test_training.py` holds it to the engine.

B sequences of P positions, of which N in all hold an audio column; Q = 8 codebooks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from scripts.demo_voice.codes import CODEBOOKS, CODES, SPOKEN_BOOKS

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 256, 512, 6, 4, 4, 64
ROPE_THETA = 10_000.0
NORM_EPSILON = 1e-5
HIDDEN_CODE = 3 * CODES
"""A row of the embeddings, in a codebook that says nothing, which stays zero."""

GUIDED = {1: ("spoken",), 2: ("next", "word_end"), 3: ("next", "word_end")}
"""What the first query heads of a layer are guided to, for an audio column: the letter being spoken in it, the letter
spoken in the column that it predicts, the end of that letter's word."""


@dataclass(frozen=True)
class Batch:
    """tokens: int64 [B, P], ids of text; 0 at audio columns and at the end, where at least one position is padding.

    text_at, audio_at: flat positions (b * P + p) of text and of audio columns; either may name the last position, which
    is padding, any number of times.
    columns: int64 [N, Q], in the order of `audio_at`.  targets: int64 [N, Q], the next column, -100 where nothing is
    learned.
    learned_text_at, text_targets: int64 [M], flat positions whose next text token is learned, and that token or -100.
    guides: for each name of `GUIDED` int64 [N], the position to attend to in the same sequence, -1 for none.
    """

    tokens: Tensor
    text_at: Tensor
    audio_at: Tensor
    columns: Tensor
    targets: Tensor
    learned_text_at: Tensor
    text_targets: Tensor
    guides: dict[str, Tensor]


@dataclass(frozen=True)
class Outputs:
    """audio: [N, H], final hidden states of the audio columns.
    text: [M, vocabulary], logits at `Batch.learned_text_at`.

    guide_losses: for each guided head the mean of -log(attention on its target) over the columns that have one.
    """

    audio: Tensor
    text: Tensor
    guide_losses: dict[str, Tensor]


class RMSNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(HIDDEN))

    def forward(self, states: Tensor) -> Tensor:
        return torch.nn.functional.rms_norm(states, (HIDDEN,), self.weight, NORM_EPSILON)


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(HIDDEN, INNER, bias=False)
        self.up_proj = nn.Linear(HIDDEN, INNER, bias=False)
        self.down_proj = nn.Linear(INNER, HIDDEN, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        gate, up = linear(states, torch.cat((self.gate_proj.weight, self.up_proj.weight))).chunk(2, dim=-1)
        return self.down_proj(silu(gate) * up)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(HIDDEN, HEADS * HEAD_DIM, bias=False)
        self.k_proj = nn.Linear(HIDDEN, KV_HEADS * HEAD_DIM, bias=False)
        self.v_proj = nn.Linear(HIDDEN, KV_HEADS * HEAD_DIM, bias=False)
        self.o_proj = nn.Linear(HEADS * HEAD_DIM, HIDDEN, bias=False)

    def forward(self, states: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        """states: [B, P, H].  mask: [P, P], added to the scores.  Returns [B, P, H] and the scores [B, heads, P, P]."""
        batch, length, _ = states.shape
        weight = torch.cat((self.q_proj.weight, self.k_proj.weight, self.v_proj.weight))
        heads = linear(states, weight).view(batch, length, -1, HEAD_DIM).transpose(1, 2)
        query, key, value = heads.split((HEADS, KV_HEADS, KV_HEADS), dim=1)
        query, key = rotate(query, rope), rotate(key, rope)
        group = HEADS // KV_HEADS
        query = query.reshape(batch * KV_HEADS, group * length, HEAD_DIM)
        key = key.reshape(batch * KV_HEADS, length, HEAD_DIM)
        value = value.reshape(batch * KV_HEADS, length, HEAD_DIM)
        scores = torch.bmm(query * HEAD_DIM**-0.5, key.transpose(1, 2)).view(batch, HEADS, length, length) + mask
        shares = scores.softmax(-1).view(batch * KV_HEADS, group * length, length)
        mixed = torch.bmm(shares, value).view(batch, HEADS, length, HEAD_DIM).transpose(1, 2)
        return self.o_proj(mixed.reshape(batch, length, -1)), scores


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn = Attention()
        self.input_layernorm, self.audio_input_layernorm = RMSNorm(), RMSNorm()
        self.post_attention_layernorm, self.audio_post_attention_layernorm = RMSNorm(), RMSNorm()
        self.mlp, self.audio_mlp = MLP(), MLP()

    def forward(
        self, states: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor, text_at: Tensor, audio_at: Tensor
    ) -> tuple[Tensor, Tensor]:
        batch, length, _ = states.shape
        flat = states.reshape(-1, HIDDEN)
        normed = torch.zeros_like(flat)
        normed = normed.index_copy(0, text_at, self.input_layernorm(flat[text_at]))
        normed = normed.index_copy(0, audio_at, self.audio_input_layernorm(flat[audio_at]))
        mixed, scores = self.self_attn(normed.view(batch, length, -1), rope, mask)
        flat = flat + mixed.reshape(-1, HIDDEN)
        flat = flat.index_add(0, text_at, self.mlp(self.post_attention_layernorm(flat[text_at])).to(flat.dtype))
        added = self.audio_mlp(self.audio_post_attention_layernorm(flat[audio_at])).to(flat.dtype)
        return flat.index_add(0, audio_at, added).view(batch, length, -1), scores


class DemoModel(nn.Module):
    """Parameters have the names of Boson's checkpoint format, so `state_dict` is what is exported."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, HIDDEN)
        self.audio_codebook_embeddings = nn.Embedding(CODEBOOKS * CODES, HIDDEN)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = RMSNorm()
        self.audio_decoder_proj = nn.ModuleDict(
            {
                "text_lm_head": nn.Linear(HIDDEN, vocabulary, bias=False),
                "audio_lm_head": nn.Linear(HIDDEN, CODEBOOKS * CODES, bias=False),
            }
        )
        for name, parameter in self.named_parameters():
            if name == "audio_codebook_embeddings.weight":
                nn.init.zeros_(parameter)
                for book in SPOKEN_BOOKS:
                    nn.init.normal_(parameter[book * CODES : (book + 1) * CODES], std=0.2)
            elif "embed" in name:
                nn.init.normal_(parameter, std=0.5)
            elif parameter.dim() == 2:
                depth = 1 / math.sqrt(2 * LAYERS) if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
                nn.init.normal_(parameter, std=depth / math.sqrt(parameter.shape[1]))

    def forward(self, batch: Batch, hidden_codes: Tensor | None = None) -> Outputs:
        """hidden_codes: bool [N, Q], inputs that are left out (code dropout)."""
        rows, length = batch.tokens.shape
        audio_at, text_at = batch.audio_at, batch.text_at
        # The other codebooks hold 0 in every column that was not heard by an encoder, and are not looked at.
        books = torch.tensor(SPOKEN_BOOKS)
        codes = batch.columns[:, books] + books * CODES
        if hidden_codes is not None:
            codes = codes.masked_fill(hidden_codes[:, books], HIDDEN_CODE)
        embedded = torch.nn.functional.embedding(codes, self.audio_codebook_embeddings.weight, padding_idx=HIDDEN_CODE)
        states = self.embed_tokens(batch.tokens).view(-1, HIDDEN).index_copy(0, audio_at, embedded.sum(1))
        states = states.view(rows, length, HIDDEN)
        rope, mask = rotations(length), torch.full((length, length), -1e4).triu(1)
        if torch.is_autocast_enabled("cpu"):
            rope, mask = (rope[0].bfloat16(), rope[1].bfloat16()), mask.bfloat16()
        losses: dict[str, Tensor] = {}
        row, column = audio_at // length, audio_at % length
        for index, layer in enumerate(self.layers):
            states, scores = layer(states, rope, mask, text_at, audio_at)
            for head, name in enumerate(GUIDED.get(index, ())):
                losses[f"{name}{index}"] = _guide_loss(scores[:, head], row, column, batch.guides[name])
        normed = self.norm(states.view(-1, HIDDEN))
        text = self.audio_decoder_proj["text_lm_head"](normed[batch.learned_text_at])
        return Outputs(normed[audio_at], text, losses)

    def codebook_head(self, codebook: int) -> Tensor:
        """[1026, H], the rows of the audio head that score a codebook."""
        return self.audio_decoder_proj["audio_lm_head"].weight[codebook * CODES : (codebook + 1) * CODES]


def rotations(length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary positions, [P, head_dim]."""
    frequencies = ROPE_THETA ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    angles = torch.outer(torch.arange(length), frequencies).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(heads: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary position embedding (RoFormer, arXiv 2104.09864), halves layout.  heads: [..., P, head_dim]."""
    first, second = heads.chunk(2, dim=-1)
    return heads * rope[0] + torch.cat((-second, first), dim=-1) * rope[1]


def _guide_loss(scores: Tensor, row: Tensor, column: Tensor, target: Tensor) -> Tensor:
    has_target = target >= 0
    row, column, target = row[has_target], column[has_target], target[has_target]
    chosen = scores[row, column].float()
    return (chosen.logsumexp(-1) - chosen.gather(1, target[:, None])[:, 0]).mean()
