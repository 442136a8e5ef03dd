"""The completions queues as Service Bus keeps them: a session for each listener, whether or not it lives."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, field

from bridge.model import Completion
from bridge.ports import Accepted, Refusal
from tests.fakes.adf import Lost


@dataclass
class FakeCompletions:
    """The port `Completions`, for any target. `accepted` counts what is in a queue, or was, by token."""

    sessions: dict[tuple[str, str], deque[Completion]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    script: deque[Refusal | Lost | None] = field(default_factory=deque)
    down: dict[str, Refusal] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def send(self, target: str, reply_to: str, completion: Completion) -> Accepted | Refusal:
        """Take a message, unless the queue is down; an answer that is lost comes after the message was taken."""
        with self.lock:
            self.calls[target] += 1
            step = self.script.popleft() if self.script else self.down.get(target)
            if isinstance(step, Refusal):
                return step
            self.accepted[completion.token] += 1
            self.sessions.setdefault((target, reply_to), deque()).append(completion)
            return step.refusal if step is not None else Accepted()

    def check(self, target: str) -> Refusal | None:
        """Say whether the queue is up."""
        return self.down.get(target)

    def receive(self, target: str, reply_to: str) -> Completion | None:
        """Have a listener take the next message of its session, for good."""
        with self.lock:
            session = self.sessions.get((target, reply_to))
            return session.popleft() if session else None
