"""How fast the messages of a live session are read."""

from __future__ import annotations

import pytest

from serverless.http.live.pace import Pace


def test_a_burst_is_read_at_once_and_more_at_the_rate() -> None:
    now = 5.0
    pace = Pace(10, 3, lambda: now)
    assert [pace.next() for _ in range(5)] == [0, 0, 0, pytest.approx(0.1), pytest.approx(0.2)]
    now = 5.2
    assert pace.next() == pytest.approx(0.1)
    now = 1000.0
    assert [pace.next() for _ in range(4)] == [0, 0, 0, pytest.approx(0.1)], "time without a message saves no more"
