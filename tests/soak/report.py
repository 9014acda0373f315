"""A soak in figures: a record in JSON and a few lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from tests.soak.flatness import Flatness, flatness
from tests.soak.ledger import Ledger
from tests.soak.run import Soaked
from tests.soak.watch import Sample

MOST_DIFFERING = 0.005
"""Share of the repeated requests. What shares a step may change the last bit of a sum, and seldom a token with it."""

_CURVE_ROWS = 12
_CURVE_WIDTH = 50


def faults(soaked: Soaked) -> list[str]:
    """Why this door did not pass; empty when it did."""
    ledger = soaked.ledger
    found = list(ledger.problems)
    if ledger.differing > max(1, MOST_DIFFERING * ledger.repeated):
        found.append(f"{soaked.door}: {ledger.differing} of {ledger.repeated} repeated requests had another answer")
    if ledger.sent.total() != ledger.settled:
        found.append(f"{soaked.door}: {ledger.sent.total()} jobs were sent and {ledger.settled} ended")
    if soaked.exit_status != 0:
        found.append(f"{soaked.door}: the process ended with {soaked.exit_status}")
    return found + [f"{soaked.door}: {fault}" for fault in flatness(soaked.rests).faults]


def record(soaked: Sequence[Soaked], **about: object) -> dict[str, Any]:
    """Everything that was measured, for a file."""
    return {**about, "doors": {each.door: _of_door(each) for each in soaked}}


def _of_door(soaked: Soaked) -> dict[str, Any]:
    return {
        **soaked.ledger.summary(),
        "flatness": asdict(flatness(soaked.rests)),
        "faults": faults(soaked),
        "exit_status": soaked.exit_status,
        "rests": [asdict(rest) for rest in soaked.rests],
        "samples": [asdict(sample) for sample in soaked.samples],
    }


def text(soaked: Sequence[Soaked]) -> str:
    """Tables and curves for a terminal."""
    return "\n".join(line for each in soaked for line in (*_lines(each), ""))


def _lines(soaked: Soaked) -> Iterator[str]:
    ledger, found, first, last = soaked.ledger, flatness(soaked.rests), soaked.rests[0], soaked.rests[-1]
    yield f"{soaked.door}: {_jobs(ledger)}"
    yield f"  ended as {_counted(ledger.codes)}"
    yield f"  lost {ledger.lost}, doubled {ledger.doubled}, wrong {ledger.wrong}, " + (
        f"{ledger.differing} of {ledger.repeated} repeated requests answered otherwise"
    )
    yield f"  memory {_slope(found)}; at rest {first.anonymous:.0f} MB allocated before and {last.anonymous:.0f} after"
    for name in ("files", "threads", "children"):
        seen = [getattr(rest, name) for rest in soaked.rests]
        peak = max((getattr(sample, name) for sample in soaked.samples), default=max(seen))
        yield f"  {name}: {seen[0]} before, {seen[-1]} after, {peak} at the most"
    yield from _curve(soaked.rests)
    for fault in faults(soaked):
        yield f"  FAULT {fault}"


def _jobs(ledger: Ledger) -> str:
    return f"{ledger.settled} jobs: {_counted(ledger.sent)}"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


def _slope(found: Flatness) -> str:
    return f"{found.mb_per_1000_jobs:+.1f} MB in 1000 jobs after the warm-up, {found.mb:+.1f} MB in all of them"


def _curve(rests: Sequence[Sample]) -> Iterator[str]:
    """Memory at rest over jobs, a row for every so many rests, each bar from 0."""
    most = max(rest.resident for rest in rests)
    step = max(1, -(-len(rests) // _CURVE_ROWS))
    shown = [*rests[:-1:step], rests[-1]]
    for rest in shown:
        bar = "#" * round(rest.anonymous / most * _CURVE_WIDTH)
        files = "-" * (round(rest.resident / most * _CURVE_WIDTH) - len(bar))
        yield f"  {rest.jobs:6} jobs {rest.seconds:5.0f} s {rest.resident:6.0f} MB {bar}{files}"
    yield "  # allocated, - pages of files"
