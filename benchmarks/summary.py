"""The figures of a run as Markdown tables for docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.report import Row, shown_value

_Cell = Callable[[Row], str]


def summary(about: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """What was measured. Parts without figures are left out, and stages that did not run are named with the reason."""
    parts = [_heading(about, rows), _steps(rows), _traffic(rows), _single_figures(rows), _not_run(rows)]
    return "\n\n".join(part for part in parts if part)


def _heading(about: Mapping[str, Any], rows: Sequence[Row]) -> str:
    machine = next(_under(rows, "environment"), {})
    told = machine.get("nvidia_smi")
    driver = f", driver {told['driver_version']}, {told['power_limit']} W" if isinstance(told, dict) else ""
    versions = ", ".join(f"{name} {about[name]}" for name in ("torch", "triton", "transformers") if name in about)
    date = str(about.get("date", ""))[:10]
    return f"{machine.get('card', 'unknown card')}{driver}, {versions}, commit {about.get('commit')}, {date}."


def _steps(rows: Sequence[Row]) -> str:
    """A column a batch size."""
    lines: list[tuple[str, dict[int, str]]] = [
        ("decode step, ms", _by_batch(_under(rows, "steps"), "batch", _number("ms_per_step"))),
        ("of it on the device, ms", _by_batch(_under(rows, "steps"), "batch", _number("bare_ms"))),
        (
            "share of the copy bandwidth",
            _by_batch(_under(rows, "steps"), "batch", lambda row: f"{row['share_of_bandwidth']:.0%}"),
        ),
        (
            "audio seconds a second, decode alone",
            _by_batch(_under(rows, "steps"), "batch", _number("audio_seconds_per_second")),
        ),
        (
            "`transformers`' `generate`, ms a step",
            _by_batch(_under(rows, "beside transformers"), "batch", _number("transformers_ms")),
        ),
    ]
    for kind in dict.fromkeys(row["kind"] for row in _under(rows, "8-bit weights")):
        of_kind = [row for row in _under(rows, "8-bit weights") if row["kind"] == kind]
        lines.append((f"{kind} weights, ms a step on the device", _by_batch(of_kind, "batch", _number("bare_ms"))))
    return _table("batch", lines)


def _traffic(rows: Sequence[Row]) -> str:
    """A column a number of streams."""
    traffic = list(_under(rows, "traffic"))
    lines = [
        ("audio seconds a second", _by_batch(traffic, "streams", _number("audio_seconds_per_second"))),
        ("slowest request, × real time", _by_batch(traffic, "streams", _number("slowest_times_real_time"))),
        ("requests, with under-runs", _by_batch(traffic, "streams", lambda r: f"{r['requests']}, {r['under_runs']}")),
        ("least audio ahead of the player, s", _by_batch(traffic, "streams", _number("worst_margin_seconds"))),
    ]
    for reference in ("cached", "cold"):
        heard = [row for row in _under(rows, "first audio under load") if row["reference"] == reference]
        cells = _by_batch(heard, "streams", lambda r: f"{r['p50_ms']:.0f} / {r['p95_ms']:.0f} / {r['p99_ms']:.0f}")
        lines.append((f"first audio, {reference} reference, ms: p50 / p95 / p99", cells))
    return _table("continuous streams", lines)


def _single_figures(rows: Sequence[Row]) -> str:
    cells: list[tuple[str, str]] = []
    for row in _under(rows, "first audio"):
        cells.append((f"first audio when idle, reference: {row['reference']}", f"{shown_value(row['ms'])} ms"))
    for row in _under(rows, "prefill"):
        cells.append((f"prefill of {row['positions']} positions", f"{shown_value(row['ms'])} ms"))
    for row in _under(rows, "text step"):
        cells.append(("text step", f"{shown_value(row['ms'])} ms"))
    for row in _under(rows, "engine"):
        captured = f"{row['graphs']} in {shown_value(row['capture_seconds'])} s"
        cells.append(("captured steps", captured))
    for row in _under(rows, "loading"):
        rate = shown_value(row["gigabytes_per_second"])
        cells.append((f"loading, files {row['files']}", f"{shown_value(row['total_seconds'])} s, read at {rate} GB/s"))
    peaks = [row for row in _under(rows, "stage") if row.get("host_gigabytes")]
    for name, label in (("device_gigabytes", "the device"), ("host_gigabytes", "the host")):
        most = max((row for row in peaks if name in row), key=lambda row: row[name], default=None)
        if most is not None:
            cells.append((f"peak memory of {label}", f"{shown_value(most[name])} GB ({most['stage']})"))
    checks = [row for row in rows if "passed" in row]
    if checks:
        wrong = sum(not row["passed"] for row in checks)
        cells.append(("checks", f"{len(checks) - wrong} passed, {wrong} failed"))
    for row in _under(rows, "kernels of the engine"):
        cells.append(("kernels switched off", str(row["switched_off"])))
    return "\n".join(["| what | figure |", "|---|---|", *(f"| {name} | {value} |" for name, value in cells)])


def _not_run(rows: Sequence[Row]) -> str:
    found = [row for row in rows if row["heading"] in {"failed", "left out", "retried", "kernels off"}]
    return "\n".join(f"- {row['heading']}: {row.get('stage', 'the rest')}: {row['reason']}" for row in found)


def _under(rows: Iterable[Row], heading: str) -> Iterator[Row]:
    return (row for row in rows if row["heading"] == heading)


def _number(name: str) -> _Cell:
    return lambda row: shown_value(row[name])


def _by_batch(rows: Iterable[Row], name: str, cell: _Cell) -> dict[int, str]:
    return {row[name]: cell(row) for row in rows}


def _table(corner: str, lines: Sequence[tuple[str, dict[int, str]]]) -> str:
    """Empty without figures."""
    columns = sorted({number for _, cells in lines for number in cells})
    if not columns:
        return ""
    head = f"| {corner} | {' | '.join(map(str, columns))} |"
    body = [f"| {name} | {' | '.join(cells.get(n, '') for n in columns)} |" for name, cells in lines if cells]
    return "\n".join([head, "|---" * (len(columns) + 1) + "|", *body])
