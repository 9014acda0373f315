"""What a benchmark writes: the JSON file, the tables, the facts about the machine."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from benchmarks.environment import card, card_under_load, software
from benchmarks.report import Report
from benchmarks.stage_list import STAGES, chosen
from benchmarks.summary import summary


def test_an_unfinished_report_holds_what_was_added(tmp_path: Path) -> None:
    report = Report(tmp_path / "deep" / "figures.json", {"torch": "2"})
    report.add("speed", batch=1, ms=2.5)
    report.add("speed", batch=8, ms=1234.56)
    report.add("memory", gigabytes=1.0)
    assert [row["batch"] for row in json.loads((tmp_path / "deep" / "figures.json").read_text())["rows"][:2]] == [1, 8]
    table = report.table().splitlines()
    assert table[0].split() == ["heading", "batch", "ms"]
    assert table[3].split() == ["speed", "8", "1234.6"]


def test_the_file_reads_back_as_it_was_and_has_no_number_that_json_lacks(tmp_path: Path) -> None:
    report = Report(None, {"torch": "2"})
    report.add("speed", ms=0.1 + 0.2, name="ä | b", absent=math.nan, endless=math.inf, passed=True, card={"w": "7"})
    report.path = tmp_path / "named later.json"
    found = json.loads(report.path.read_text(), parse_constant=pytest.fail)
    assert found == {"about": report.about, "rows": report.rows}
    assert found["rows"][0]["ms"] == 0.1 + 0.2
    assert found["rows"][0]["absent"] is None
    assert summary(found["about"], found["rows"]) == summary(report.about, report.rows)


def test_the_summary_has_a_column_a_batch_and_names_what_did_not_run() -> None:
    rows = [
        {"heading": "environment", "card": "A card", "nvidia_smi": {"driver_version": "580.1", "power_limit": "700"}},
        *(
            {
                "heading": "steps",
                "batch": batch,
                "ms_per_step": 2.0 * batch,
                "bare_ms": 1.5,
                "share_of_bandwidth": 0.75,
                "audio_seconds_per_second": 20.0,
            }
            for batch in (8, 1)
        ),
        {"heading": "beside transformers", "batch": 8, "transformers_ms": 30.0},
        {"heading": "failed", "stage": "profile", "reason": "its process ended with status 3", "log": ""},
    ]
    lines = summary({"torch": "2.11", "commit": "abc", "date": "2026-11-22T00:00:00"}, rows).splitlines()
    assert lines[0] == "A card, driver 580.1, 700 W, torch 2.11, commit abc, 2026-11-22."
    assert "| batch | 1 | 8 |" in lines
    assert "| decode step, ms | 2 | 16 |" in lines
    assert "| `transformers`' `generate`, ms a step |  | 30 |" in lines
    assert "| share of the copy bandwidth | 75% | 75% |" in lines
    assert "- failed: profile: its process ended with status 3" in lines


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that prints "value" for each field, and fails for a card that it does not know."""
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\n[ "$4" = 0 ] || exit 6\necho "$1" | sed \'s/.*=//; s/[^,]*/value/g; s/,/, /g\'\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return program


def test_the_card_is_described_where_nvidia_smi_is_there(nvidia_smi: Path) -> None:
    assert card().keys() >= {"name", "driver_version", "power_limit", "clocks_max_sm"}
    assert card_under_load().keys() >= {"clocks_sm", "power_draw"}
    assert card("GPU-of another machine") == {}
    nvidia_smi.unlink()
    assert "value" not in card().values()


def test_the_software_is_named_with_its_versions() -> None:
    assert software().keys() >= {"date", "commit", "device", "cores", "python", "torch", "torchaudio", "transformers"}


def test_stages_are_chosen_by_name_and_by_group() -> None:
    assert chosen("") == list(STAGES)
    assert [stage.name for stage in chosen("checks, steps")] == [
        "compile",
        "golden",
        "kernels",
        "graph",
        "precision",
        "steps",
    ]
    with pytest.raises(ValueError, match="no stage nothing; there are"):
        chosen("nothing,steps")
