"""Event Hubs triggers in the local Functions host: order, batches, retries, checkpoints, and what a crash leaves."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from local.functions_host.bindings import BindingError, parse_function
from local.functions_host.event_hub_log import PARTITIONS, EventHubLog
from local.functions_host.invocations import Invocations
from local.functions_host.keys import Keys
from local.functions_host.triggers.event_hub import EventHubTriggers
from local.functions_host.worker import Worker
from local.process import ProcessFailedError
from tests.component.hosted_app import MASTER_KEY, HostedApp, describe_host
from tests.component.stand_ins import eventually

HUB = "run-logs"
SETTINGS = {"HUB": HUB, "Hub__fullyQualifiedNamespace": "demo.servicebus.windows.net"}


class Hubs(HostedApp):
    """A running host with the test app's event hubs."""

    def send(self, *bodies: str | bytes, hub: str = HUB, key: str | None = "one") -> list[dict[str, int]]:
        """Send messages, to one partition by default."""
        query = {"partition_key": key} if key is not None else {}
        return [self.control("POST", f"{hub}/messages", data=body, params=query) for body in bodies]

    def control(self, method: str, path: str, **options: Any) -> Any:
        """Make a control call."""
        answer = self.call(method, f"/_local/event_hubs/{path}", headers={"x-functions-key": MASTER_KEY}, **options)
        assert answer.ok, answer.text
        return answer.json()

    def trouble(self, name: str) -> None:
        """Let a function fail from now on."""
        self.call("PUT", f"/api/trouble/{name}")

    def recover(self, name: str) -> None:
        """Let a function succeed again."""
        self.call("DELETE", f"/api/trouble/{name}")

    def drained(self, function: str, hub: str = HUB) -> dict[str, Any]:
        """How a function stands when it has done with all messages."""
        return eventually(lambda: shown if not (shown := self.shown(function, hub))["pending"] else None)

    def shown(self, function: str, hub: str = HUB) -> dict[str, Any]:
        """How a function stands."""
        return dict(self.control("GET", hub)["functions"][function])

    def bodies(self) -> list[str]:
        """Every message that was taken, in order."""
        return [body for one in self.seen() if "bodies" in one for body in one["bodies"]]


@contextmanager
def hosted_hubs(folder: Path) -> Iterator[Hubs]:
    """A host with the test app, whose pauses before a retry are a hundredth."""
    state = ("--state", str(folder / "state"), "--retry-factor", "0.01")
    process = describe_host(folder / "host.log", *state, app="event_hubs")
    process.env.update(SETTINGS)
    with process:
        yield Hubs(process)


@pytest.fixture(scope="module")
def calm_hubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hubs]:
    """A host for the tests that leave nothing behind."""
    with hosted_hubs(tmp_path_factory.mktemp("hubs")) as started:
        yield started


@pytest.fixture
def hubs(tmp_path: Path) -> Iterator[Hubs]:
    """A host that this test has for itself."""
    with hosted_hubs(tmp_path) as started:
        yield started


def test_what_a_function_is_given(hubs: Hubs) -> None:
    """A message arrives as it was sent, with its metadata as Microsoft's worker library reads it."""
    (sent,) = hubs.send(b"caf\xc3\xa9")
    hubs.drained("patient")
    expected = {
        "function": "patient",
        "bodies": ["café"],
        "sequence_numbers": [0],
        "keys": ["one"],
        "enqueued": True,
        "partition": str(sent["partition"]),
        "hub": HUB,
        "retry": [0, -1],
    }
    assert [expected] == hubs.seen()


def test_text(hubs: Hubs) -> None:
    """A function that takes text gets text, whatever bytes were sent."""
    hubs.send(b"\xff!", hub="hasty")
    hubs.drained("hasty", "hasty")
    assert ["�!"] == hubs.bodies()


def test_batches_in_order(hubs: Hubs) -> None:
    """A partition's messages come in order, in batches of at most `maxEventBatchSize`, no next one before the last."""
    hubs.trouble("patient")
    hubs.send("0")
    eventually(lambda: hubs.shown("patient")["failures"])
    hubs.send(*map(str, range(1, 8)))
    hubs.recover("patient")
    hubs.drained("patient")
    assert ([str(number) for number in range(8)], [1, 3, 3, 1]) == (
        hubs.bodies(),
        [len(one["bodies"]) for one in hubs.seen() if "bodies" in one],
    )


def test_partitions(hubs: Hubs) -> None:
    """Messages without a key are spread over all partitions; one that fails does not hold up the others."""
    sent = hubs.send(*"abcdefgh", key=None)
    hubs.drained("patient")
    assert (PARTITIONS, sorted("abcdefgh")) == (len({one["partition"] for one in sent}), sorted(hubs.bodies()))


def test_retries_without_end(hubs: Hubs) -> None:
    """A function whose retry policy has no end gets the same batch until it succeeds, and is told which retry it is."""
    hubs.trouble("patient")
    hubs.send("kept")
    eventually(lambda: hubs.shown("patient")["failures"] > 3)
    hubs.recover("patient")
    hubs.drained("patient")
    *failed, taken = hubs.seen()
    assert (list(range(len(failed))), ["kept"]) == ([one["retry"] for one in failed], taken["bodies"])


def test_retries_that_end(hubs: Hubs) -> None:
    """A batch that fails once more than its retry policy allows is passed over: it is lost, as on Azure."""
    hubs.trouble("limited")
    hubs.send("lost", hub="limited")
    assert 3 == hubs.drained("limited", "limited")["failures"]
    hubs.recover("limited")
    hubs.send("next", hub="limited")
    hubs.drained("limited", "limited")
    assert ["next"] == hubs.bodies()


def test_without_a_retry_policy(hubs: Hubs) -> None:
    """Without a retry policy, a batch that fails is lost at once."""
    hubs.trouble("hasty")
    hubs.send("lost", hub="hasty")
    assert 1 == hubs.drained("hasty", "hasty")["failures"]


def test_killed_before_a_success(hubs: Hubs) -> None:
    """S24: what a killed host had not done with comes again, and nothing that it had taken is lost."""
    hubs.trouble("patient")
    hubs.send("a", "b", "c", "d")
    eventually(lambda: hubs.shown("patient")["failures"])
    hubs.process.kill()
    hubs.process.start()
    hubs.drained("patient")
    assert ["a", "b", "c", "d"] == hubs.bodies()


def test_killed_after_a_success(hubs: Hubs) -> None:
    """S24: what a killed host had done with does not come again."""
    hubs.send("a", "b")
    hubs.drained("patient")
    hubs.process.kill()
    hubs.process.start()
    hubs.send("c")
    hubs.drained("patient")
    assert ["c"] == hubs.bodies()


def test_stopped_between_retries(hubs: Hubs) -> None:
    """A host that is told to stop leaves at once, and its batch comes again at the next start."""
    hubs.trouble("patient")
    hubs.send("a")
    eventually(lambda: hubs.shown("patient")["failures"])
    assert 0 == hubs.process.stop()
    hubs.process.start()
    hubs.drained("patient")
    assert ["a"] == hubs.bodies()


def test_run_by_hand(hubs: Hubs) -> None:
    """The host's own API hands a text to the function as a batch of one message."""
    body = {"input": "by hand"}
    answer = hubs.call("POST", "/admin/functions/patient", headers={"x-functions-key": MASTER_KEY}, json=body)
    assert 202 == answer.status_code
    eventually(lambda: hubs.bodies() == ["by hand"])


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        ("POST", f"{HUB}/messages", None, 401),
        ("POST", f"{HUB}/messages", "wrong", 401),
        ("POST", "elsewhere/messages", MASTER_KEY, 404),
        ("GET", "elsewhere", MASTER_KEY, 404),
        ("DELETE", HUB, MASTER_KEY, 404),
    ],
)
def test_refused_control_calls(calm_hubs: Hubs, method: str, path: str, key: str | None, status: int) -> None:
    """Control calls need the master key, and an event hub that a function reads."""
    headers = {"x-functions-key": key} if key else {}
    assert status == calm_hubs.call(method, f"/_local/event_hubs/{path}", headers=headers).status_code


def test_connection_that_is_not_configured(tmp_path: Path) -> None:
    """S41: a function whose connection has no settings is named, with the settings that it needs."""
    process = describe_host(tmp_path / "host.log", app="event_hubs")
    process.env["HUB"] = HUB
    with pytest.raises(ProcessFailedError, match="Hub__fullyQualifiedNamespace"):
        process.start()


@pytest.mark.parametrize(
    ("triggers", "reason"),
    [
        ([{"eventHubName": "a", "cardinality": "one"}], "one by one"),
        ([{"eventHubName": "", "cardinality": "many"}], "names no event hub"),
        ([{"eventHubName": "a", "cardinality": "many"}] * 2, "each would miss messages"),
    ],
)
def test_declarations_that_are_not_served(
    triggers: list[dict[str, str]], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A declaration that this host cannot serve is refused with the reason."""
    monkeypatch.setenv("Hub", "Endpoint=sb://demo/")
    functions = [parse_function("take", "1", [_binding(trigger)]) for trigger in triggers]
    with pytest.raises(BindingError, match=reason):
        EventHubTriggers(
            functions,
            Invocations(Worker(), None),
            Keys("f", "e", "m"),
            EventHubLog(None),
            batch_size=1,
            pause_factor=1,
        )


def _binding(trigger: dict[str, str]) -> str:
    return json.dumps({"type": "eventHubTrigger", "name": "events", "connection": "Hub", **trigger})
