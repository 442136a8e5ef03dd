"""The table of the outages, for a person."""

from __future__ import annotations

from collections.abc import Sequence

from tests.outages.verdict import Result

_WIDTHS = (44, 7, 11, 6, 19, 7, 7)


def table(results: Sequence[Result]) -> str:
    """A line for each outage, and below it what was not as promised."""
    lines = ["", _line("", "tasks", "completed", "lost", "resumed in a try", "p50 s", "max s") + "meanwhile"]
    for one in results:
        p50, most = (f"{value:.1f}" for value in one.seconds) if one.seconds else ("–", "–")
        counts = (str(len(one.tasks)), str(one.completed), str(one.lost))
        lines.append(_line(one.name, *counts, one.resumed, p50, most) + one.meanwhile)
        lines.extend(f"    WRONG {wrong}" for wrong in one.wrong)
    return "\n".join([*(line.rstrip() for line in lines), ""])


def _line(*cells: str) -> str:
    return "".join(f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))
