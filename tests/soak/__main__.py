"""`python -m tests.soak`: both doors under mixed traffic, and whether anything was lost, doubled or kept."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import get_args

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.soak.planned import Door, Kind
from tests.soak.report import faults, record, text
from tests.soak.run import soak


def main() -> int:
    """The exit status: 1 when something was lost, doubled, wrong or not flat."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long jobs are sent")
    parser.add_argument("--seed", type=int, default=0, help="of the traffic")
    parser.add_argument("--model", default="tiny", help="tiny (random weights) or demo")
    parser.add_argument("--doors", nargs="+", choices=get_args(Door), default=list(get_args(Door)))
    parser.add_argument("--kinds", nargs="+", choices=get_args(Kind), help="of jobs; all when not given")
    parser.add_argument("--output", type=Path, default=Path("output/soak.json"), help="the record")
    chosen = parser.parse_args()
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    kinds = frozenset(chosen.kinds) if chosen.kinds else None
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        soaked = soak(
            chosen.seconds,
            Path(folder),
            seed=chosen.seed,
            doors=tuple(chosen.doors),
            kinds=kinds,
            HIGGS_AUDIO_MODEL_ID=chosen.model,
        )
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    about = {name: getattr(chosen, name) for name in ("seconds", "seed", "model", "kinds")}
    chosen.output.write_text(json.dumps(record(soaked, **about), indent=1) + "\n")
    sys.stdout.write(text(soaked))
    return 1 if any(faults(each) for each in soaked) else 0


if __name__ == "__main__":
    sys.exit(main())
