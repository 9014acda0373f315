"""The stages of `python -m benchmarks.gpu`, the most telling first. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One part of the run.

    name: as `--only` takes it.  group: the same for several.  function: "module:name" of what runs, in a process of its
    own or in that of the stage before.  seconds: its limit, without the time that building the engine takes.
    fresh: starts in a new process.  last: the next stage starts in a new process.
    """

    name: str
    group: str
    function: str
    seconds: float
    fresh: bool = False
    last: bool = False


ENVIRONMENT = Stage("environment", "environment", "benchmarks.stages.environment:run", 60)

STAGES = (
    Stage("compile", "checks", "benchmarks.stages.compile:run", 150),
    Stage("golden", "checks", "benchmarks.stages.golden:run", 120),
    Stage("kernels", "checks", "benchmarks.stages.kernels:run", 120),
    Stage("graph", "checks", "benchmarks.stages.graph:run", 60),
    Stage("precision", "checks", "benchmarks.stages.precision:run", 40),
    Stage("engine", "speed", "benchmarks.stages.engine:run", 30, fresh=True),
    Stage("steps", "speed", "benchmarks.stages.steps:run", 60),
    # The profiler stays in its process and may slow down what comes behind it.
    Stage("profile", "speed", "benchmarks.stages.profile:run", 40, last=True),
    Stage("prefill", "speed", "benchmarks.stages.prefill:run", 30),
    Stage("traffic", "speed", "benchmarks.stages.traffic:run", 110),
    Stage("first-audio", "speed", "benchmarks.stages.first_audio:run", 30),
    Stage("transformers", "speed", "benchmarks.stages.beside_transformers:run", 60, last=True),
    Stage("weights", "speed", "benchmarks.stages.weights:run", 60, fresh=True, last=True),
    Stage("loading", "speed", "benchmarks.stages.loading:run", 120, fresh=True),
)


def chosen(names: str) -> list[Stage]:
    """The stages of a list of names or groups with commas between; all of them for none. Raises ValueError."""
    wanted = {name.strip() for name in names.split(",")} - {""}
    known = {stage.name for stage in STAGES} | {stage.group for stage in STAGES}
    if wanted - known:
        raise ValueError(f"no stage {', '.join(sorted(wanted - known))}; there are {', '.join(sorted(known))}")
    return [stage for stage in STAGES if not wanted or wanted & {stage.name, stage.group}]
