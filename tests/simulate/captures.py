"""Requests that somebody has captured: sent again later, as they were, or under their keys with another body."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from bridge import service
from bridge.errors import IdempotencyMismatch, StoreUnavailable
from bridge.model import TriggerRequest
from tests.simulate.attempt import Attempt, Host
from tests.simulate.caller import Caller
from tests.simulate.timeline import Violation

# So long after they were sent first: less than they are remembered.
REPLAYED_WITHIN: Final = 270.0


class Captures:
    """Listens to requests that are answered."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._timeline = host.timeline

    def take(self, attempt: Attempt) -> None:
        """Have somebody capture a try's request, perhaps."""
        left = attempt.began + REPLAYED_WITHIN - self._timeline.seconds
        request = attempt.request
        if request is None or left <= 0 or attempt.parked:
            return
        caller, chance = Caller(key=request.idempotency_key), self._timeline.random
        if self._timeline.hits("captured request replayed", 0.1):
            self._timeline.after(chance.uniform(0, left), lambda: self._replay(request, caller))
        if self._timeline.hits("key used again with another body", 0.1):
            self._timeline.after(chance.uniform(0, left), lambda: self._misuse(request, caller))

    def _replay(self, request: TriggerRequest, caller: Caller) -> None:
        def answered(result: Any) -> None:
            self._host.starts.told(request.idempotency_key, result.document)

        self._host.ask(service.start_run(request, self._host.rules), caller, answered)

    def _misuse(self, request: TriggerRequest, caller: Caller) -> None:
        key = request.idempotency_key

        def answered(_: object) -> None:
            raise Violation("replay", "another body was answered under the same key", key)

        def refused(error: Exception) -> None:
            if not isinstance(error, IdempotencyMismatch | StoreUnavailable):
                raise Violation("replay", f"another body under the same key: {error!r}", key)

        other = replace(request, body_hash="another body")
        self._host.ask(service.start_run(other, self._host.rules), caller, answered, refused)
