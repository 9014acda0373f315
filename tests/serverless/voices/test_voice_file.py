"""A voice as a file: all of it comes back, and nothing in a file is trusted."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from higgs_core.checkpoint.identity import folder_digest
from higgs_core.speech.voices import VoiceDesign
from serverless.config.settings import Settings
from serverless.voices.folder import VoiceFolder
from serverless.voices.store import VoiceStore
from serverless.voices.voice_file import (
    FORMAT,
    MAX_FILE_BYTES,
    MAX_SECONDS,
    NotAVoiceFile,
    VoiceRecord,
    from_bytes,
    to_bytes,
)

CODES = np.arange(8 * 30, dtype=np.int16).reshape(8, 30)
AUDIO = np.arange(-500, 500, dtype=np.int16)
RECORD = VoiceRecord("anna", "uploaded", "Größe, 世界.", CODES, AUDIO, "m", "c", 1_700_000_000, consent="yes")
FACTS = {"format": FORMAT, "name": "anna", "source": "saved", "transcript": "Words.", "created_at": "1"}
TENSORS = {"codes": CODES, "audio": AUDIO}


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        replace(RECORD, source="designed", description="calm", seed=(1 << 63) - 1, consent=None),
        replace(RECORD, source="designed", description="calm", seed=0, codes=None, audio=None),
    ],
)
def test_all_of_a_record_comes_back(record: VoiceRecord) -> None:
    found = from_bytes(to_bytes(record))
    for name in ("codes", "audio"):
        written, read = getattr(record, name), getattr(found, name)
        assert (written is None) == (read is None)
        assert written is None or (read.dtype == np.int16 and np.array_equal(read, written))
    assert replace(found, codes=None, audio=None).__dict__ == replace(record, codes=None, audio=None).__dict__


def test_the_design_of_a_record_is_what_it_was_made_of() -> None:
    assert RECORD.design is None
    assert replace(RECORD, description="calm", seed=3).design == VoiceDesign("calm", 3)


def test_the_longest_voice_fits_a_file() -> None:
    codes, audio = np.zeros((8, MAX_SECONDS * 25), np.int16), np.zeros(MAX_SECONDS * 24_000, np.int16)
    record = replace(RECORD, codes=codes, audio=audio, transcript="世" * 5000, consent="世" * 1000)
    data = to_bytes(record)
    assert len(data) <= MAX_FILE_BYTES
    assert from_bytes(data).transcript == record.transcript


def header(raw: bytes) -> bytes:
    return len(raw).to_bytes(8, "little") + raw


WHOLE = save(TENSORS, FACTS)
HOSTILE = {
    "nothing": b"",
    "a few bytes": b"abc",
    "a header without end": (1 << 62).to_bytes(8, "little") + b"{}",
    "a header of nothing": header(b""),
    "a header that is no JSON": header(b"{"),
    "a header that is nested": header(b"[" * 90_000),
    "a header that is a list": header(b"[1, 2]"),
    "no facts": save(TENSORS),
    "facts of another kind": header(json.dumps({"__metadata__": [1]}).encode()),
    "another format": save(TENSORS, {**FACTS, "format": "higgs-audio-voice-0"}),
    "cut short": WHOLE[:-1],
    "cut in the header": WHOLE[:50],
    "more than there is": WHOLE + b"x",
    "offsets outside": header(
        json.dumps(
            {"__metadata__": FACTS, "codes": {"dtype": "I16", "shape": [8, 9], "data_offsets": [0, 1 << 40]}}
        ).encode()
    ),
    "another dtype": save({**TENSORS, "codes": CODES.astype(np.int64)}, FACTS),
    "floats": save({**TENSORS, "audio": AUDIO.astype(np.float32)}, FACTS),
    "another shape": save({**TENSORS, "codes": CODES.reshape(-1)}, FACTS),
    "seven codebooks": save({**TENSORS, "codes": CODES[:7]}, FACTS),
    "no frames": save({**TENSORS, "codes": CODES[:, :0]}, FACTS),
    "a stream token": save({**TENSORS, "codes": CODES + 1000}, FACTS),
    "a negative code": save({**TENSORS, "codes": CODES - 1}, FACTS),
    "too long": save({**TENSORS, "codes": np.zeros((8, 301 * 25), np.int16)}, FACTS),
    "no audio": save({"codes": CODES}, FACTS),
    "no codes": save({"audio": AUDIO}, FACTS),
    "a saved voice that is only described": save({}, {**FACTS, "description": "Calm.", "seed": "1"}),
    "an uploaded voice without its audio": save(
        {"codes": CODES}, {**FACTS, "source": "uploaded", "description": "Calm.", "seed": "1"}
    ),
    "no name": save(TENSORS, {**FACTS, "name": ""}),
    "a path for a name": save(TENSORS, {**FACTS, "name": "../anna"}),
    "an unknown source": save(TENSORS, {**FACTS, "source": "stolen"}),
    "no words": save(TENSORS, {**FACTS, "transcript": " "}),
    "too many words": save(TENSORS, {**FACTS, "transcript": "a" * 5001}),
    "a seed that is none": save(TENSORS, {**FACTS, "seed": "²"}),
    "a seed that is too large": save(TENSORS, {**FACTS, "seed": str(1 << 63)}),
    "a time that is none": save(TENSORS, {**FACTS, "created_at": "-1"}),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_voice_is_refused(data: bytes) -> None:
    with pytest.raises(NotAVoiceFile) as problem:
        from_bytes(data)
    assert "\n" not in str(problem.value)


def test_the_plain_file_is_a_voice() -> None:
    assert from_bytes(WHOLE).name == "anna"


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (tmp_path / "anna.safetensors").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "bob.safetensors").symlink_to("/etc/passwd")
    with caplog.at_level(logging.WARNING):
        assert not VoiceFolder(tmp_path, Settings()).read(strict=True).records
    assert [record.getMessage() for record in caplog.records] == [
        f"The file of the voice anna is left alone: it has more than {MAX_FILE_BYTES} bytes.",
        "The file of the voice bob is left alone: it lies outside the allowed folders.",
    ]


def test_only_what_has_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = VoiceStore(tmp_path)
    for name in ("anna", "bob"):
        assert store.write(replace(RECORD, name=name), replace=False)
    read: list[Any] = []
    monkeypatch.setattr(
        "serverless.voices.folder.read_inside", lambda path, *rest: read.append(path.name) or path.read_bytes()
    )
    folder = VoiceFolder(tmp_path, Settings())
    first = folder.read()
    assert folder.read() is first
    assert read == ["anna.safetensors", "bob.safetensors"]
    store.write(replace(RECORD, name="bob", transcript="Other."), replace=True)
    second = folder.read()
    assert second.records["anna"] is first.records["anna"]
    assert second.records["bob"].transcript == "Other."
    assert read[2:] == ["bob.safetensors"]
    assert second.records["bob"].audio is None  # that stays on disk


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = VoiceStore(tmp_path)
    store.write(RECORD, replace=False)
    before = (tmp_path / "anna.safetensors").read_bytes()
    with pytest.raises(FileExistsError):
        store.write(replace(RECORD, transcript="Other."), replace=False)

    def gone(*_: Any) -> None:
        raise OSError(5, "the volume is gone")

    for call in ("os.fsync", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(call, gone)
            assert not store.write(replace(RECORD, transcript="Other."), replace=True)
    assert [file.name for file in tmp_path.iterdir()] == ["anna.safetensors"]
    assert (tmp_path / "anna.safetensors").read_bytes() == before


def test_a_file_system_without_hard_links_serves_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(1, "not permitted")

    monkeypatch.setattr("os.link", unsupported)
    store = VoiceStore(tmp_path)
    assert store.write(RECORD, replace=False)
    with pytest.raises(FileExistsError):
        store.write(RECORD, replace=False)
    assert from_bytes((tmp_path / "anna.safetensors").read_bytes()).name == "anna"


def test_what_a_killed_worker_left_is_tidied_once_it_is_old(tmp_path: Path) -> None:
    scrap, other = tmp_path / ".voice-abc.tmp", tmp_path / "notes.tmp"
    for file in (scrap, other):
        file.write_bytes(b"half")
    written = scrap.stat().st_mtime
    VoiceStore(tmp_path).tidy(written + 60)
    assert scrap.exists()
    VoiceStore(tmp_path).tidy(written + 4000)
    assert not scrap.exists()
    assert other.exists()


def test_checkpoints_that_differ_have_other_digests(tmp_path: Path) -> None:
    def written(name: str, config: str, weights: np.ndarray[Any, Any]) -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(config)
        (folder / "model.safetensors").write_bytes(save({"w": weights}))
        (folder / "README.md").write_text(name)
        return folder_digest(folder)

    weights = np.random.default_rng(0).normal(size=1_000_000)
    one = written("one", "{}", weights)
    assert len(one) == 32
    assert written("same", "{}", weights) == one
    assert written("config", "{ }", weights) != one
    assert written("trained", "{}", weights * 1.01) != one
    assert written("longer", "{}", np.append(weights, 0)) != one
    assert folder_digest(None) == ""
