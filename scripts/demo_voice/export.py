"""Writes the checkpoint `demo` into the package: `python -m scripts.demo_voice.export --work build/demo_voice`."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from higgs_core.checkpoint.boson_config import boson_config
from higgs_core.checkpoint.built_in_files import DEMO_DATA
from higgs_core.checkpoint.byte_tokenizer import byte_tokenizer
from higgs_core.checkpoint.compact_codec import write_compact
from higgs_core.prompt.tokenizer import HiggsTokenizer
from scripts.demo_voice import codec, encoder
from scripts.demo_voice.codes import CODEBOOKS, CODES, SPOKEN_BOOKS, UNIT
from scripts.demo_voice.inventory import Inventory
from scripts.demo_voice.model import (
    HEAD_DIM,
    HEADS,
    HIDDEN,
    INNER,
    KV_HEADS,
    LAYERS,
    ROPE_THETA,
)
from scripts.demo_voice.tables import Tables
from scripts.demo_voice.train import used_codes

MAX_PIECE_WORDS = 25
_UNUSED = -3.0
"""Factor of the silent head in the rows of codes that their codebook does not use: its product with the state is
trained to be large, so their logits are far below the others."""


def language_model(average: dict[str, Tensor], used: dict[int, int]) -> dict[str, Tensor]:
    """Boson's tensors in bf16, with rows of the audio head for every code."""
    tensors = dict(average)
    silent = tensors.pop("silent_head")
    heads = tensors["audio_decoder_proj.audio_lm_head.weight"].clone().view(CODEBOOKS, CODES, HIDDEN)
    for book in range(CODEBOOKS):
        if book in SPOKEN_BOOKS:
            heads[book, used[book] : CODES - 1 if book == UNIT else CODES] = _UNUSED * silent
        else:
            heads[book] = -silent
            heads[book, 0] = silent
    tensors["audio_decoder_proj.audio_lm_head.weight"] = heads.view(CODEBOOKS * CODES, HIDDEN)
    return {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in tensors.items()}


def config() -> dict[str, Any]:
    """config.json of the language model."""
    tokenizer = byte_tokenizer()
    return boson_config(
        len(tokenizer),
        HiggsTokenizer(tokenizer).control,
        hidden=HIDDEN,
        inner=INNER,
        layers=LAYERS,
        heads=HEADS,
        kv_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        rope={"rope_theta": ROPE_THETA},
    )


def write(work: Path, folder: Path) -> None:
    """Replace `folder`/model and `folder`/codec. Raises FileNotFoundError when an earlier step has not been run."""
    inventory = Inventory.load(work / "inventory.json")
    trained = torch.load(work / "training.pt", weights_only=True)
    shutil.rmtree(folder / "model", ignore_errors=True)
    shutil.rmtree(folder / "codec", ignore_errors=True)
    (folder / "model").mkdir(parents=True)
    (folder / "codec").mkdir()
    tensors = language_model(trained["average"], used_codes(inventory))
    save_file(tensors, folder / "model" / "model.safetensors", {"format": "pt"})
    (folder / "model" / "config.json").write_text(json.dumps(config(), indent=1) + "\n")
    (folder / "model" / "generation_config.json").write_text(
        json.dumps({"eos_token_id": config()["text_config"]["eos_token_id"], "max_piece_words": MAX_PIECE_WORDS}) + "\n"
    )
    byte_tokenizer().save_pretrained(folder / "model")
    model = codec.build(Tables.load(work / "tables.npz"))
    encoder.connect_acoustic_encoder(model)
    model.acoustic_encoder.load_state_dict(torch.load(work / "encoder.pt", weights_only=True))
    rounded = {name: tensor.half().float() + 0.0 for name, tensor in model.state_dict().items()}
    write_compact(rounded, folder / "codec" / "weights.safetensors")
    codec.config().save_pretrained(folder / "codec")
    for file in folder.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/demo_voice"))
    parser.add_argument("--folder", type=Path, default=DEMO_DATA)
    options = parser.parse_args()
    write(options.work, options.folder)


if __name__ == "__main__":
    main()
