"""The codec: kept codes, refusals, and how much context makes a chunk's decode exact."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from higgs_core.checkpoint.tiny import write_tiny
from higgs_core.codec.audio_codec import MAX_DECODE_FRAMES, AudioCodec
from higgs_core.codec.pieces import CONTEXT_FRAMES
from higgs_core.errors import ModelLoadError, RequestError

CPU = torch.device("cpu")
HOP = 960


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_tiny(tmp_path_factory.mktemp("tiny"))[1]


@pytest.fixture(scope="module")
def codec(folder: Path) -> AudioCodec:
    return AudioCodec.from_folder(folder, CPU)


def clip(frames: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(frames * HOP).astype(np.float32) * 0.2


def random_codes(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 1024, shape, generator=torch.Generator().manual_seed(seed))


class TestEncode:
    def test_what_lies_behind_the_last_whole_frame_changes_nothing(self, codec: AudioCodec) -> None:
        whole = clip(12)
        longer = np.concatenate([whole, np.ones(959, dtype=np.float32)])
        assert torch.equal(codec.encode(longer), codec.encode(whole))
        assert codec.encode(whole).shape == (8, 12)
        assert codec.encode(whole).dtype == torch.int64

    @pytest.mark.parametrize("shape", [(0,), (959,), (1, 9600), (9600, 2)])
    def test_less_than_a_frame_and_more_than_one_channel_are_refused(
        self, codec: AudioCodec, shape: tuple[int, ...]
    ) -> None:
        with pytest.raises(RequestError, match=r"has shape \[.*\]; allowed is one dimension of at least 960 samples"):
            codec.encode(np.zeros(shape, dtype=np.float32))

    def test_one_frame_is_enough(self, codec: AudioCodec) -> None:
        assert codec.encode(clip(1)).shape == (8, 1)

    def test_the_same_samples_are_encoded_once_whatever_array_holds_them(self, folder: Path) -> None:
        codec = AudioCodec.from_folder(folder, CPU)
        samples = clip(5)
        first = codec.encode(samples)
        assert codec.encode(samples.copy()) is first
        assert codec.encode(samples.astype(np.float64)) is first
        assert codec.encode(np.repeat(samples, 2)[::2]) is first, "not contiguous, the same content"
        assert (codec.cache_hits, codec.cache_misses) == (3, 1)
        codec.encode(samples * 0.5)
        assert (codec.cache_hits, codec.cache_misses) == (3, 2)

    def test_kept_codes_are_bounded_in_bytes_and_the_least_recently_used_go(self, folder: Path) -> None:
        whole = AudioCodec.from_folder(folder, CPU)
        bytes_of_a_clip = 8 * 5 * 8
        codec = AudioCodec(whole._model, cache_bytes=2 * bytes_of_a_clip)
        clips = [clip(5, seed) for seed in range(3)]
        codec.encode(clips[0])
        codec.encode(clips[1])
        codec.encode(clips[0])  # clip 1 is now the one longest not asked for
        codec.encode(clips[2])
        assert (codec.cache_hits, codec.cache_misses) == (1, 3)
        codec.encode(clips[0])
        assert (codec.cache_hits, codec.cache_misses) == (2, 3)
        codec.encode(clips[1])
        assert (codec.cache_hits, codec.cache_misses) == (2, 4)

    def test_a_clip_larger_than_the_cache_is_encoded_and_not_kept(self, folder: Path) -> None:
        codec = AudioCodec(AudioCodec.from_folder(folder, CPU)._model, cache_bytes=100)
        assert torch.equal(codec.encode(clip(5)), codec.encode(clip(5)))
        assert (codec.cache_hits, codec.cache_misses) == (0, 2)


class TestDecode:
    def test_no_frames_are_no_samples(self, codec: AudioCodec) -> None:
        assert codec.decode(random_codes(1, 8, 0)).shape == (1, 0)

    def test_a_frame_is_960_samples(self, codec: AudioCodec) -> None:
        assert codec.decode(random_codes(1, 8, 7)).shape == (1, 7 * HOP)

    def test_rows_of_a_batch_sound_as_each_alone(self, codec: AudioCodec) -> None:
        codes = random_codes(3, 8, 15)
        together = codec.decode(codes)
        for row in range(3):
            alone = codec.decode(codes[row : row + 1])[0]
            torch.testing.assert_close(together[row], alone, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(("start", "stop"), [(0, 5), (20, 21), (17, 40), (55, 60)])
    def test_ten_frames_of_context_make_a_chunk_exact(self, codec: AudioCodec, start: int, stop: int) -> None:
        codes = random_codes(1, 8, 60)
        whole = codec.decode(codes)[0]
        left, right = max(start - CONTEXT_FRAMES, 0), min(stop + CONTEXT_FRAMES, 60)
        chunk = codec.decode(codes[:, :, left:right])[0, (start - left) * HOP : (stop - left) * HOP]
        assert (chunk - whole[start * HOP : stop * HOP]).abs().max() <= 1e-6 * whole.abs().max()

    @pytest.mark.parametrize(("context", "exact"), [(8, False), (9, False), (CONTEXT_FRAMES, True)])
    @torch.no_grad()
    def test_ten_frames_are_the_receptive_field_and_fewer_are_not(
        self, codec: AudioCodec, context: int, exact: bool
    ) -> None:
        """In fp64, where the smallest influence of a far frame shows."""
        model = copy.deepcopy(codec._model).double()
        codes = random_codes(1, 8, 60)
        whole = model.decode(codes).audio_values[0, 0]
        chunk = model.decode(codes[:, :, 20 - context : 40 + context]).audio_values[0, 0]
        error = (chunk[context * HOP :][: 20 * HOP] - whole[20 * HOP : 40 * HOP]).abs().max() / whole.abs().max()
        assert (error < 1e-14) == exact


class TestLoading:
    @pytest.fixture
    def spoiled(self, folder: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / "codec"))

    @pytest.mark.parametrize("name", ["acoustic_decoder.conv1.weight", "quantizer.quantizers.3.codebook.embed"])
    def test_a_missing_tensor_is_named(self, spoiled: Path, name: str) -> None:
        tensors = load_file(spoiled / "model.safetensors")
        absent = next(key for key in tensors if key.startswith(name.removesuffix(".weight")))
        del tensors[absent]
        save_file(tensors, spoiled / "model.safetensors", {"format": "pt"})
        with pytest.raises(ModelLoadError, match=r"lacks 1 of its tensors \(.*\): it holds another model's weights"):
            AudioCodec.from_folder(spoiled, CPU)

    def test_another_models_weights_are_refused(self, spoiled: Path) -> None:
        save_file({"other.weight": torch.zeros(2)}, spoiled / "model.safetensors", {"format": "pt"})
        with pytest.raises(ModelLoadError, match="holds another model's weights"):
            AudioCodec.from_folder(spoiled, CPU)

    def test_a_mis_shaped_tensor_is_refused(self, spoiled: Path) -> None:
        tensors = load_file(spoiled / "model.safetensors")
        tensors["fc.weight"] = torch.zeros(3, 3)
        save_file(tensors, spoiled / "model.safetensors", {"format": "pt"})
        with pytest.raises(ModelLoadError, match="audio tokenizer"):
            AudioCodec.from_folder(spoiled, CPU)

    def test_a_folder_in_the_old_format_is_refused_with_a_way_out(self, spoiled: Path) -> None:
        (spoiled / "model.safetensors").rename(spoiled / "model.pth")
        with pytest.raises(
            ModelLoadError, match=r"not in transformers' format.*use bosonai/higgs-audio-v2-tokenizer at its default"
        ):
            AudioCodec.from_folder(spoiled, CPU)

    @pytest.mark.parametrize(
        ("changes", "found"),
        [
            ({"sample_rate": 16_000}, "16000 samples and 17 frames of 960 samples"),
            (
                {"acoustic_model_config": {"model_type": "dac", "downsampling_ratios": [8, 5, 4, 2]}},
                "24000 samples and 75 frames of 320 samples",
            ),
            ({"codebook_size": 512}, "has 512 codes; the model speaks 1024"),
        ],
    )
    def test_a_codec_of_another_rate_or_size_is_refused_before_its_weights_are_read(
        self, spoiled: Path, changes: dict[str, Any], found: str
    ) -> None:
        config = json.loads((spoiled / "config.json").read_text()) | changes
        (spoiled / "config.json").write_text(json.dumps(config))
        (spoiled / "model.safetensors").write_bytes(b"\x00" * 50)
        with pytest.raises(ModelLoadError, match=found):
            AudioCodec.from_folder(spoiled, CPU)

    def test_damaged_weights_are_refused(self, spoiled: Path) -> None:
        (spoiled / "model.safetensors").write_bytes(b"\x00" * 50)
        with pytest.raises(ModelLoadError, match="audio tokenizer cannot be read"):
            AudioCodec.from_folder(spoiled, CPU)


class TestMemory:
    """Decodes bounded in frames over all rows, and smaller pieces where memory is short."""

    @pytest.fixture
    def sizes(self, codec: AudioCodec, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
        """Rows and frames of every decode."""
        decode, sizes = codec.decode_on_device, list[tuple[int, int]]()

        def noted(codes: torch.Tensor) -> torch.Tensor:
            sizes.append((codes.shape[0], codes.shape[2]))
            return decode(codes)

        monkeypatch.setattr(codec, "decode_on_device", noted)
        return sizes

    @pytest.mark.parametrize(("rows", "frames"), [(2, 137), (3, 20), (7, 13), (1, 41)])
    def test_no_decode_is_larger_than_the_bound_and_the_audio_is_the_same(
        self,
        codec: AudioCodec,
        sizes: list[tuple[int, int]],
        monkeypatch: pytest.MonkeyPatch,
        rows: int,
        frames: int,
    ) -> None:
        codes = random_codes(rows, 8, frames, seed=5)
        whole = codec.decode(codes)
        assert sizes == [(rows, frames)]
        sizes.clear()
        monkeypatch.setattr("higgs_core.codec.audio_codec.MAX_DECODE_FRAMES", 40)
        bounded = codec.decode(codes)
        assert len(sizes) > 1
        assert max(rows * frames for rows, frames in sizes) <= 40
        assert bounded.shape == whole.shape == (rows, frames * HOP)
        assert (bounded - whole).abs().max() < 1e-5

    @pytest.mark.parametrize(
        "error",
        [torch.cuda.OutOfMemoryError(), RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")],
        ids=["torch", "cuDNN"],
    )
    def test_a_row_that_does_not_fit_is_decoded_in_smaller_pieces(
        self,
        codec: AudioCodec,
        sizes: list[tuple[int, int]],
        monkeypatch: pytest.MonkeyPatch,
        error: RuntimeError,
    ) -> None:
        codes = random_codes(1, 8, 300)
        whole = codec.decode(codes)
        sizes.clear()
        tried = self.fail_beyond(codec, monkeypatch, 80, error)
        assert (codec.decode(codes) - whole).abs().max() < 1e-5
        assert tried[:2] == [300, 150]
        assert set(tried[2:-1]) == {75}
        assert sizes == [(1, frames) for frames in tried[2:]]

    def test_less_than_a_few_frames_are_not_tried(
        self, codec: AudioCodec, monkeypatch: pytest.MonkeyPatch, sizes: list[tuple[int, int]]
    ) -> None:
        tried = self.fail_beyond(codec, monkeypatch, 0, torch.cuda.OutOfMemoryError())
        with pytest.raises(torch.cuda.OutOfMemoryError):
            codec.decode(random_codes(1, 8, 500))
        assert tried == [500, 250, 125, 62]

    def test_a_batch_that_does_not_fit_is_for_the_caller_to_divide(
        self, codec: AudioCodec, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tried = self.fail_beyond(codec, monkeypatch, 0, torch.cuda.OutOfMemoryError())
        with pytest.raises(torch.cuda.OutOfMemoryError):
            codec.decode(random_codes(2, 8, 200))
        assert tried == [200]

    def test_another_failure_is_not_tried_again(self, codec: AudioCodec, monkeypatch: pytest.MonkeyPatch) -> None:
        tried = self.fail_beyond(codec, monkeypatch, 0, RuntimeError("an illegal memory access was encountered"))
        with pytest.raises(RuntimeError, match="illegal"):
            codec.decode(random_codes(1, 8, 200))
        assert tried == [200]

    @staticmethod
    def fail_beyond(codec: AudioCodec, monkeypatch: pytest.MonkeyPatch, frames: int, error: RuntimeError) -> list[int]:
        """Decodes of more frames raise; returns the list of the frames that are tried."""
        decode, tried = codec.decode_on_device, list[int]()

        def limited(codes: torch.Tensor) -> torch.Tensor:
            tried.append(codes.shape[2])
            if codes.shape[2] > frames:
                raise error
            return decode(codes)

        monkeypatch.setattr(codec, "decode_on_device", limited)
        return tried


def test_warming_up_runs_the_largest_decode_and_one_encode_and_keeps_nothing(
    codec: AudioCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: dict[str, list[int]] = {"decoded": [], "encoded": []}

    def decoded(codes: torch.Tensor) -> torch.Tensor:
        sizes["decoded"].append(codes.shape[2])
        return torch.zeros(1, codes.shape[2] * HOP)

    def encoded(samples: torch.Tensor) -> torch.Tensor:
        sizes["encoded"].append(samples.shape[0])
        return torch.zeros(8, 1)

    monkeypatch.setattr(codec, "decode_on_device", decoded)
    monkeypatch.setattr(codec, "encode_on_device", encoded)
    before = (codec.cache_hits, codec.cache_misses)
    codec.warm_up()
    assert sizes == {"decoded": [MAX_DECODE_FRAMES], "encoded": [30 * 24_000]}
    assert (codec.cache_hits, codec.cache_misses) == before
