"""The statuses of runs, and how ARM writes values of theirs.

See https://learn.microsoft.com/rest/api/datafactory/pipeline-runs/get
"""

import json
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from local.json_value import JsonValue


class Status(StrEnum):
    """The status of a run, in Data Factory's spelling (one l in Canceling, two in Cancelled)."""

    QUEUED = "Queued"
    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELING = "Canceling"
    CANCELLED = "Cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing follows this status."""
        return self in {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}


def now() -> datetime:
    """The time."""
    return datetime.now(UTC)


def iso(moment: datetime | None) -> str | None:
    """A time as ARM writes it: UTC, seven digits behind the point."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")


def milliseconds(start: datetime, end: datetime | None) -> int | None:
    """A duration as ARM writes it; None while there is no end."""
    return None if end is None else round((end - start) / timedelta(milliseconds=1))


def shown_text(value: JsonValue) -> str:
    """A parameter's or a property's value as ARM writes it."""
    return value if isinstance(value, str) else json.dumps(value)
