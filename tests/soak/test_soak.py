"""A minute of the soak; `make soak` runs ten of them."""

from __future__ import annotations

from pathlib import Path

from tests.soak.report import faults, text
from tests.soak.run import soak

SECONDS = 60.0


def test_a_minute_of_mixed_traffic_loses_and_keeps_nothing(tmp_path: Path) -> None:
    soaked = soak(SECONDS, tmp_path)
    assert [fault for each in soaked for fault in faults(each)] == [], text(soaked)
    for each in soaked:
        assert each.ledger.repeated > 0
        for kind in ("valid", "clip", "stream", "invalid", "hostile", "cancelled"):
            assert each.ledger.sent[kind] > 0
        assert each.ledger.codes["left"] > 0
        assert "Traceback" not in (tmp_path / f"{each.door}.log").read_text()
