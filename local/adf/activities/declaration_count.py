"""How often activities were executed, for failures that happen only so many times."""

from collections import Counter


class DeclarationCount:
    """Counts executions by activity and by whatever else the activity declares."""

    def __init__(self) -> None:
        """Begin with nothing executed."""
        self._seen: Counter[tuple[str, ...]] = Counter()

    def next(self, *key: str) -> int:
        """The number of this execution, beginning with 1."""
        self._seen[key] += 1
        return self._seen[key]
