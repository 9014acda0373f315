"""The queue's worker against a platform on loopback."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.helpers.fake_platform import FakePlatform, Record
from tests.helpers.patience import PATIENCE, wait_until
from tests.helpers.processes import ModuleProcess
from tests.soak.answers import GONE, Answer, of_items
from tests.soak.door import ENVIRONMENT, WatchedDoor
from tests.soak.planned import FINISHED, Planned


class QueueDoor(WatchedDoor):
    """A worker whose handler streams: a job that asks for no stream has one item."""

    name = "queue"

    def __init__(self, platform: FakePlatform, log: Path, **environment: str) -> None:
        around = {**platform.environment(), **ENVIRONMENT, "HIGGS_AUDIO_STREAMING": "1", **environment}
        super().__init__(ModuleProcess("serverless.runpod_worker", log, **around), log)
        self._platform = platform
        self._records: list[tuple[Planned, Record]] = []
        self._reading = threading.Lock()

    def wait_until_ready(self) -> None:
        def polls() -> bool:
            self.process.assert_runs()
            return self._platform.open_polls > 0

        wait_until(polls)

    def wait_until_idle(self) -> None:
        """Until a ping names no job."""
        seen = len(self._platform.pings)
        wait_until(lambda: any(not ping.get("job_id") for ping in self._platform.pings[seen:]))

    def end(self) -> int:
        """The open poll may bring one more job, which is answered before the process ends."""
        self.process.sigterm()
        last = Planned("job of the last poll", "valid", {"script": "One more.", "max_new_tokens": 20})
        record = self._platform.submit(last.job_input, name="soak")
        status = self.process.wait_for_exit()
        if record.taken:
            self.ledger.send(last)
            if record.results:
                self.ledger.settle(last, self._read(last, record))
            else:
                self.ledger.lose(last)
        return status

    def reconcile(self) -> None:
        self.lines.update()
        for planned, record in self._records:
            job_id, results = record.job["id"], len(record.results)
            if results > record.taken:
                self.ledger.double(f"{planned.shape}: {results} results of {record.taken} deliveries")
            if self.lines.lines[job_id] > record.taken:
                self.ledger.double(f"{planned.shape}: {self.lines.lines[job_id]} lines in the log")
        self._records.clear()

    def _answer(self, planned: Planned) -> Answer | None:
        record = self._platform.submit(planned.job_input, name="soak")
        self._records.append((planned, record))
        if planned.kind == "duplicate":
            self._platform.deliver_again(record)
            wait_until(lambda: record.taken == 2 and record.ended.is_set())
        elif planned.leaving is not None and not record.ended.wait(planned.leaving.seconds):
            self._platform.cancel(record)
            wait_until(lambda: record.ended.is_set() or self._has_line(record))
        elif not record.ended.wait(PATIENCE):
            return None
        try:
            return self._read(planned, record) if record.results else GONE
        finally:
            for post in record.posts:  # only their number matters from now on
                post.body = {}

    def _read(self, planned: Planned, record: Record) -> Answer:
        body = record.results[0].body
        if "error" in body:
            assert isinstance(body["error"], str)
            self._has_line(record)
            return Answer(self.lines.codes.get(record.job["id"], "error without a line in the log"))
        items = body["output"]
        if planned.kind != "duplicate" and planned.leaving is None:
            streamed = [post.body["output"] for post in record.of("stream")]
            assert streamed == items, "the result is not the stream's items"
        answer = of_items(items)
        assert answer.code == FINISHED
        return answer

    def _has_line(self, record: Record) -> bool:
        with self._reading:
            self.lines.update()
        return self.lines.lines[record.job["id"]] > 0
