"""What the local Event Grid's topics take, sent by Microsoft's own publisher, and what they refuse."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from azure.core.credentials import AccessToken, AzureKeyCredential, AzureSasCredential, TokenCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridEvent, EventGridPublisherClient, generate_sas

from local.process import LocalProcess
from tests.component.stand_ins import TOPIC_KEY, Control, running_event_grid

TOKEN = "local-topic-token"
CLOUD_EVENTS = {"Content-Type": "application/cloudevents+json"}


@pytest.fixture(scope="module")
def event_grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalProcess]:
    """An Event Grid with a topic of each schema, for all tests of this module."""
    args = ("--topic", "legacy=EventGridSchema", "--topic-token", TOKEN)
    with running_event_grid(tmp_path_factory.mktemp("event_grid"), *args) as process:
        yield process


class _Token(TokenCredential):
    def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:
        assert scopes == ("https://eventgrid.azure.net/.default",)
        return AccessToken(TOKEN, 2**33)


def endpoint(event_grid: LocalProcess, topic: str = "runs") -> str:
    """The endpoint of a topic, as the service announced it."""
    return str(event_grid.ready["topics"][topic]["endpoint"])


def send(event_grid: LocalProcess, events: Any, credential: Any = None, topic: str = "runs", **options: Any) -> None:
    """Send with Microsoft's publisher; with the key unless there is another credential."""
    used = credential or AzureKeyCredential(TOPIC_KEY)
    with closing(EventGridPublisherClient(endpoint(event_grid, topic), used)) as client:
        client.send(events, **options)


def post(event_grid: LocalProcess, body: bytes, *, version: str = "2018-01-01", **headers: str) -> requests.Response:
    """Send by hand; headers are named with underscores."""
    sent = {
        "aeg-sas-key": TOPIC_KEY,
        **CLOUD_EVENTS,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return requests.post(endpoint(event_grid), data=body, params={"api-version": version}, headers=sent, timeout=10)


def taken(event_grid: LocalProcess) -> list[Any]:
    """Every event that the topics took."""
    return [one["event"] for one in Control(event_grid.url).get("events")["events"]]


def cloud_event(number: int = 0) -> CloudEvent[Any]:
    """A CloudEvent of Microsoft's own class."""
    return CloudEvent("/factory", "Tested", id=f"event-{number}", subject="a/b", data={"n": number})


def structured(**fields: Any) -> bytes:
    """A CloudEvent as it is on the wire; a field that is None is left out."""
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "T", "data": {}} | fields
    return json.dumps({name: value for name, value in event.items() if value is not None}).encode()


@pytest.mark.parametrize(
    "credential",
    [
        pytest.param(lambda _: AzureKeyCredential(TOPIC_KEY), id="the key"),
        pytest.param(
            lambda url: AzureSasCredential(generate_sas(url, TOPIC_KEY, datetime.now(UTC) + timedelta(hours=1))),
            id="a signature",
        ),
    ],
)
def test_the_publisher_sends_a_batch_of_cloud_events(event_grid: LocalProcess, credential: Any) -> None:
    """Two CloudEvents of Microsoft's publisher arrive as they were, whether the key or a signature opens the topic."""
    before = len(taken(event_grid))
    send(event_grid, [cloud_event(1), cloud_event(2)], credential(endpoint(event_grid)))

    assert [("event-1", {"n": 1}), ("event-2", {"n": 2})] == [
        (event["id"], event["data"]) for event in taken(event_grid)[before:]
    ]


def test_the_publisher_may_send_with_a_token(event_grid: LocalProcess) -> None:
    """The declared bearer token opens the topic for events given as dictionaries."""
    event = json.loads(structured(id="by token"))
    send(event_grid, event, _Token(), enforce_https=False)

    assert "by token" == taken(event_grid)[-1]["id"]


def test_the_publisher_sends_events_of_the_older_schema(event_grid: LocalProcess) -> None:
    """A topic of the Event Grid schema completes each event with the topic's id and the metadata version."""
    send(event_grid, EventGridEvent("a/b", "Tested", {"n": 1}, "1.0", id="old"), topic="legacy")

    event = taken(event_grid)[-1]
    assert ("old", event_grid.ready["topics"]["legacy"]["id"], "1") == (
        event["id"],
        event["topic"],
        event["metadataVersion"],
    )


def test_a_single_structured_event_is_taken_with_an_empty_answer(event_grid: LocalProcess) -> None:
    """One CloudEvent as an object, as a Web activity sends it, is answered 200 without a body."""
    answer = post(event_grid, structured(id="single"))

    assert (200, b"") == (answer.status_code, answer.content)
    assert "single" == taken(event_grid)[-1]["id"]


@pytest.mark.parametrize(
    "credential",
    [
        pytest.param(lambda _: AzureKeyCredential("another"), id="another key"),
        pytest.param(lambda _: AzureSasCredential("r=x&e=y&s=z"), id="no signature"),
        pytest.param(
            lambda url: AzureSasCredential(generate_sas(url, TOPIC_KEY, datetime.now(UTC) - timedelta(hours=1))),
            id="an expired signature",
        ),
        pytest.param(
            lambda url: AzureSasCredential(generate_sas(url + "x", TOPIC_KEY, datetime.now(UTC) + timedelta(hours=1))),
            id="a signature for another topic",
        ),
    ],
)
def test_a_wrong_credential_is_the_clients_authentication_error(event_grid: LocalProcess, credential: Any) -> None:
    """A credential that does not open the topic is 401 in the service's words, and nothing is taken."""
    before = len(taken(event_grid))
    with pytest.raises(ClientAuthenticationError, match="The request authorization key is not authorized for"):
        send(event_grid, cloud_event(), credential(endpoint(event_grid)))

    assert before == len(taken(event_grid))


def test_another_token_than_the_declared_one_is_refused(event_grid: LocalProcess) -> None:
    """A bearer token opens the topic only if it is the one that was given at the start."""
    headers = {**CLOUD_EVENTS, "Authorization": f"Bearer {TOKEN}x"}
    query = {"api-version": "2018-01-01"}
    answer = requests.post(endpoint(event_grid), data=structured(), params=query, headers=headers, timeout=10)

    assert (401, "Unauthorized") == (answer.status_code, answer.json()["error"]["code"])


def test_no_credential_is_told_which_there_are(event_grid: LocalProcess) -> None:
    """A request without any credential is 401, and its one detail repeats the error."""
    answer = requests.post(endpoint(event_grid), data=structured(), headers=CLOUD_EVENTS, timeout=10)

    error = answer.json()["error"]
    assert (401, "Unauthorized") == (answer.status_code, error["code"])
    assert "aeg-sas-token, aeg-sas-key" in error["message"]
    assert [{"code": error["code"], "message": error["message"]}] == error["details"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(b"{", "application/cloudevents+json", id="no JSON"),
        pytest.param(b"[" + structured() + b"]", "application/cloudevents+json", id="an array as a single event"),
        pytest.param(structured(), "application/cloudevents-batch+json", id="an object as a batch"),
        pytest.param(structured(), "application/json", id="another content type"),
        pytest.param(structured(id=None), "application/cloudevents+json", id="no id"),
        pytest.param(structured(source=""), "application/cloudevents+json", id="an empty source"),
        pytest.param(structured(type=7), "application/cloudevents+json", id="a number as the type"),
        pytest.param(structured(specversion="0.3"), "application/cloudevents+json", id="another version"),
    ],
)
def test_what_is_no_cloud_event_is_refused(event_grid: LocalProcess, body: bytes, content_type: str) -> None:
    """A body that is not exactly what its content type says is 400."""
    answer = post(event_grid, body, Content_Type=content_type)

    assert (400, "BadRequest") == (answer.status_code, answer.json()["error"]["code"])


def test_one_bad_event_spoils_the_whole_batch(event_grid: LocalProcess) -> None:
    """A batch is taken as a whole or not at all."""
    before = len(taken(event_grid))
    batch = b"[" + structured(id="good") + b"," + structured(id=None) + b"]"

    assert 400 == post(event_grid, batch, Content_Type="application/cloudevents-batch+json").status_code
    assert before == len(taken(event_grid))


def test_more_than_a_megabyte_is_too_large(event_grid: LocalProcess) -> None:
    """A request of more than 1 MB is the client's error with 413."""
    with pytest.raises(HttpResponseError) as refusal:
        send(event_grid, CloudEvent("/factory", "Tested", data="x" * 1024 * 1024))

    assert 413 == refusal.value.status_code


def test_another_api_version_is_refused(event_grid: LocalProcess) -> None:
    """Only the version that the publisher sends is known."""
    assert 400 == post(event_grid, structured(), version="2017-01-01").status_code


def test_a_topic_can_fail_on_demand(event_grid: LocalProcess) -> None:
    """A planned 503 makes the publisher try again; a planned 403 reaches the caller."""
    control = Control(event_grid.url)
    control.post("faults", [{"op": "publish", "status": 503, "retry_after": 0}, {"op": "publish", "status": 403}])
    with pytest.raises(HttpResponseError) as refusal:
        send(event_grid, cloud_event())

    assert 403 == refusal.value.status_code
    send(event_grid, cloud_event(9))
    assert "event-9" == taken(event_grid)[-1]["id"]
