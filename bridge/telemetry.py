"""The log: one JSON object per line, with the token, run id and target wherever they are known, and never a secret."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterable
from typing import Final

from bridge import masking
from bridge.model import TimelineEntry, Wait

_LOGGER: Final = logging.getLogger("bridge")


class Log:
    """Writes structured lines. Every text passes the mask, exceptions included."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._hidden = masking.spelled(secrets)

    def info(self, event: str, **fields: object) -> None:
        """Log what happened."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log what somebody should look at."""
        self._write(logging.WARNING, event, fields)

    def failure(self, event: str, error: BaseException, **fields: object) -> None:
        """Log a failure with its trace."""
        trace = "".join(traceback.format_exception(error))
        self._write(logging.ERROR, event, {**fields, "error": type(error).__name__, "trace": trace})

    def story(self, wait: Wait, entry: TimelineEntry) -> None:
        """Log a new line of a wait's story."""
        self.info(
            f"wait.{entry.what}",
            detail=entry.detail,
            token=wait.token,
            run_id=wait.key.run_id,
            target=wait.task.target,
            dag_id=wait.task.dag_id,
            task_id=wait.task.task_id,
            map_index=wait.task.map_index,
            try_number=wait.task.try_number,
            state=wait.state.value,
        )

    def unreadable(self, kind: str, name: str) -> None:
        """Log that a row of the store cannot be read: what kind of row it is, and its key."""
        self.warning("store.row-unreadable", kind=kind, row=name)

    def masked(self, text: str) -> str:
        """Return a text without any of the secrets."""
        return masking.without(text, self._hidden)

    def _write(self, level: int, event: str, fields: dict[str, object]) -> None:
        if not _LOGGER.isEnabledFor(level):
            return
        shown = {name: self.masked(value) if isinstance(value, str) else value for name, value in fields.items()}
        # ASCII only: no line break and no change of writing direction inside a line.
        _LOGGER.log(level, "%s", json.dumps({"event": event, **shown}, ensure_ascii=True, default=str))
