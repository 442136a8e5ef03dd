"""The relay: from the diagnostic records of an event hub to events on the topic.

Nothing is acknowledged before it is published: what cannot be published now is raised, and the trigger, whose retry
policy has no end, hands over the same messages again. Ids are deterministic: what arrives twice is the same event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bridge import diagnostics
from bridge.diagnostics import Reason, Skipped
from bridge.model import FactoryId
from bridge.telemetry import Log
from bridge.topic import Published, RunNotice, Topic, TopicUnavailable

_LISTED: Final = 5
_WORTH_A_LOOK: Final = (Reason.MALFORMED, Reason.UNKNOWN_STATUS)


@dataclass(frozen=True, slots=True)
class Relayed:
    """What one invocation did. `records` are those of all messages, `repeated` those that said what another one did."""

    messages: int
    records: int
    repeated: int
    skipped: dict[Reason, int]
    published: Published


class Relay:
    """Publishes what an event hub's messages say of the runs of allowed factories."""

    def __init__(self, topic: Topic, factories: Collection[FactoryId], now: Callable[[], datetime], log: Log) -> None:
        self._topic = topic
        self._factories = factories
        self._now = now
        self._log = log

    def relay(self, messages: Sequence[bytes]) -> Relayed:
        """Publish a batch of messages; raise TopicUnavailable when the trigger has to hand them over again."""
        now = self._now()
        found = [one for body in messages for one in diagnostics.read(body, self._factories, now=now)]
        skipped = [one for one in found if isinstance(one, Skipped)]
        notices = {(one.factory, one.id): one for one in found if isinstance(one, RunNotice)}
        try:
            published = self._topic.publish(list(notices.values())) if notices else Published(0, 0)
        except TopicUnavailable as problem:
            self._log.warning("relay.topic-unavailable", detail=str(problem), events=len(notices))
            raise
        relayed = Relayed(
            messages=len(messages),
            records=len(found),
            repeated=len(found) - len(skipped) - len(notices),
            skipped=dict(Counter(one.reason for one in skipped)),
            published=published,
        )
        self._tell(relayed, skipped)
        return relayed

    def _tell(self, relayed: Relayed, skipped: Sequence[Skipped]) -> None:
        """Log counts and reasons, no payload; a few details of what nobody expected."""
        self._log.info(
            "relay.done",
            messages=relayed.messages,
            records=relayed.records,
            published=relayed.published.taken,
            requests=relayed.published.requests,
            repeated=relayed.repeated,
            skipped=relayed.skipped,
        )
        odd = [one for one in skipped if one.reason in _WORTH_A_LOOK]
        if odd:
            details = sorted({f"{one.reason}: {one.detail}" for one in odd})
            self._log.warning("relay.unreadable", records=len(odd), details="; ".join(details[:_LISTED]))
        refused = relayed.published.refused
        if refused:
            details = [f"{one.id}: {one.reason}" for one in refused]
            self._log.warning("relay.refused", events=len(refused), details="; ".join(details[:_LISTED]))
