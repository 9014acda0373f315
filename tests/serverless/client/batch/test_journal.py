"""The journal and the folder: what a run leaves behind at any moment, and what the next one makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from serverless.client.batch.folder import BatchFolder
from serverless.client.batch.journal import Journal
from serverless.client.batch.manifest import BatchJob, batch_job
from serverless.client.errors import ClientError

JOB = batch_job({"input": {"script": "Hi."}}, "hi.wav", "Hi.", "m.jsonl:1")


def opened(path: Path) -> BatchFolder:
    return BatchFolder(path, lambda line: None)


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
        state = Journal(path).state
        seen.add((bool(state.doubtful), bool(state.submitted), bool(state.done)))
        assert whole.startswith(path.read_bytes())
        assert path.read_bytes()[-1:] in (b"", b"\n")
    assert seen == {(False, False, False), (True, False, False), (False, True, False), (False, False, True)}


@pytest.mark.parametrize(
    "line", [b"{}", b"5", b"[]", b"\xff", b'{"event": "x", "key": "a"}', b'{"event": "done", "key": "a"}']
)
def test_a_journal_that_is_damaged_in_the_middle_is_refused(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(line + b'\n{"event": "sending", "key": "a"}\n')
    with pytest.raises(ClientError, match="damaged in line 1"):
        Journal(path)


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
