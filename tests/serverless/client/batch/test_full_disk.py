"""A disk that fills up under a batch: a process of its own may make its files only so large, for a while."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.batches import batch, finished, manifest
from tests.helpers.paths import ROOT
from tests.helpers.patience import PATIENCE
from tests.helpers.queue_endpoint import QueueEndpoint, audio_of

SHORT_OF_SPACE = """
import json, resource, sys
from pathlib import Path
from serverless.client.batch.folder import BatchFolder
from serverless.client.batch.journal import Journal
from serverless.client.batch.manifest import batch_job
from serverless.client.errors import StorageError

old, new, other = (
    batch_job({"input": {"script": text}}, file, text, "")
    for text, file in (("old", "x.wav"), ("new", "x.wav"), ("other", "y.wav"))
)


def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def speak(folder, job):
    part = folder.part()
    try:
        part.write(job.title.encode())
        folder.keep(part, job, {"audio_format": "opus", "seed": 5})
    finally:
        part.discard()


def attempt(step):
    try:
        step()
        return True
    except StorageError:
        return False


failures = set()
for free in range(0, 900, 17):
    path = Path(sys.argv[1]) / str(free)
    with BatchFolder(path, print) as folder:
        submitter = Journal(folder.journal_path)
        submitter.append("sending", new.key, room=300)
        submitter.append("sent", new.key, job="j", target="t")
        submitter.append("ended", new.key)
        speak(folder, old)
        limit(folder.journal_path.stat().st_size + free)
        sending = attempt(lambda: submitter.append("sending", other.key, room=300))
        kept = attempt(lambda: speak(folder, new))
        sent = sending and attempt(lambda: submitter.append("sent", other.key, job="j2", target="t"))
        limit(resource.RLIM_INFINITY)
        submitter.append("sending", "last", room=300)  # what is in flight goes on, and there is space again
        submitter.append("sent", "last", job="j3", target="t")
        submitter.close()
    for _ in range(2):
        with BatchFolder(path, print) as folder:
            state = folder.journal.state
            assert sent == sending, "an id was lost"
            assert sent == (other.key in state.submitted)
            assert "last" in state.submitted
            spoken = (path / "x.wav").read_bytes()
            assert spoken == (b"new" if folder.is_done(new) else b"old"), spoken
            assert folder.is_done(new) or not kept
            assert list((path / ".batch/parts").iterdir()) == []
    failures.add((sending, kept))
assert failures == {(False, False), (True, False), (True, True)}, failures
"""


def test_a_record_that_does_not_fit_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    """The journal may grow by so many bytes, for many such numbers; then there is space again."""
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_SPACE, str(tmp_path)],
        cwd=ROOT,
        timeout=PATIENCE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("largest", [60, 2500])
def test_a_batch_on_a_full_disk_stops_and_the_next_run_goes_on(tmp_path: Path, largest: int) -> None:
    """60 bytes: no audio fits. 2500: the journal is full after some jobs."""
    source, texts = manifest(tmp_path, 8)
    output, endpoint = tmp_path / "out", QueueEndpoint(polls=0)
    with endpoint.running() as api:
        with batch(api, source, output, "--jobs", "2", largest_file=largest) as process:
            status, out, err = finished(process)
        assert (status, err.count("Traceback")) == (1, 0)
        assert "8 jobs done, 0 failed, " in out
        assert "The same command goes on where this run ended." in out
        assert f"{output}/" in err.splitlines()[-1]
        # The second where a part of the record still fitted.
        assert err.endswith(("cannot be written: File too large.\n", "cannot be written: No space left on device.\n"))
        with batch(api, source, output) as process:
            status, out, err = finished(process)
    assert status == 0, err
    assert dict(endpoint.submissions) == dict.fromkeys(texts.values(), 1)
    assert {path.name: path.read_bytes() for path in output.glob("*.wav")} == {
        name: audio_of(text) for name, text in texts.items()
    }
    assert json.loads((output / "report.json").read_text())["done"] == 8


def test_a_report_that_cannot_be_written_is_still_shown(tmp_path: Path) -> None:
    source, _ = manifest(tmp_path, 5)
    output, endpoint = tmp_path / "out", QueueEndpoint(polls=0)
    with endpoint.running() as api:
        with batch(api, source, output) as process:
            assert finished(process)[0] == 0
        (output / "report.json").write_text("old")
        with batch(api, source, output, largest_file=500) as process:
            status, out, err = finished(process)
    assert (status, err) == (1, f"{output / 'report.json'} cannot be written: File too large.\n")
    assert "5 of 5 jobs done (5 by earlier runs)" in out
    assert (output / "report.json").read_text() == "old"
    assert list((output / ".batch/parts").iterdir()) == []
