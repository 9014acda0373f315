"""Seconds by stage."""

from __future__ import annotations

import os
import time

import pytest

from higgs_core.stage_times import StageTimes, process_age


def test_each_stage_has_its_seconds_in_the_order_of_the_stages() -> None:
    now = iter([0.0, 1.5, 2.0, 2.25, 10.0, 11.0])
    times = StageTimes(clock=lambda: next(now))
    times.add("entry_point", 0.5)
    with times.stage("imports"):
        pass
    with pytest.raises(ValueError, match="damaged"), times.stage("weights"):
        raise ValueError("damaged")
    with times.stage("imports"):
        pass
    assert times.line() == "entry_point=0.50 imports=2.50 weights=0.25 total=3.25"


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="there is no /proc here")
def test_the_age_of_this_process_is_that_of_its_clock() -> None:
    """The CPU time that it has used cannot be more than its age by its number of cores."""
    age = process_age()
    assert age is not None
    assert age * (os.cpu_count() or 1) >= time.process_time() - 1
