"""The Event Grid topic through azure-eventgrid. Each request is sent once: the trigger's retry policy decides on more.

https://learn.microsoft.com/azure/event-grid/post-to-custom-topic
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import AzureError, HttpResponseError
from azure.core.messaging import CloudEvent

from bridge.adapters.credentials import azure_credential
from bridge.config import Secret
from bridge.topic import CONTENT_TYPE, Published, Refused, RunNotice, TopicUnavailable

if TYPE_CHECKING:
    from azure.eventgrid import EventGridPublisherClient

# Event Grid takes 1 MB and 5,000 events. The rest of the megabyte is for what the SDK may add to each event (a trace).
# https://learn.microsoft.com/azure/event-grid/quotas-limits
MAX_BATCH_BYTES: Final = 900_000
MAX_BATCH_EVENTS: Final = 1_000
_SEPARATOR_BYTES: Final = 2  # `[` and `]`, and `, ` between two events
_ONCE: Final[dict[str, Any]] = {
    "retry_total": 0,
    "permit_redirects": False,
    "connection_timeout": 5,
    "read_timeout": 20,
}
_BAD_REQUEST: Final = 400
_TOO_LARGE: Final = 413
_PROOF_EVENTS: Final = 8  # so many refused one by one, and none ever taken: it is the topic

_Batch = Sequence[CloudEvent[Any]]


class EventGridTopic:
    """The port `Topic`. Without a key it signs in as the app: the role EventGrid Data Sender."""

    def __init__(
        self,
        *,
        endpoint: str,
        key: Secret,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        max_batch_events: int = MAX_BATCH_EVENTS,
    ) -> None:
        self._endpoint = endpoint
        self._key = key
        self._max_batch_bytes = max_batch_bytes
        self._max_batch_events = max_batch_events
        self._lock = threading.Lock()
        self._client: EventGridPublisherClient | None = None
        self._takes_events = False

    def publish(self, notices: Sequence[RunNotice]) -> Published:
        """Publish in batches. One that is refused for what it holds is halved until it is known which event it was.

        A single event counts as refused only if the topic takes others: a topic that takes none is wrong itself, and
        then TopicUnavailable is raised, as for every other answer and for none.
        """
        pending = deque(self._batches([_cloud_event(notice) for notice in notices]))
        taken = requests = 0
        refused: list[Refused] = []
        while pending:
            batch = pending.popleft()
            requests += 1
            status = self._send(batch)
            if status is None:
                taken += len(batch)
                self._takes_events = True
            elif len(batch) > 1:
                half = len(batch) // 2
                pending.extendleft((batch[half:], batch[:half]))
            else:
                refused.append(Refused(batch[0].id, f"the topic answered {status}"))
            proven = not pending or len(refused) >= _PROOF_EVENTS
            if refused and proven and not self._takes_events:
                raise TopicUnavailable(f"{refused[0].reason} to every event: is its input schema CloudEvents 1.0?")
        return Published(taken, requests, tuple(refused))

    def _batches(self, events: _Batch) -> Iterator[_Batch]:
        """Group events so that no request is too large; an event that is too large by itself goes alone."""
        batch: list[CloudEvent[Any]] = []
        size = _SEPARATOR_BYTES
        for event in events:
            more = _wire_bytes(event) + _SEPARATOR_BYTES
            if batch and (size + more > self._max_batch_bytes or len(batch) == self._max_batch_events):
                yield batch
                batch, size = [], _SEPARATOR_BYTES
            batch.append(event)
            size += more
        if batch:
            yield batch

    def _send(self, batch: _Batch) -> int | None:
        """Send one request: None when the topic took it, the status when it refuses what is in it."""
        try:
            self._publisher().send(list(batch), **_ONCE)
        except HttpResponseError as error:
            if error.status_code in (_BAD_REQUEST, _TOO_LARGE):
                return error.status_code
            raise TopicUnavailable(f"the topic answered {error.status_code or 'that it is not there'}") from error
        except AzureError as error:
            raise TopicUnavailable(f"the topic could not be asked: {type(error).__name__}") from error
        return None

    def _publisher(self) -> EventGridPublisherClient:
        with self._lock:
            if self._client is None:
                from azure.eventgrid import EventGridPublisherClient

                # For every event, the SDK warns of each option that it is given for the request.
                logging.getLogger("azure.eventgrid").setLevel(logging.ERROR)
                credential = AzureKeyCredential(self._key.reveal()) if self._key else azure_credential()
                self._client = EventGridPublisherClient(self._endpoint, credential)
            return self._client


def _cloud_event(notice: RunNotice) -> CloudEvent[Any]:
    return CloudEvent(
        id=notice.id,
        source=notice.source,
        type=notice.type,
        subject=notice.subject,
        time=notice.time,
        datacontenttype=CONTENT_TYPE,
        data=dict(notice.data),
    )


def _wire_bytes(event: CloudEvent[Any]) -> int:
    """Return how many bytes the SDK sends for an event: ASCII JSON with spaces after `:` and `,`."""
    wire = {
        "id": event.id,
        "source": event.source,
        "data": event.data,
        "type": event.type,
        "time": event.time.isoformat() if event.time else None,
        "specversion": event.specversion,
        "datacontenttype": event.datacontenttype,
        "subject": event.subject,
    }
    return len(json.dumps(wire))
