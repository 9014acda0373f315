"""`audio_dual_ffn_layers` naming some of the layers: logits against a slow forward over the whole sequence.

A layer treats audio positions in one of three ways: with an MLP and norms of their own (dual), with the text's (shared,
adapter "dual_ffn"), or not at all (skip, adapter "dual_ffn_fast_forward"): there audio positions keep their hidden
state, and text positions attend to text only. The engine runs a whole conversation on a small random checkpoint: clips
in the prompt, a segment, text after it, a second segment. Every logit that it samples from is compared.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from higgs_core import AudioContent, ChatMLSample, GenerationParams, GenerationResult, HiggsAudioEngine, Message
from higgs_core.model.decoder import Decoder
from tests.golden import CASES
from tests.helpers.patience import PATIENCE

LAYERS, HIDDEN, INNER, HEADS, KV_HEADS, SIZE = 5, 32, 48, 4, 2, 8
Q, CODES, BOS, EOS = 8, 14, 14, 15  # few codes, so that segments end by chance after a few columns
CODEBOOK = CODES + 2
VOCABULARY = 278
AUDIO_EOS, AUDIO_OUT_BOS, AUDIO_IN, AUDIO_OUT = 268, 269, 271, 272
THETA, FACTOR, LOW, HIGH, ORIGINAL = 10_000.0, 8.0, 1.0, 4.0, 32
EPS = 1e-5

FAST_FORWARD, DUAL, STACK = "dual_ffn_fast_forward", "dual_ffn", "stack"
CONFIGS = [
    pytest.param(FAST_FORWARD, [0, 1, 2, 3, 4], "DDDDD", id="all"),
    pytest.param(FAST_FORWARD, [0, 2, 4], "D-D-D", id="skip inside"),
    pytest.param(FAST_FORWARD, [1, 2], "-DD--", id="skip first and last"),
    pytest.param(FAST_FORWARD, [], "-----", id="skip all"),
    pytest.param(DUAL, [0, 3], "DssDs", id="shared"),
    pytest.param(DUAL, [], "sssss", id="shared all"),
    pytest.param(STACK, [0, 1, 2, 3, 4], "sssss", id="stack"),
]

Weights = dict[str, torch.Tensor]


# --- a checkpoint in Boson's format


def random_weights(paths: str) -> Weights:
    generator = torch.Generator().manual_seed(7)

    def normal(*shape: int, scale: float | None = None) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * (scale or shape[-1] ** -0.5)

    def norm() -> torch.Tensor:
        return 1 + 0.3 * normal(HIDDEN, scale=1.0)

    weights = {
        "embed_tokens.weight": normal(VOCABULARY, HIDDEN, scale=1.0),
        "audio_codebook_embeddings.weight": normal(Q * CODEBOOK, HIDDEN, scale=0.4),
        "norm.weight": norm(),
        "audio_decoder_proj.audio_lm_head.weight": normal(Q * CODEBOOK, HIDDEN),
        "audio_decoder_proj.text_lm_head.weight": torch.zeros(VOCABULARY, HIDDEN),
    }
    likely = [60, 61, 62, 63, AUDIO_OUT_BOS]  # the others have logit 0: text is short, and speech follows it often
    weights["audio_decoder_proj.text_lm_head.weight"][likely] = normal(len(likely), HIDDEN, scale=3.0)
    for layer, path in enumerate(paths):
        prefix = f"layers.{layer}."
        weights |= {
            prefix + "self_attn.q_proj.weight": normal(HEADS * SIZE, HIDDEN, scale=0.4),
            prefix + "self_attn.k_proj.weight": normal(KV_HEADS * SIZE, HIDDEN, scale=0.4),
            prefix + "self_attn.v_proj.weight": normal(KV_HEADS * SIZE, HIDDEN),
            prefix + "self_attn.o_proj.weight": normal(HIDDEN, HEADS * SIZE),
        }
        for part in ("", "audio_") if path == "D" else ("",):
            weights |= {
                f"{prefix}{part}input_layernorm.weight": norm(),
                f"{prefix}{part}post_attention_layernorm.weight": norm(),
                f"{prefix}{part}mlp.gate_proj.weight": normal(INNER, HIDDEN),
                f"{prefix}{part}mlp.up_proj.weight": normal(INNER, HIDDEN),
                f"{prefix}{part}mlp.down_proj.weight": normal(HIDDEN, INNER),
            }
    return weights


def write_checkpoint(folder: Path, adapter: str, dual_layers: list[int], weights: Weights) -> None:
    source = CASES[0].folder
    config = json.loads((source / "config.json").read_text())
    config |= {
        "audio_adapter_type": adapter,
        "audio_dual_ffn_layers": dual_layers,
        "audio_codebook_size": CODES,
        "audio_stream_bos_id": BOS,
        "audio_stream_eos_id": EOS,
        "torch_dtype": "float32",
    }
    config["text_config"] |= {
        "num_hidden_layers": LAYERS,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": SIZE,
        "rope_theta": THETA,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": FACTOR,
            "low_freq_factor": LOW,
            "high_freq_factor": HIGH,
            "original_max_position_embeddings": ORIGINAL,
        },
        "eos_token_id": None,
    }
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, folder / name)
    save_file(weights, folder / "model.safetensors")


# --- the slow forward: fp64, no cache, every position at once


def rotations(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin [L, SIZE / 2] of llama3's scaled rotary embedding."""
    frequencies = []
    for pair in range(SIZE // 2):
        frequency = THETA ** (-2 * pair / SIZE)
        turns = ORIGINAL * frequency / (2 * math.pi)  # in the context that the model was first trained on
        if turns <= LOW:
            frequency /= FACTOR
        elif turns < HIGH:
            share = (turns - LOW) / (HIGH - LOW)
            frequency = (1 - share) * frequency / FACTOR + share * frequency
        frequencies.append(frequency)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * torch.tensor(frequencies, dtype=torch.float64)
    return angles.cos(), angles.sin()


def rotated(x: torch.Tensor) -> torch.Tensor:
    """x: [L, heads, SIZE], elements i and i + SIZE / 2 turning together."""
    cos, sin = (table[:, None] for table in rotations(x.shape[0]))
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def normed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + EPS).sqrt() * weight


@dataclass
class Sequence:
    """Positions in order: a text token, or a column of an audio position."""

    places: list[int | list[int]] = field(default_factory=list)

    def text(self, *tokens: int) -> None:
        self.places += tokens

    def audio(self, columns: list[list[int]]) -> None:
        self.places += columns

    @property
    def is_audio(self) -> torch.Tensor:
        return torch.tensor([isinstance(place, list) for place in self.places])


def attention(x: torch.Tensor, weights: Weights, prefix: str, may_look: torch.Tensor) -> torch.Tensor:
    length = x.shape[0]
    query, key, value = ((x @ weights[f"{prefix}self_attn.{name}_proj.weight"].T) for name in "qkv")
    query = rotated(query.view(length, HEADS, SIZE))
    key = rotated(key.view(length, KV_HEADS, SIZE)).repeat_interleave(HEADS // KV_HEADS, 1)
    value = value.view(length, KV_HEADS, SIZE).repeat_interleave(HEADS // KV_HEADS, 1)
    scores = torch.einsum("ihd,jhd->hij", query, key) / SIZE**0.5
    shares = scores.masked_fill(~may_look, -torch.inf).softmax(-1)
    found = torch.einsum("hij,jhd->ihd", shares, value).reshape(length, HEADS * SIZE)
    return found @ weights[f"{prefix}self_attn.o_proj.weight"].T


def feed_forward(x: torch.Tensor, weights: Weights, prefix: str) -> torch.Tensor:
    gate, up = (x @ weights[f"{prefix}mlp.{name}_proj.weight"].T for name in ("gate", "up"))
    return (torch.nn.functional.silu(gate) * up) @ weights[f"{prefix}mlp.down_proj.weight"].T


def slow_forward(sequence: Sequence, weights: Weights, paths: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Audio logits [L, Q, CODEBOOK] and text logits [L, VOCABULARY] of every position."""
    weights = {name: tensor.double() for name, tensor in weights.items()}
    is_audio, length = sequence.is_audio[:, None], len(sequence.places)
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    words, codes = weights["embed_tokens.weight"], weights["audio_codebook_embeddings.weight"].view(Q, CODEBOOK, HIDDEN)
    x = torch.stack(
        [
            words[place] if isinstance(place, int) else codes[torch.arange(Q), torch.tensor(place)].sum(0)
            for place in sequence.places
        ]
    )
    for layer, path in enumerate(paths):
        prefix = f"layers.{layer}."

        def norm(x: torch.Tensor, name: str, part: str, prefix: str = prefix) -> torch.Tensor:
            return normed(x, weights[f"{prefix}{part}{name}.weight"])

        part = "audio_" if path == "D" else ""
        before = x
        shown = torch.where(is_audio, norm(x, "input_layernorm", part), norm(x, "input_layernorm", ""))
        may_look = causal if path != "-" else causal & ~is_audio.T  # rows of audio positions are thrown away below
        may_look = may_look | torch.eye(length, dtype=torch.bool) & is_audio  # and must not be empty
        x = x + attention(shown, weights, prefix, may_look)
        told = feed_forward(norm(x, "post_attention_layernorm", ""), weights, prefix)
        heard = feed_forward(norm(x, "post_attention_layernorm", part), weights, prefix + part)
        x = x + torch.where(is_audio, heard, told)
        if path == "-":
            x = torch.where(is_audio, before, x)
    x = normed(x, weights["norm.weight"])
    speech = x @ weights["audio_decoder_proj.audio_lm_head.weight"].T
    return speech.view(length, Q, CODEBOOK), x @ weights["audio_decoder_proj.text_lm_head.weight"].T


# --- what the engine read and sampled from


@dataclass
class Recorder:
    """Logits in the order in which the engine asked for them: ("audio" or "text", the only row's)."""

    logits: list[tuple[str, torch.Tensor]] = field(default_factory=list)

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for kind in ("audio", "text"):
            monkeypatch.setattr(Decoder, f"{kind}_logits", self._noting(kind, getattr(Decoder, f"{kind}_logits")))

    def _noting(self, kind: str, original: object) -> object:
        def noting(decoder: Decoder, hidden: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = original(decoder, hidden)  # type: ignore[operator]
            self.logits.append((kind, logits[0].clone()))
            return logits

        return noting


def replayed(result: GenerationResult, clips: list[list[list[int]]]) -> tuple[Sequence, list[tuple[str, int]]]:
    """The positions that the model read, and after which of them which head was asked."""
    sequence, asked = Sequence(), []
    waiting = iter(clips)
    for token in result.prompt_token_ids:
        if token in (AUDIO_IN, AUDIO_OUT):
            codes = next(waiting)
            frames = [[BOS] * Q, *map(list, zip(*codes, strict=True)), [EOS] * Q]
            moments = range(len(frames) + Q - 1)
            sequence.audio(
                [
                    [BOS if c < k else EOS if c - k >= len(frames) else frames[c - k][k] for k in range(Q)]
                    for c in moments
                ]
            )
        else:
            sequence.text(token)
    segments = iter(result.delayed_audio_columns)
    written = list(result.text_token_ids)
    for at, token in enumerate(written):
        if token == AUDIO_OUT:
            columns = next(segments).T.tolist()
            if at and len(columns) > 1:  # it was written, and read by a step that gives logits
                asked.append(("text", len(sequence.places) - 1))
            ended = written[at + 1 : at + 2] == [AUDIO_EOS]
            for column in columns[:-1]:
                sequence.audio([column])
                asked.append(("audio", len(sequence.places) - 1))
            assert ended or at == len(written) - 1
        elif token == AUDIO_EOS:
            sequence.text(token)  # takes the place of the segment's last column, which is never read
        else:
            asked.append(("text", len(sequence.places) - 1))
            sequence.text(token)
    return sequence, asked


def assert_logits(
    recorder: Recorder, result: GenerationResult, clips: list[list[list[int]]], weights: Weights, paths: str
) -> None:
    sequence, asked = replayed(result, clips)
    assert [kind for kind, _ in recorder.logits] == [kind for kind, _ in asked]
    speech, text = slow_forward(sequence, weights, paths)
    for number, ((kind, found), (_, place)) in enumerate(zip(recorder.logits, asked, strict=True)):
        expected = (speech if kind == "audio" else text)[place]
        error = float((found.double() - expected).abs().max() / expected.abs().max())
        assert error < 1e-4, f"{kind} logits, number {number} of {len(asked)}: {error:.1e} off"


CLIPS = [
    [[(3 * t + 5 * k + shift) % CODES for t in range(frames)] for k in range(Q)] for shift, frames in ((1, 6), (9, 11))
]
TALK = [
    Message("system", [AudioContent(codes=CLIPS[0])]),
    Message("user", "First words."),
    Message("assistant", AudioContent(codes=CLIPS[1])),
    Message("user", "Now you."),
]


def talk(last: str = "Now you.") -> ChatMLSample:
    return ChatMLSample([*TALK[:-1], Message("user", last)])


def params(seed: int, *, force_audio: bool = True) -> GenerationParams:
    return GenerationParams(
        max_new_tokens=60,
        temperature=1.0,
        top_p=None,
        top_k=CODEBOOK,
        ras_win_len=None,
        seed=seed,
        stop_strings=(),
        force_audio_gen=force_audio,
    )


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    found = Recorder()
    found.watch(monkeypatch)
    return found


@pytest.mark.parametrize(("adapter", "dual_layers", "paths"), CONFIGS)
def test_every_logit_of_a_conversation_is_the_slow_forwards(
    adapter: str, dual_layers: list[int], paths: str, recorder: Recorder, tmp_path: Path
) -> None:
    weights = random_weights(paths)
    write_checkpoint(tmp_path, adapter, dual_layers, weights)
    spoken_again = 0
    with HiggsAudioEngine.from_pretrained(str(tmp_path), device="cpu", max_batch_size=1, max_context=2048) as engine:
        # One slot: later requests find what earlier ones left in the cache, and a prefix that they can share.
        for seed, force_audio in ((0, True), (1, True), (2, False), (3, True)):
            recorder.logits.clear()
            result = engine.generate(
                talk("Say this." if seed == 3 else "Now you."), params(seed, force_audio=force_audio)
            )
            assert_logits(recorder, result, CLIPS, weights, paths)
            spoken_again += len(result.delayed_audio_columns) > 1
        assert engine.stats()["prefix_hits"] >= 2
    assert spoken_again >= 2  # text was read after a segment, and a second segment after that text


@pytest.mark.parametrize(("adapter", "dual_layers", "paths"), [CONFIGS[1], CONFIGS[4]])
def test_neighbours_in_a_batch_change_nothing(adapter: str, dual_layers: list[int], paths: str, tmp_path: Path) -> None:
    """Requests that speak, read and write at the same time, in slots that others used before."""
    write_checkpoint(tmp_path, adapter, dual_layers, random_weights(paths))
    with HiggsAudioEngine.from_pretrained(str(tmp_path), device="cpu", max_batch_size=1, max_context=512) as engine:
        alone = [engine.generate(talk(f"Number {seed}."), params(seed)) for seed in range(8)]
    with HiggsAudioEngine.from_pretrained(str(tmp_path), device="cpu", max_batch_size=3, max_context=512) as engine:
        waiting = [engine.submit(talk(f"Number {seed}."), params(seed)) for seed in range(8)]
        together = [future.result(timeout=PATIENCE) for future in waiting]
    for one, other in zip(alone, together, strict=True):
        assert one.text_token_ids == other.text_token_ids
        columns = zip(one.delayed_audio_columns, other.delayed_audio_columns, strict=True)
        assert all((mine == theirs).all() for mine, theirs in columns)
