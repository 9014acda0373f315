"""The codec on CUDA tensors without storage: shows tensors of other devices and reads on the host, without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from higgs_core.checkpoint.tiny import write_tiny
from higgs_core.codec.audio_codec import AudioCodec
from higgs_core.rates import FRAME_SAMPLES


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AudioCodec]:
    loaded = AudioCodec.from_folder(write_tiny(tmp_path_factory.mktemp("tiny"))[1], torch.device("cpu"))
    with FakeTensorMode(), torch.no_grad():  # in inference mode constants of the host cannot be faked
        for module in loaded._model.modules():
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    if tensor is not None:
                        fake = torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")
                        tensors[name] = torch.nn.Parameter(fake, requires_grad=False)
        yield loaded


@pytest.mark.parametrize(("rows", "frames"), [(1, 11), (4, 84)])
def test_a_decode_stays_on_the_device(codec: AudioCodec, rows: int, frames: int) -> None:
    codes = torch.empty(rows, 8, frames, dtype=torch.int64, device="cuda")
    audio = codec.decode_on_device(codes)
    assert audio.device.type == "cuda"
    assert audio.shape == (rows, frames * FRAME_SAMPLES)


@pytest.mark.parametrize("frames", [1, 40])
def test_an_encode_stays_on_the_device(codec: AudioCodec, frames: int) -> None:
    codes = codec.encode_on_device(torch.empty(frames * FRAME_SAMPLES, device="cuda"))
    assert codes.device.type == "cuda"
    assert (codes.shape, codes.dtype) == ((8, frames), torch.int64)


def test_a_read_on_the_host_would_show(codec: AudioCodec) -> None:
    with pytest.raises(Exception, match="_local_scalar_dense"):
        bool(codec.decode_on_device(torch.empty(1, 8, 2, dtype=torch.int64, device="cuda")).max() > 0)


def test_a_tensor_of_another_device_would_show(codec: AudioCodec) -> None:
    with pytest.raises(Exception, match="device"):
        codec.encode_on_device(torch.empty(FRAME_SAMPLES))
