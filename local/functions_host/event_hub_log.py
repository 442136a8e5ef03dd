"""The event hubs of this machine: messages in partitions, and how far each consumer group has come. All of it survives
a crash of the host.
"""

import sqlite3
import weakref
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

PARTITIONS = 4

_SCHEMA = """
create table if not exists message (
  hub text, partition integer, sequence integer, key text, enqueued_at text, body blob,
  primary key (hub, partition, sequence)) without rowid;
create table if not exists checkpoint (
  hub text, consumer_group text, partition integer, next integer,
  primary key (hub, consumer_group, partition)) without rowid;
"""


@dataclass(frozen=True)
class HubMessage:
    """A message as the hub keeps it. `sequence` counts from 0 in each partition."""

    partition: int
    sequence: int
    key: str | None
    enqueued_at: datetime
    body: bytes


class EventHubLog:
    """Keeps messages and checkpoints in SQLite. Names of hubs and consumer groups are the same in any case."""

    def __init__(self, path: Path | None) -> None:
        """Open the file, or make it; without one, everything is forgotten at the end."""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._db.close)  # a host that could not be put together closes nothing
        self._db.executescript(f"pragma journal_mode=wal; pragma synchronous=normal; {_SCHEMA}")

    def append(self, hub: str, body: bytes, key: str | None) -> HubMessage:
        """Take a message: those with the same key lie in the same partition, the others in turn."""
        hub = hub.lower()
        (count,) = self._db.execute("select count(*) from message where hub = ?", (hub,)).fetchone()
        partition = (zlib.crc32(key.encode()) if key is not None else count) % PARTITIONS
        message = HubMessage(partition, self.end(hub, partition), key, datetime.now(UTC), body)
        row = (hub, partition, message.sequence, key, message.enqueued_at.isoformat(), body)
        self._db.execute("insert into message values (?, ?, ?, ?, ?, ?)", row)
        return message

    def end(self, hub: str, partition: int) -> int:
        """The sequence number that the partition's next message gets."""
        query = "select coalesce(max(sequence) + 1, 0) from message where hub = ? and partition = ?"
        return int(self._db.execute(query, (hub.lower(), partition)).fetchone()[0])

    def following(self, hub: str, group: str, partition: int, *, limit: int) -> Sequence[HubMessage]:
        """The first messages that a consumer group has not done with."""
        rows = self._db.execute(
            "select partition, sequence, key, enqueued_at, body from message "
            "where hub = ? and partition = ? and sequence >= ? order by sequence limit ?",
            (hub.lower(), partition, self.position(hub, group, partition), limit),
        )
        return [HubMessage(at, sequence, key, datetime.fromisoformat(on), body) for at, sequence, key, on, body in rows]

    def position(self, hub: str, group: str, partition: int) -> int:
        """The sequence number at which a consumer group goes on; at first, the oldest message's."""
        query = "select next from checkpoint where hub = ? and consumer_group = ? and partition = ?"
        row = self._db.execute(query, (hub.lower(), group.lower(), partition)).fetchone()
        return int(row[0]) if row else 0

    def checkpoint(self, hub: str, group: str, message: HubMessage) -> None:
        """Remember that a consumer group has done with a message and all before it."""
        row = (hub.lower(), group.lower(), message.partition, message.sequence + 1)
        self._db.execute("insert or replace into checkpoint values (?, ?, ?, ?)", row)

    def close(self) -> None:
        """Close the file."""
        self._db.close()
