"""The relay: which records of a batch are published, what is raised, and what is logged."""

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from bridge import config, wiring
from bridge.diagnostics import Reason
from bridge.errors import ConfigInvalid
from bridge.relay import Relay
from bridge.telemetry import Log
from bridge.topic import Published, Refused, RunNotice, TopicUnavailable
from tests.fakes.diagnostics import MESSAGE_CANARY, PARAMETER_CANARY, message, record
from tests.fakes.samples import ARM_ID, FACTORY, KEY, OTHER_ARM_ID, OTHER_FACTORY


class FakeTopic:
    """A topic that keeps what it takes; it refuses the events of the statuses in `refuses`, and can be away."""

    def __init__(self) -> None:
        self.events: list[RunNotice] = []
        self.refuses: set[str] = set()
        self.away = False

    def publish(self, notices: Sequence[RunNotice]) -> Published:
        """Take events."""
        if self.away:
            raise TopicUnavailable("the topic answered 503")
        taken = [one for one in notices if one.status not in self.refuses]
        self.events += taken
        refused = tuple(Refused(one.id, "the topic answered 400") for one in notices if one not in taken)
        return Published(len(taken), 1, refused)

    @property
    def ids(self) -> list[str]:
        """The ids of the events that were taken."""
        return [one.id for one in self.events]


@pytest.fixture
def topic() -> FakeTopic:
    """A topic."""
    return FakeTopic()


@pytest.fixture
def relay(topic: FakeTopic) -> Relay:
    """A relay to that topic."""
    return Relay(topic, [FACTORY, OTHER_FACTORY], lambda: datetime(2026, 3, 1, tzinfo=UTC), Log())


def test_a_batch(relay: Relay, topic: FakeTopic) -> None:
    """All records of all messages are published at once; what cannot be read costs nothing but a reason."""
    relayed = relay.relay([message(record("Queued"), record(category="ActivityRuns")), b"{", message(record("Failed"))])
    assert [f"{KEY.run_id}/Queued", f"{KEY.run_id}/Failed"] == topic.ids
    assert (3, 4, 0, {Reason.OTHER_CATEGORY: 1, Reason.MALFORMED: 1}) == (
        relayed.messages,
        relayed.records,
        relayed.repeated,
        relayed.skipped,
    )


def test_repeated_records(relay: Relay, topic: FakeTopic) -> None:
    """A fact that several records of a batch tell is published once; two factories' facts are two."""
    relayed = relay.relay([message(record(), record()), message(record(resourceId=OTHER_ARM_ID), record())])
    assert ([ARM_ID, OTHER_ARM_ID], 2) == ([one.source for one in topic.events], relayed.repeated)


def test_a_topic_that_is_away(relay: Relay, topic: FakeTopic, caplog: pytest.LogCaptureFixture) -> None:
    """A topic that cannot be published to makes the invocation fail: the trigger hands over the same again."""
    topic.away = True
    with caplog.at_level(logging.WARNING), pytest.raises(TopicUnavailable):
        relay.relay([message(record())])
    topic.away = False
    relay.relay([message(record())])
    assert ["relay.topic-unavailable"] == [json.loads(line)["event"] for line in caplog.messages]
    assert [f"{KEY.run_id}/Succeeded"] == topic.ids


def test_nothing_to_tell(relay: Relay, topic: FakeTopic) -> None:
    """Messages without a record of interest do not touch the topic, not even one that is away."""
    topic.away = True
    assert 0 == relay.relay([message(record(category="TriggerRuns")), message()]).published.requests


def test_the_log(relay: Relay, topic: FakeTopic, caplog: pytest.LogCaptureFixture) -> None:
    """S34: the log has counts and reasons, a few details of what is odd, and no payload."""
    topic.refuses = {"Failed"}
    odd = [record(f"Odd{number}") for number in range(9)]
    with caplog.at_level(logging.INFO):
        relay.relay([message(record(), record("Failed"), record(runId=None), record(category="ActivityRuns"), *odd)])
    lines = {line.pop("event"): line for line in map(json.loads, caplog.messages)}
    assert {
        "messages": 1,
        "records": 13,
        "published": 1,
        "requests": 1,
        "repeated": 0,
        "skipped": {"malformed": 1, "other-category": 1, "unknown-status": 9},
    } == lines["relay.done"]
    assert ({"events": 1, "details": f"{KEY.run_id}/Failed: the topic answered 400"}, 10, 5) == (
        lines["relay.refused"],
        lines["relay.unreadable"]["records"],
        len(lines["relay.unreadable"]["details"].split("; ")),
    )
    assert not any(canary in caplog.text for canary in (PARAMETER_CANARY, MESSAGE_CANARY))


def test_without_a_topic() -> None:
    """S41: a relay without a topic says which setting is missing."""
    settings = config.load({"BRIDGE_FACTORIES": f"demo={ARM_ID}", "BRIDGE_STORE": "sqlite:///unused"})
    with pytest.raises(ConfigInvalid, match="BRIDGE_TOPIC_ENDPOINT"):
        wiring.build_relay(settings, Log())
