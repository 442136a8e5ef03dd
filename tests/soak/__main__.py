"""The soak's command line: ``python -m tests.soak [--runs N] [--kills N] [--store sqlite|table] [--seed N]``."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.soak.plan import Plan
from tests.soak.report import report
from tests.soak.scene import running_scene
from tests.soak.soak import Soak

_FOLDERS = Path(__file__).resolve().parents[2] / ".cache" / "soak"


def main() -> int:
    """Soak; 1 when a promise was broken or a kill did not come about. The logs are kept then."""
    plan = _plan()
    for name in [name for name in os.environ if name.startswith("BRIDGE_")]:
        del os.environ[name]
    _FOLDERS.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{plan.store}-{plan.seed}-", dir=_FOLDERS))
    # What the fake Airflow's server thinks of callers that die in the middle of a request.
    logging.basicConfig(filename=folder / "airflow.log", level=logging.WARNING)
    well = False
    try:
        with (folder / "soak.log").open("w", encoding="utf-8") as log:

            def tell(text: str) -> None:
                for stream in (sys.stdout, log):
                    stream.write(f"{text}\n")
                    stream.flush()

            with running_scene(plan, folder) as scene:
                soaked = Soak(plan, scene, tell).run()
                tell(report(soaked, scene.story))
        well = soaked.is_well
    finally:
        if well:
            shutil.rmtree(folder)
        else:
            sys.stdout.write(f"what was logged is in {folder}\n")
    return 0 if well else 1


def _plan() -> Plan:
    usual = Plan()
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--runs", type=int, default=usual.runs)
    parser.add_argument("--kills", type=int, default=usual.kills)
    parser.add_argument("--store", choices=("sqlite", "table"), default=usual.store)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--at-once", type=int, default=usual.at_once, help="tasks under way at most")
    parser.add_argument("--pace", type=float, default=usual.starts_per_second, help="runs asked for in a second")
    parser.add_argument("--hurry", action="store_true", help="shorten the bridge's leases: a trial of the soak itself")
    asked = parser.parse_args()
    return Plan(
        runs=asked.runs,
        kills=asked.kills,
        store=asked.store,
        seed=asked.seed,
        at_once=asked.at_once,
        starts_per_second=asked.pace,
        hurry=asked.hurry,
    )


if __name__ == "__main__":
    sys.exit(main())
