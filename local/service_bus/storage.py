"""What outlives the broker: messages, session states, sequence numbers and known message ids, in SQLite.

It survives the broker's own death at any moment, not the machine's: nothing waits for the disk.
"""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from local.service_bus.message import Message, MessageState
from local.service_bus.queue import Queue

_SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    queue TEXT NOT NULL, number INTEGER NOT NULL, content BLOB NOT NULL, enqueued_at REAL NOT NULL, message_id TEXT,
    session_id TEXT, time_to_live REAL, state INTEGER NOT NULL, scheduled_for REAL, delivery_count INTEGER NOT NULL,
    locked INTEGER NOT NULL, reason TEXT, description TEXT, PRIMARY KEY (queue, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS last_number (queue TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS session (
    queue TEXT NOT NULL, session_id TEXT NOT NULL, state BLOB NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (queue, session_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS known (
    queue TEXT NOT NULL, message_id TEXT NOT NULL, until REAL NOT NULL, PRIMARY KEY (queue, message_id)) WITHOUT ROWID;
"""


class Storage:
    """The journal of all queues, in one file; None keeps it in memory. A change is durable after `commit`."""

    def __init__(self, path: Path | None) -> None:
        """Open the file, or make it."""
        self._database = sqlite3.connect(path or ":memory:")
        self._database.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; {_SCHEMA}")

    def commit(self) -> None:
        """Make all changes until now durable."""
        self._database.commit()

    def close(self) -> None:
        """Commit, and close the file."""
        self.commit()
        self._database.close()

    def save(self, queue: str, message: Message) -> None:
        """Write down a message as it is now; whether it is locked is kept, by whom is not."""
        row = (
            *(queue, message.sequence_number, message.content, message.enqueued_at.timestamp(), message.message_id),
            *(message.session_id, None if message.time_to_live is None else message.time_to_live.total_seconds()),
            *(int(message.state), None if message.scheduled_for is None else message.scheduled_for.timestamp()),
            *(message.delivery_count, message.lock is not None),
            *(message.dead_letter_reason, message.dead_letter_description),
        )
        self._database.execute("INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def remove(self, queue: str, sequence_number: int) -> None:
        """Forget a message."""
        self._database.execute("DELETE FROM message WHERE queue = ? AND number = ?", (queue, sequence_number))

    def count(self, queue: str, sequence_number: int) -> None:
        """Write down the last sequence number that the queue has given."""
        self._database.execute("INSERT OR REPLACE INTO last_number VALUES (?, ?)", (queue, sequence_number))

    def save_session(self, queue: str, session_id: str, state: bytes | None, at: datetime) -> None:
        """Write down a session's state; None forgets it."""
        self._database.execute("DELETE FROM session WHERE queue = ? AND session_id = ?", (queue, session_id))
        if state is not None:
            row = (queue, session_id, state, at.timestamp())
            self._database.execute("INSERT INTO session VALUES (?, ?, ?, ?)", row)

    def remember(self, queue: str, message_id: str, until: datetime) -> None:
        """Write down that a message of that id came, for the duplicate detection."""
        row = (queue, message_id, until.timestamp())
        self._database.execute("INSERT OR REPLACE INTO known VALUES (?, ?, ?)", row)

    def forget(self, queue: str, message_id: str) -> None:
        """Its window has passed."""
        self._database.execute("DELETE FROM known WHERE queue = ? AND message_id = ?", (queue, message_id))

    def load(self, queue: Queue, now: datetime) -> None:
        """Fill an empty queue with what was written down of it."""
        find = self._database.execute
        name = (queue.name,)
        for session_id, state, at in find("SELECT session_id, state, at FROM session WHERE queue = ?", name):
            queue.sessions.restore(session_id, state, _time(at))
        numbers = find("SELECT number FROM last_number WHERE queue = ?", name).fetchone()
        known = find("SELECT message_id, until FROM known WHERE queue = ?", name).fetchall()
        rows = find(
            "SELECT number, content, enqueued_at, message_id, session_id, time_to_live, state, scheduled_for,"
            " delivery_count, reason, description, locked FROM message WHERE queue = ? ORDER BY number",
            name,
        ).fetchall()
        messages = [
            (
                Message(
                    sequence_number=number,
                    content=content,
                    enqueued_at=_time(enqueued_at),
                    message_id=message_id,
                    session_id=session_id,
                    time_to_live=None if time_to_live is None else timedelta(seconds=time_to_live),
                    state=MessageState(state),
                    scheduled_for=None if scheduled_for is None else _time(scheduled_for),
                    delivery_count=delivery_count,
                    dead_letter_reason=reason,
                    dead_letter_description=description,
                ),
                bool(locked),
            )
            for number, content, enqueued_at, message_id, session_id, time_to_live, state, scheduled_for,
                delivery_count, reason, description, locked in rows
        ]  # fmt: skip
        queue.restore(messages, numbers[0] if numbers else 0, {key: _time(until) for key, until in known}, now)


def _time(stamp: float) -> datetime:
    return datetime.fromtimestamp(stamp, UTC)
