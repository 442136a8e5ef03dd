"""The bridge's Event Grid topic: an event as the contract has it, what became of a publication, and the port."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from bridge.events import TYPE_PREFIX
from bridge.model import FactoryId, RunStatus

CONTENT_TYPE: Final = "application/json"


@dataclass(frozen=True, slots=True)
class RunNotice:
    """A run's status, to be published. `time` is when somebody said so; `data` holds no parameter and no message."""

    factory: FactoryId
    pipeline: str
    run_id: str
    status: RunStatus
    time: datetime
    data: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The same for the same fact, whoever tells it and however often."""
        return f"{self.run_id}/{self.status}"

    @property
    def source(self) -> str:
        """The factory, in the spelling of the allow-list."""
        return self.factory.arm_id

    @property
    def type(self) -> str:
        """What kind of event this is."""
        return f"{TYPE_PREFIX}{self.status}"

    @property
    def subject(self) -> str:
        """Which run of which pipeline."""
        return f"pipelines/{self.pipeline}/runs/{self.run_id}"


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that the topic does not take, whatever it comes with, and the topic's reason."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a publication: how many events the topic took, in how many requests, and which it refused."""

    taken: int
    requests: int
    refused: tuple[Refused, ...] = ()


class TopicUnavailable(Exception):  # noqa: N818 - no error of ours; publishing is tried again
    """The topic cannot be published to right now, or not by us. Some events may have arrived: publish all again."""


class Topic(Protocol):
    """An Event Grid topic that takes CloudEvents."""

    def publish(self, notices: Sequence[RunNotice]) -> Published:
        """Publish all of these; raise TopicUnavailable when that has to be tried again."""
