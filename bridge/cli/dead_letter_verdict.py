"""What the bridge would say to a dead letter now, as far as it can be told without sending it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from bridge import decide, events, http_requests
from bridge.cli.dead_letter import DeadLetter
from bridge.cli.explain import Bridge
from bridge.errors import Problem
from bridge.model import FactoryId, RunEvent, RunStatus, Verdict, WaitState

_MOST_BYTES: Final = 10_485_760  # what a message may have at most; how much the app takes is its own setting
_TELLING: Final = (Verdict.MATCHED, Verdict.NOTED, Verdict.DUPLICATE, Verdict.PARKED)
_BY_NAME: Final = "factories/"

Told = tuple[Verdict, str]


class Verdicts:
    """Reads dead letters as the app does; without a `bridge`, nobody is asked what is known of them."""

    def __init__(self, bridge: Bridge | None, factories: Sequence[FactoryId], now: datetime) -> None:
        """Take the allow-list, if it is known here."""
        self._bridge = bridge
        self._factories = factories
        self._now = now

    def of_event(self, letter: DeadLetter) -> str:
        """Say what would become of an event. Raises NotToBeHadError."""
        parsed = events.parse(letter.body.decode("utf-8-sig", errors="replace"), self._factories)
        return "; ".join(
            self._of_unusable(one) if isinstance(one, events.Unusable) else self._of(one) for one in parsed
        )

    def of_request(self, letter: DeadLetter) -> str:
        """Say what would become of a trigger request. Raises NotToBeHadError."""
        try:
            document = http_requests.load_object(letter.body, most=_MOST_BYTES)
        except Problem as problem:
            return f"refused: {problem.code}"
        if not letter.id:
            return "refused: missing-idempotency-key"
        if self._bridge is None:
            return "a request; whether it has a record was not asked (--url)"
        known = self._bridge.wait_or_why_not(letter.id)
        if isinstance(known, Mapping):
            return f"answered from its record: its wait is {known['wait']['state']}"
        if known == decide.no_wait(None):
            deadline = _deadline(document)
            if deadline is not None and deadline <= self._now:
                return f"refused: its deadline was {deadline.isoformat()}"
            asked = "a run and a wait" if "wait" in document else "a run"
            return f"no record: handled as a new request, for {asked}"
        return f"has a record: {known}"

    def _of_unusable(self, event: events.Unusable) -> str:
        if not self._factories and event.verdict is Verdict.REJECTED and event.factory.startswith(_BY_NAME):
            return "a run event of a factory by its name: set BRIDGE_FACTORIES to have it looked up"
        return f"{event.verdict}: {event.reason}"

    def _of(self, event: RunEvent) -> str:
        if self._factories and event.factory not in self._factories:
            return f"{Verdict.REJECTED}: the factory is not on the allow-list (BRIDGE_FACTORIES)"
        if self._bridge is None:
            return f"a run event, says {event.status}; whether anybody waits was not asked (--url)"
        told = [_judge(event, self._bridge.run(key.run_id)) for key in event.keys]
        verdict, reason = min(told, key=lambda one: _TELLING.index(one[0]))
        return f"{verdict}: {reason}"


def _deadline(document: Mapping[str, object]) -> datetime | None:
    """Return until when the wait that a request asks for is to last, if that can be read."""
    wait = document.get("wait")
    text = wait.get("deadline") if isinstance(wait, dict) else None
    try:
        deadline = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return deadline if deadline is not None and deadline.tzinfo is not None else None


def _judge(event: RunEvent, known: Mapping[str, Any] | None) -> Told:
    """Judge an event as `decide.judge_event` does, by what `GET /runs/{run_id}` shows."""
    if known is None:
        return Verdict.PARKED, "the bridge knows no such run"
    run, waits = known["run"], known["waits"]
    status = RunStatus.spelled(str(run["status"]))
    if status is not None and status.is_terminal:
        return Verdict.DUPLICATE, f"ADF had said {status} before"
    waiting = sum(wait["state"] == WaitState.OPEN for wait in waits)
    if not waiting:
        return Verdict.PARKED, "nobody waits for this run"
    if not event.status.is_terminal:
        return Verdict.NOTED, f"{event.status} is no end"
    return Verdict.MATCHED, f"{waiting} waiting, if ADF confirms {event.status}"
