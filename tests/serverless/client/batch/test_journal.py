"""The journal and the folder: what a run leaves behind at any moment, and what the next one makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from serverless.client.batch.folder import BatchFolder
from serverless.client.batch.journal import Journal, JournalState
from serverless.client.batch.manifest import BatchJob, batch_job
from serverless.client.errors import ClientError, StorageError

JOB = batch_job({"input": {"script": "Hi."}}, "hi.wav", "Hi.", "m.jsonl:1")


def opened(path: Path) -> BatchFolder:
    return BatchFolder(path, lambda line: None)


def state_at(path: Path) -> JournalState:
    journal = Journal(path)
    journal.close()
    return journal.state


def speak(folder: BatchFolder, job: BatchJob, audio: bytes) -> None:
    part = folder.part()
    part.write(audio)
    folder.keep(part, job, {"audio_format": "opus"})


def test_every_prefix_of_a_journal_can_be_read(tmp_path: Path) -> None:
    """Whatever byte a killed run has come to."""
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append("sending", "a")
    journal.append("sent", "a", job="j1", target="t")
    journal.append("done", "a", file="a.wav", part="p", facts={})
    journal.close()
    whole = path.read_bytes()
    seen = set()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        state = state_at(path)
        seen.add((bool(state.doubtful), bool(state.submitted), bool(state.done)))
        assert state_at(path) == state  # what the first look has mended says the same
    assert seen == {(False, False, False), (True, False, False), (False, True, False), (False, False, True)}


@pytest.mark.parametrize("mended", [True, False], ids=["behind a resume", "behind a run that went on"])
def test_a_record_that_was_cut_short_harms_no_other(tmp_path: Path, mended: bool) -> None:
    """At every byte, its newline among them, with records behind it: of another process, or of the next run."""
    path = tmp_path / "journal.jsonl"
    before = b'{"event": "sent", "key": "a", "job": "j1", "target": "t"}\n'
    cut = b'{"event": "done", "key": "b", "file": "b.wav", "part": "p", "facts": {"usage": {"total_tokens": 5}}}\n'
    behind = b'{"event": "done", "key": "c", "file": "c.wav", "part": "q", "facts": {}}\n'
    for length in range(len(cut) + 1):
        path.write_bytes(before + cut[:length])
        if mended:
            state_at(path)
        with path.open("ab") as file:
            file.write(behind)
        state = state_at(path)
        assert set(state.submitted) == {"a"}
        assert set(state.done) == ({"b.wav", "c.wav"} if length >= len(cut) - 1 else {"c.wav"})


def test_what_a_power_cut_made_of_a_record_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"event": "sent", "key": "a", "job": "j", "target": "t"}\n{"event": "do' + bytes(3000))
    for _ in range(2):
        assert set(state_at(path).submitted) == {"a"}
        with path.open("ab") as file:
            file.write(bytes(500))


def test_the_space_of_a_record_is_taken_by_the_next_one_of_its_key(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append("sending", "a", room=200)
    journal.append("sending", "b", room=10)
    size = path.stat().st_size
    journal.append("sent", "a", job="j1", target="t")
    assert path.stat().st_size == size
    assert set(state_at(path).submitted) == {"a"}
    journal.append("sent", "b", job="j2", target="t")  # larger than its space
    journal.append("ended", "a")
    assert path.stat().st_size > size
    state = state_at(path)
    assert (set(state.submitted), state.doubtful) == ({"b"}, set())
    assert state == journal.state


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"5",
        b"[]",
        b"\xff",
        b"hello",
        b'{"event": "x", "key": "a"}',
        b'{"event": "done", "key": "a"}',
        b'{"event": "ended", "key": []}',
    ],
)
def test_a_journal_that_is_damaged_in_the_middle_is_refused(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(line + b'\n{"event": "sending", "key": "a"}\n')
    with pytest.raises(ClientError, match="damaged in line 1"):
        Journal(path)
    assert path.read_bytes().startswith(line + b"\n{")


def test_a_result_that_was_not_renamed_yet_is_renamed_by_the_next_run(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        speak(folder, JOB, b"audio")
        name = folder.journal.state.done["hi.wav"]["part"]
    (tmp_path / "hi.wav").rename(tmp_path / ".batch/parts" / name)  # as before the rename
    (tmp_path / ".batch/parts/0123").write_bytes(b"half of another")
    with opened(tmp_path) as folder:
        assert folder.is_done(JOB)
        assert (tmp_path / "hi.wav").read_bytes() == b"audio"
        assert list((tmp_path / ".batch/parts").iterdir()) == []


def test_audio_that_cannot_get_its_name_is_kept_for_the_next_run(tmp_path: Path) -> None:
    """The journal says that it is done, so its part must not go."""
    changed = batch_job({"input": {"script": "Hello."}}, "hi.wav", "Hello.", "m.jsonl:1")
    with opened(tmp_path) as folder:
        speak(folder, JOB, b"first")
        (tmp_path / "hi.wav").unlink()
        (tmp_path / "hi.wav").mkdir()
        part = folder.part()
        part.write(b"second")
        with pytest.raises(StorageError, match=r"hi\.wav cannot be written: Is a directory"):
            folder.keep(part, changed, {})
        part.discard()
    with pytest.raises(StorageError, match=r"hi\.wav cannot be written: Is a directory"), opened(tmp_path):
        pass
    (tmp_path / "hi.wav").rmdir()
    with opened(tmp_path) as folder:
        assert folder.is_done(changed)
        assert (tmp_path / "hi.wav").read_bytes() == b"second"


def test_a_changed_job_of_the_same_file_replaces_it_and_the_old_one_counts_no_more(tmp_path: Path) -> None:
    changed = batch_job({"input": {"script": "Hello."}}, "hi.wav", "Hello.", "m.jsonl:1")
    with opened(tmp_path) as folder:
        speak(folder, JOB, b"first")
        assert (folder.is_done(JOB), folder.is_done(changed)) == (True, False)
        folder.refuse_foreign([changed])
        speak(folder, changed, b"second")
    with opened(tmp_path) as folder:
        assert (folder.is_done(JOB), folder.is_done(changed)) == (False, True)
    assert (tmp_path / "hi.wav").read_bytes() == b"second"


def test_a_result_that_was_removed_is_made_again_and_a_foreign_file_is_left(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        speak(folder, JOB, b"audio")
        (tmp_path / "hi.wav").unlink()
        assert not folder.is_done(JOB)
    other = tmp_path / "other"
    other.mkdir()
    (other / "hi.wav").write_bytes(b"mine")
    with opened(other) as folder, pytest.raises(ClientError, match="is there already"):
        folder.refuse_foreign([JOB])
    assert (other / "hi.wav").read_bytes() == b"mine"


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ClientError, match="cannot be written"), opened(tmp_path / "file"):
        pass
