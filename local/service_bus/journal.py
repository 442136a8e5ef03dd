"""Where a queue writes down what must outlive the process."""

from datetime import datetime
from typing import Protocol

from local.service_bus.message import Message


class Journal(Protocol):
    """Takes every change of a queue, in order. Nothing is durable before `commit`."""

    def save(self, queue: str, message: Message) -> None:
        """Write down a message as it is now; whether it is locked is kept, by whom is not."""

    def remove(self, queue: str, sequence_number: int) -> None:
        """Forget a message."""

    def count(self, queue: str, sequence_number: int) -> None:
        """Write down the last sequence number that the queue has given."""

    def save_session(self, queue: str, session_id: str, state: bytes | None, at: datetime) -> None:
        """Write down a session's state; None forgets it."""

    def remember(self, queue: str, message_id: str, until: datetime) -> None:
        """Write down that a message of that id came, for the duplicate detection."""

    def forget(self, queue: str, message_id: str) -> None:
        """Its window has passed."""


class NoJournal:
    """Writes nothing down: what the queue holds ends with the process."""

    def save(self, queue: str, message: Message) -> None:
        """Write nothing."""

    def remove(self, queue: str, sequence_number: int) -> None:
        """Write nothing."""

    def count(self, queue: str, sequence_number: int) -> None:
        """Write nothing."""

    def save_session(self, queue: str, session_id: str, state: bytes | None, at: datetime) -> None:
        """Write nothing."""

    def remember(self, queue: str, message_id: str, until: datetime) -> None:
        """Write nothing."""

    def forget(self, queue: str, message_id: str) -> None:
        """Write nothing."""
