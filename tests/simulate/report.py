"""What a simulation came to, for a person."""

from __future__ import annotations

from collections import Counter

from bridge.commands import Point
from tests.simulate.simulation import Simulated

_KINDS = {"lost": ("lost",), "wrong": ("wrong", "fence"), "double": ("double", "createRun")}


def report(seed: int, found: Simulated) -> str:
    """Return the table, and the story of the wait that a violation is about."""
    speed = found.runs / max(found.seconds, 0.001)
    lines = [
        f"seed {seed}: {found.runs} runs in {found.episodes} episodes, {found.seconds:.1f} s ({speed:.0f} runs/s)",
        f"at most {found.most_attempts} attempts for a wait",
        *_table("what became of the waits", found.outcomes),
        *_table("what else happened", found.happened),
        *_table("faults", found.faults),
        *_table("crashes after", found.points),
        f"points without a crash: {', '.join(point for point in Point if point not in found.points) or 'none'}",
    ]
    broken = found.violation.rule if found.violation is not None else ""
    counts = {name: int(broken in rules) for name, rules in _KINDS.items()}
    lines.append(" ".join(f"{name} {count}" for name, count in counts.items()) + f" violations {int(bool(broken))}")
    if found.violation is not None:
        lines.append(f"VIOLATION {found.violation}")
        lines.append(f"wait {found.violation.token or '-'}; again: --seed {seed} --episode {found.episodes - 1}")
        lines.extend(f"  {line.at:%H:%M:%S.%f} {line.what}: {line.detail}" for line in found.story)
    return "\n".join(lines) + "\n"


def _table(title: str, counts: Counter[str]) -> list[str]:
    return [title, *(f"  {count:8}  {name}" for name, count in sorted(counts.items()))]
