"""The host's log: one JSON object per line on standard error."""

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

_CHATTER = ("azure.functions", "azure.servicebus")  # the worker's, and the Service Bus SDK's
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON, with the function and the invocation that it belongs to."""

    def __init__(self, invocation: Callable[[], Mapping[str, str]]) -> None:
        """`invocation` tells `function` and `invocation_id` of what runs right now, or nothing."""
        super().__init__()
        self._invocation = invocation

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. Line breaks inside a field are escaped, so that a record never spans two lines."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._invocation(),
            "message": record.getMessage(),
        }
        line.update((key, value) for key, value in vars(record).items() if key not in _STANDARD)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def start_logging(level: int, invocation: Callable[[], Mapping[str, str]]) -> None:
    """Send every record of host, worker and app to standard error, from `level` up.

    The chatter of libraries stays away below a warning. What the app prints goes to standard error, too:
    standard output belongs to the LISTENING line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(invocation))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _CHATTER:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(capture=True)
