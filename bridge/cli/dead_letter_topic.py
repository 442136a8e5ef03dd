"""Events that were dead letters, published again to an Event Grid topic, through azure-eventgrid: each by itself.

All who subscribe get them, not the bridge alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from bridge.cli.dead_letter import DeadLetter
from bridge.cli.dead_letter_queue import NotReachedError, NotSentError
from bridge.config import Secret

if TYPE_CHECKING:
    from azure.eventgrid import EventGridPublisherClient

_OPTIONS: Final[dict[str, Any]] = {"retry_total": 2, "permit_redirects": False, "connection_timeout": 5}
_OF_ONE_EVENT: Final = (400, 413)


class DeadLetterTopic:
    """A topic that gets events again. Without a key it is signed in to: the role EventGrid Data Sender."""

    def __init__(self, endpoint: str, key: Secret) -> None:
        """Connect to nothing yet."""
        self._endpoint = endpoint
        self._key = key

    def put(self, events: Sequence[DeadLetter]) -> Iterator[tuple[DeadLetter, NotSentError | None]]:
        """Publish events; tell of each what became of it. Raises NotReachedError."""
        from azure.core.exceptions import AzureError, HttpResponseError  # noqa: PLC0415 - slow to import

        with self._client() as client:
            for event in events:
                trouble = None
                try:
                    client.send(json.loads(event.body), **_OPTIONS)
                except HttpResponseError as error:
                    if error.status_code not in _OF_ONE_EVENT:
                        status = error.status_code or "that it is not there"
                        raise NotReachedError(f"the topic answered {status}") from None
                    trouble = NotSentError(f"the topic answered {error.status_code}: does its input schema fit?")
                except (AzureError, ValueError) as error:
                    raise NotReachedError(f"the topic cannot be reached ({type(error).__name__})") from None
                yield event, trouble

    def _client(self) -> EventGridPublisherClient:
        from azure.core.credentials import AzureKeyCredential  # noqa: PLC0415 - slow to import
        from azure.eventgrid import EventGridPublisherClient  # noqa: PLC0415 - slow to import

        from bridge.adapters.credentials import azure_credential  # noqa: PLC0415 - slow to import

        # For every event, the SDK warns of each option that it is given for the request.
        logging.getLogger("azure.eventgrid").setLevel(logging.ERROR)
        return EventGridPublisherClient(
            self._endpoint, AzureKeyCredential(self._key.reveal()) if self._key else azure_credential()
        )
