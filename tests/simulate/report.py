"""What a simulation came to, for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from tests.simulate.faults import FAULTS, OUTCOMES, POINTS, STATES
from tests.simulate.simulation import Simulated

_KINDS: Final = {"lost": ("lost",), "wrong": ("wrong", "fence"), "double": ("double", "createRun")}
# So many runs are a full simulation: of these, each of everything that can go wrong has happened so often.
FULL: Final = 20_000
OFTEN: Final = 100


def report(seed: int, found: Simulated) -> str:
    """Return the tables, and the story of the wait, and of the requests, that a violation is about."""
    speed = found.runs / max(found.seconds, 0.001)
    lines = [
        f"seed {seed}: {found.runs} runs in {found.episodes} episodes, {found.seconds:.1f} s ({speed:.0f} runs/s)",
        f"at most {found.most_attempts} attempts for a wait",
        *_table("what became of the waits", found.outcomes, sorted(found.outcomes)),
        *_table("what came of it", found.happened, OUTCOMES),
        *_table("what else happened", found.happened, sorted(found.happened.keys() - set(OUTCOMES))),
        *_table("faults", found.faults, sorted(FAULTS)),
        *_table("crashes at", found.points, sorted(POINTS)),
        *_table("states that Airflow showed", found.shown, sorted(STATES)),
    ]
    broken = found.violation.rule if found.violation is not None else ""
    counts = {name: int(broken in rules) for name, rules in _KINDS.items()}
    lines.append(" ".join(f"{name} {count}" for name, count in counts.items()) + f" violations {int(bool(broken))}")
    if found.violation is not None:
        lines.append(f"VIOLATION {found.violation}")
        lines.append(f"wait {found.violation.token or '-'}; again: --seed {seed} --episode {found.episodes - 1}")
        lines.extend(f"  {line.at:%H:%M:%S.%f} {line.what}: {line.detail}" for line in found.story)
        lines.extend(f"  {record}" for record in found.records)
    lines.extend(f"TOO RARE: {name}" for name in too_rare(found))
    return "\n".join(lines) + "\n"


def too_rare(found: Simulated) -> Sequence[str]:
    """Return what a full simulation has tried too seldom; nothing for a shorter one."""
    if found.runs < FULL:
        return ()
    tables = ((found.faults, FAULTS), (found.points, POINTS), (found.shown, STATES), (found.happened, OUTCOMES))
    return [f"{name} ({counts[name]})" for counts, names in tables for name in sorted(names) if counts[name] < OFTEN]


def _table(title: str, counts: Counter[str], names: Sequence[str]) -> list[str]:
    return [title, *(f"  {counts[name]:8}  {name}" for name in names)]
