"""The limits of child processes: what they hold, how they end, and what a hostile clip gets out of them."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from higgs_core.audio import decode_audio, encode_audio
from higgs_core.audio.child_process import ChildFailed, ChildLimits, ChildTimeout, output_of
from higgs_core.audio.ffmpeg_pipe import FfmpegPipe
from higgs_core.cancellation import CancelToken
from higgs_core.errors import DeliveryError, GenerationCancelled, ReferenceAudioError
from tests.helpers.paths import CLIP, ROOT
from tests.helpers.patience import PATIENCE, wait_until

LIMITS = ChildLimits(memory_bytes=512 * 2**20, cpu_seconds=20, file_bytes=1000)
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
PYTHON = (sys.executable, "-I", "-B", "-S")
"""-B: under a limit on files the child would leave bytecode that is cut off, for every later process to read."""

only_linux = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux sets limits on another process")


def python(code: str, data: bytes = b"", limits: ChildLimits = LIMITS, **options: Any) -> bytes:
    """What a child that reads its input to the end and then runs `code` writes."""
    program = [*PYTHON, "-c", f"import sys; given = sys.stdin.buffer.read()\n{code}"]
    return b"".join(output_of(program, data, limits, **({"seconds": PATIENCE} | options)))


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Every child that is started; none of them outlives the test."""
    started: list[subprocess.Popen[bytes]] = []

    class Popen(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    yield started
    assert all(process.returncode is not None for process in started)


# -- Limits -----------------------------------------------------------------------------------------------------------


@only_linux
def test_the_limits_hold_before_the_first_byte_of_input() -> None:
    code = """
import json, resource
names = ("AS", "CPU", "FSIZE", "NOFILE", "CORE")
print(json.dumps([resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in names]))"""
    memory = LIMITS.memory_bytes
    assert json.loads(python(code)) == [[memory, memory], [20, 21], [1000, 1000], [64, 64], [0, 0]]


@only_linux
@pytest.mark.parametrize(
    "code",
    [
        pytest.param("bytearray(2**30)", id="one allocation"),
        pytest.param("kept = []\nwhile True: kept.append(bytearray(2**20))", id="many allocations"),
        pytest.param("import os\nfile = os.open(FILE, 65)\nwhile True: os.write(file, bytes(600))", id="a file"),
        pytest.param("kept = [open('/dev/null') for _ in range(100)]", id="descriptors"),
    ],
)
def test_a_child_that_wants_more_than_its_limits_ends_in_an_error(code: str, tmp_path: Path) -> None:
    with pytest.raises(ChildFailed):
        python(code.replace("FILE", repr(str(tmp_path / "file"))))
    assert all(file.stat().st_size == LIMITS.file_bytes for file in tmp_path.iterdir())


@only_linux
def test_a_child_that_computes_for_ever_is_ended_by_its_processor_time() -> None:
    with pytest.raises(ChildFailed):
        python("while True: pass", limits=ChildLimits(LIMITS.memory_bytes, cpu_seconds=1))


def test_a_child_gets_no_secret_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BUCKET_SECRET_ACCESS_KEY", "RUNPOD_AI_API_KEY", "HF_TOKEN", "LD_PRELOAD"):
        monkeypatch.setenv(name, "s3cret")
    names = python("import os; print(*os.environ)").decode().split()
    assert set(names) <= {"PATH", "LD_LIBRARY_PATH", "TMPDIR", "LC_ALL", "LC_CTYPE"} | {
        "MALLOC_ARENA_MAX",
        "OPENBLAS_NUM_THREADS",
        "OMP_NUM_THREADS",
    }


# -- Ends -------------------------------------------------------------------------------------------------------------


def test_input_and_output_larger_than_any_pipe_pass_at_the_same_time() -> None:
    data = bytes(range(256)) * 40_000
    code = "sys.stdout.buffer.write(given)"
    assert python(code, data) == data
    echo = "import sys, shutil; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"
    assert b"".join(output_of([*PYTHON, "-c", echo], data, LIMITS, seconds=PATIENCE)) == data


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import time; time.sleep(6000)", id="reads nothing"),
        pytest.param("import os, time; os.close(1); time.sleep(6000)", id="closes its output and stays"),
        pytest.param("import os, time; os.close(0); time.sleep(6000)", id="closes its input and stays"),
        pytest.param("import sys, time; sys.stdin.buffer.read(); time.sleep(6000)", id="never answers"),
    ],
)
def test_a_child_that_hangs_is_ended_at_its_deadline(code: str, children: list[subprocess.Popen[bytes]]) -> None:
    with pytest.raises(ChildTimeout):
        list(output_of([*PYTHON, "-c", code], bytes(10**6), LIMITS, seconds=0.3))
    assert len(children) == 1


def test_a_child_that_reads_only_the_beginning_is_no_failure() -> None:
    code = "import sys; sys.stdin.buffer.read(10); print('enough')"
    assert list(output_of([*PYTHON, "-c", code], bytes(10**7), LIMITS, seconds=PATIENCE)) == [b"enough\n"]


def test_closing_the_output_ends_a_child_that_writes_for_ever(children: list[subprocess.Popen[bytes]]) -> None:
    code = "while True: sys.stdout.buffer.write(bytes(65536))"
    pieces = output_of([*PYTHON, "-c", f"import sys\n{code}"], b"", LIMITS, seconds=PATIENCE)
    assert next(pieces)
    pieces.close()
    assert len(children) == 1


def test_cancelling_kills_the_child(children: list[subprocess.Popen[bytes]]) -> None:
    cancel = CancelToken()
    raised: list[BaseException] = []

    def work() -> None:
        try:
            python("import time; time.sleep(6000)", cancel=cancel)
        except GenerationCancelled as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: bool(children))
    cancel.cancel()
    thread.join(PATIENCE)
    assert raised
    with pytest.raises(GenerationCancelled):
        python("", cancel=cancel)
    assert len(children) == 1  # the second was never started


def test_a_program_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed):
        list(output_of([str(tmp_path / "missing")], b"", LIMITS, seconds=1))


@pytest.mark.parametrize("script", ["exec sleep 6000", "exec sleep 6000 <&-", "head -c 1000 >&2; exec sleep 6000"])
def test_an_encoder_that_stops_reading_ends_the_stream_in_an_error(
    script: str, tmp_path: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    pipe = FfmpegPipe(str(program), 24_000, [], what="encoding", remedy="Use wav.", stalled_seconds=0.3)
    with pytest.raises(DeliveryError, match="ffmpeg failed while encoding"):
        pipe.write(np.zeros(2_400_000, np.float32))
    pipe.close()
    assert len(children) == 1


def test_an_encoder_that_never_ends_is_given_up(tmp_path: Path, children: list[subprocess.Popen[bytes]]) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nexec sleep 6000\n")
    program.chmod(0o755)
    pipe = FfmpegPipe(str(program), 24_000, [], what="encoding", remedy="Use wav.", stalled_seconds=0.3)
    pipe.write(np.zeros(100, np.float32))
    with pytest.raises(DeliveryError, match="ffmpeg failed"):
        pipe.finish()
    assert len(children) == 1


# -- Hostile clips ----------------------------------------------------------------------------------------------------


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def m4a_of_many_tracks(tracks: int, samples: int) -> bytes:
    """Each track claims so many samples of one size, which takes 20 bytes here and 24 a sample in an index."""

    def full(kind: bytes, *parts: bytes) -> bytes:
        return box(kind, bytes(4), *parts)

    def track(number: int) -> bytes:
        entry = box(b"sowt", bytes(6), struct.pack(">H", 1), bytes(8), struct.pack(">HHHHI", 1, 16, 0, 0, 24_000 << 16))
        table = box(
            b"stbl",
            full(b"stsd", struct.pack(">I", 1), entry),
            full(b"stts", struct.pack(">III", 1, samples, 2)),
            full(b"stsc", struct.pack(">IIII", 1, 1, samples, 1)),
            full(b"stsz", struct.pack(">II", 1, samples)),
            full(b"stco", struct.pack(">II", 1, 48)),
        )
        data = box(b"dinf", full(b"dref", struct.pack(">I", 1), box(b"url ", b"\0\0\0\1")))
        media = box(
            b"mdia",
            full(b"mdhd", struct.pack(">IIIIHH", 0, 0, 24_000, samples, 0, 0)),
            full(b"hdlr", bytes(4), b"soun", bytes(13)),
            box(b"minf", full(b"smhd", bytes(4)), data, table),
        )
        return box(b"trak", full(b"tkhd", struct.pack(">IIIII", 0, 0, number, 0, samples), bytes(60)), media)

    movie = full(b"mvhd", struct.pack(">IIII", 0, 0, 24_000, samples), bytes(80))
    moov = box(b"moov", movie, *(track(number + 1) for number in range(tracks)))
    return box(b"ftyp", b"M4A ", bytes(4), b"M4A mp42isom") + moov + box(b"mdat", b"\1\2" * 200)


@needs_ffmpeg
@only_linux
@pytest.mark.parametrize(("tracks", "samples"), [(25, 10_000_000), (68, 2_500_000)])
def test_a_small_file_of_many_tracks_takes_no_gigabytes(tracks: int, samples: int, tmp_path: Path) -> None:
    """In a process of its own, whose children are this clip's alone."""
    data = m4a_of_many_tracks(tracks, samples)
    assert len(data) < 30_000
    (tmp_path / "clip").write_bytes(data)
    code = f"""
import resource
from pathlib import Path
from higgs_core.audio import decode_audio
from higgs_core.errors import ReferenceAudioError
try:
    decode_audio(Path({str(tmp_path / "clip")!r}).read_bytes(), origin="clip")
except ReferenceAudioError as error:
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, error.message)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    kilobytes, _, message = done.stdout.strip().partition(" ")
    assert int(kilobytes) < 800_000
    assert message in (
        "clip looks like m4a audio but cannot be decoded.",
        "clip lasts 0.00 s; at least 0.3 s are needed.",
    )


def damaged_mp3(seed: int) -> bytes:
    draw = random.Random(seed)
    target = io.BytesIO()
    tone = (0.3 * np.sin(np.arange(24_000 * 8) / 20)).astype(np.float32)
    soundfile.write(target, tone, 24_000, format="MP3")
    data = bytearray(target.getvalue()[:62_000])
    for first in range(200, len(data) - 200, 97 * (seed + 1)):
        data[first + draw.randrange(60)] = draw.randrange(256)
    return bytes(data)


def test_a_damaged_mp3_writes_nothing_into_the_log(tmp_path: Path) -> None:
    paths = []
    for seed in range(2):
        paths.append(str(tmp_path / str(seed)))
        Path(paths[-1]).write_bytes(damaged_mp3(seed))
    code = """
import sys
from contextlib import suppress
from pathlib import Path
from higgs_core.audio import decode_audio
from higgs_core.errors import ReferenceAudioError
for path in sys.argv[1:]:
    with suppress(ReferenceAudioError):
        decode_audio(Path(path).read_bytes(), origin="clip")
"""
    done = subprocess.run([sys.executable, "-c", code, *paths], cwd=ROOT, check=True, capture_output=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_the_damaged_mp3_would_write_into_the_log_if_it_were_decoded_here(tmp_path: Path) -> None:
    (tmp_path / "clip").write_bytes(damaged_mp3(0))
    code = f"import soundfile; soundfile.read({str(tmp_path / 'clip')!r})"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert b"libmpg123" in done.stderr


@pytest.mark.parametrize("fmt", ["flac", "mp3", "opus"])
def test_what_is_compressed_is_decoded_in_a_child_without_ffmpeg(
    fmt: str, monkeypatch: pytest.MonkeyPatch, children: list[subprocess.Popen[bytes]]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    speech = soundfile.read(CLIP, dtype="float32")[0]
    decoded = decode_audio(encode_audio(speech, fmt), origin="clip")
    assert abs(len(decoded) - len(speech)) < 4_000
    assert len(children) == 1
    decode_audio(encode_audio(speech, "wav"), origin="clip")
    assert len(children) == 1


def test_a_child_that_was_taken_over_can_send_samples_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The child's program in place of libsndfile's: whatever it answers ends in a sentence."""
    from higgs_core.audio import sndfile_child

    flac = encode_audio(np.ones(24_000, np.float32) / 2, "flac")
    header = json.dumps(["FLAC", "PCM_16", 24_000, 1]).encode() + b"\n"
    answers = [
        b"",
        b"\n",
        b"[]\n",
        b"{}\n",
        b'["FLAC", "PCM_16", "x", 1]\n',
        b'["FLAC", "PCM_16", 24000]\n',
        b"[" * 900 + b"\n",
        b"x" * 10**6,
        json.dumps(["WAV", "PCM_16", 24_000, 1]).encode() + b"\n",
        json.dumps(["FLAC", "PCM_16", 10**9, 1]).encode() + b"\n",
        json.dumps(["FLAC", "PCM_16", 24_000, -1]).encode() + b"\n",
        header,
        header + b"abc",
        header + b"\xff" * 96_000,
        header + bytes(24_000 * 4 * 61),
    ]
    script = tmp_path / "reader.py"
    script.write_text(
        f"import sys\nsys.stdin.buffer.read()\nsys.stdout.buffer.write(open({str(tmp_path / 'answer')!r}, 'rb').read())"
    )
    monkeypatch.setattr(sndfile_child.sndfile_reader, "__file__", str(script))
    for answer in answers:
        (tmp_path / "answer").write_bytes(answer)
        with pytest.raises(ReferenceAudioError):
            decode_audio(flac, origin="clip")
    (tmp_path / "answer").write_bytes(header + np.ones(24_000, "<f4").tobytes())
    assert len(decode_audio(flac, origin="clip")) == 24_000


def test_a_child_writes_no_bytecode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Under the child's limit on files it would be cut off, for every later process to read."""
    packages = Path(soundfile.__file__).parent
    for module in ("soundfile.py", "_soundfile.py"):
        shutil.copy(packages / module, tmp_path)
    (tmp_path / "_soundfile_data").symlink_to(packages / "_soundfile_data")
    monkeypatch.syspath_prepend(str(tmp_path))
    flac = encode_audio(np.ones(24_000, np.float32) / 2, "flac")
    assert len(decode_audio(flac, origin="clip")) == 24_000
    assert sorted(file.name for file in tmp_path.iterdir()) == ["_soundfile.py", "_soundfile_data", "soundfile.py"]


def test_no_descriptor_is_left_behind() -> None:
    flac = encode_audio(np.ones(24_000, np.float32) / 2, "flac")
    decode_audio(flac, origin="clip")
    before = len(os.listdir("/dev/fd"))
    decode_audio(flac, origin="clip")
    with pytest.raises(ReferenceAudioError):
        decode_audio(flac[:60], origin="clip")
    assert len(os.listdir("/dev/fd")) == before
