"""`python -m bridge replay`: verdicts on dead letters, Event Grid's blobs, and being called wrongly."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge import cli, http_api, queue_events, queue_requests
from bridge.cli import dead_letter
from bridge.cli.dead_letter import DeadLetter
from bridge.cli.dead_letter_verdict import Verdicts
from bridge.cli.explain import Bridge
from bridge.config import Secret
from bridge.errors import Problem
from bridge.model import RunKey, RunStatus
from bridge.queue_requests import RequestMessage
from tests.fakes.bench import ENVIRONMENT, Bench
from tests.fakes.clock import START
from tests.fakes.samples import FACTORY, KEY, OTHER_FACTORY, TASK, cloud_event, event_json, run_body

ALLOWED = (FACTORY, OTHER_FACTORY)
WRAPPER, CHILD = RunKey(FACTORY, "run-1"), RunKey(FACTORY, "child-1")
ELSEWHERE = FACTORY.arm_id.replace(FACTORY.name, "adf-strange")
ADDED = {"deadletterreason": "MaxDeliveryAttemptsExceeded", "deliveryattempts": 30, "lastdeliveryoutcome": "NotFound"}


class BenchBridge(Bridge):
    """A bridge on fakes, asked by way of its real HTTP API."""

    def __init__(self, bench: Bench) -> None:
        super().__init__("https://bridge.example/api", Secret("key"))
        self._bench = bench

    def _ask(self, path: str) -> tuple[int, Mapping[str, Any] | None]:
        what, _, name = path.partition("/")
        call, part = {"runs": (http_api.get_run, "run_id"), "waits": (http_api.get_wait, "token")}[what]
        response = self._bench.call(call, path={part: name})
        return response.status, json.loads(response.body)


@pytest.fixture
def bench() -> Bench:
    """A bridge that knows nothing yet."""
    return Bench()


def letter(body: bytes | str, name: str = TASK.token) -> DeadLetter:
    """A dead letter."""
    return DeadLetter("a queue", name, body.encode() if isinstance(body, str) else body, "why")


def verdict_now(bench: Bench, body: str) -> str:
    """The verdict that a dry run shows for an event, without its reason."""
    return Verdicts(BenchBridge(bench), ALLOWED, bench.clock.now()).of_event(letter(body)).partition(":")[0]


def verdict_then(bench: Bench, body: str) -> str:
    """The verdict that the event then gets when it is sent."""
    queue_events.take(bench.app, body.encode())
    (newest,) = bench.store.inner.events(verdict=None, run_id=None, limit=1)
    return newest.verdict.value


def a_waiting(bench: Bench) -> None:
    """Somebody waits for the run."""
    bench.adf.begin(KEY)
    bench.airflow.run(TASK)
    bench.register()
    bench.airflow.park(TASK)
    bench.clock.advance(timedelta(minutes=5))


def an_unheard(bench: Bench) -> None:
    """Somebody waits for the run, which has ended."""
    a_waiting(bench)
    bench.adf.end(KEY, RunStatus.SUCCEEDED)


def an_unheard_child(bench: Bench) -> None:
    """Somebody waits for the wrapper's run, whose child has ended."""
    bench.adf.wrap("copy_orders", "day")
    bench.airflow.run(TASK)
    bench.start()
    bench.airflow.park(TASK)
    bench.adf.begin_child(CHILD, WRAPPER)
    bench.clock.advance(timedelta(minutes=5))
    bench.adf.end(CHILD, RunStatus.SUCCEEDED)


def an_ended(bench: Bench) -> None:
    """Somebody waited for the run, and was told."""
    an_unheard(bench)
    bench.event()


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "body", "expected"),
    [
        pytest.param(None, event_json(), "parked", id="nobody waits"),
        pytest.param(an_unheard, event_json(), "matched", id="somebody waits"),
        pytest.param(a_waiting, event_json(status="InProgress"), "noted", id="no end"),
        pytest.param(
            an_unheard_child,
            event_json(data={"runId": CHILD.run_id, "parentRunId": WRAPPER.run_id, "status": "Succeeded"}),
            "matched",
            id="somebody waits for the run that started it",
        ),
        pytest.param(an_ended, event_json(), "duplicate", id="known"),
        pytest.param(an_ended, event_json(status="InProgress"), "duplicate", id="late"),
        pytest.param(None, event_json(source=ELSEWHERE), "rejected", id="another factory"),
        pytest.param(None, event_json(source="factories/nobody"), "rejected", id="another factory by name"),
        pytest.param(None, event_json(type="Another.Event"), "rejected", id="another event"),
        pytest.param(None, event_json(status="Resting"), "unknown-status", id="unknown status"),
        pytest.param(None, event_json(data={}), "malformed", id="no run"),
        pytest.param(None, "{", "malformed", id="no JSON"),
    ],
)
def test_the_verdict_is_what_comes(bench: Bench, before: Any, body: str, expected: str) -> None:
    """S40: the verdict that a dry run shows is the one that the event gets when it is sent then."""
    if before is not None:
        before(bench)
    assert (expected, expected) == (verdict_now(bench, body), verdict_then(bench, body))


def test_a_dry_run_writes_nothing(bench: Bench) -> None:
    """S40: looking at an event for which somebody waits changes nothing: neither a story nor a list of events."""
    a_waiting(bench)
    reads, story = bench.adf.reads.total(), bench.wait().timeline
    verdict_now(bench, event_json())
    assert (reads, story, []) == (
        bench.adf.reads.total(),
        bench.wait().timeline,
        bench.store.inner.events(verdict=None, run_id=None, limit=9),
    )


@pytest.mark.parametrize(
    ("body", "name", "verdict"),
    [
        (json.dumps(run_body()), TASK.token, "no record"),
        (json.dumps(run_body(None)), "own-key", "no record"),
        ("{", TASK.token, "refused"),
        (json.dumps(run_body()), "", "refused"),
    ],
)
def test_requests(bench: Bench, body: str, name: str, verdict: str) -> None:
    """S40: a request that has no record is shown as new, and one that makes no sense as refused."""
    assert (
        verdict
        == Verdicts(BenchBridge(bench), ALLOWED, bench.clock.now()).of_request(letter(body, name)).partition(":")[0]
    )


def test_a_request_that_comes_too_late(bench: Bench) -> None:
    """S40: a request whose deadline passed while it was a dead letter is shown as refused, and is."""
    body = json.dumps(run_body())
    bench.clock.advance(timedelta(days=1))
    told = Verdicts(BenchBridge(bench), ALLOWED, bench.clock.now()).of_request(letter(body))
    with pytest.raises(Problem):
        queue_requests.take(bench.app, RequestMessage(TASK.token, body.encode()))
    assert (True, 0) == (told.startswith("refused: its deadline was "), len(bench.adf.creates))


@pytest.mark.parametrize(
    ("task", "name", "expected"),
    [
        (TASK, TASK.token, "answered from its record: its wait is open"),
        (None, "own-key", "has a record: "),
    ],
)
def test_requests_with_a_record(bench: Bench, task: Any, name: str, expected: str) -> None:
    """S40: a request that started its run is shown as having its record, and sending it again starts nothing."""
    body = json.dumps(run_body(task))
    queue_requests.take(bench.app, RequestMessage(name, body.encode()))
    told = Verdicts(BenchBridge(bench), ALLOWED, bench.clock.now()).of_request(letter(body, name))
    queue_requests.take(bench.app, RequestMessage(name, body.encode()))
    assert (True, 1) == (told.startswith(expected), len(bench.adf.creates))


def test_nobody_is_asked_without_a_bridge() -> None:
    """Without a bridge to ask, a verdict says what it does not know."""
    verdicts = Verdicts(None, (), START)
    request, event, named = (
        verdicts.of_request(letter(json.dumps(run_body()))),
        verdicts.of_event(letter(event_json())),
        verdicts.of_event(letter(event_json(source="factories/nobody"))),
    )
    assert ("--url" in request, "--url" in event, "BRIDGE_FACTORIES" in named) == (True, True, True)


# --- blobs ------------------------------------------------------------------------------------------------------------


def blob(folder: Path, *events: object, name: str = "a.json") -> Path:
    """A dead-letter blob."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(events), encoding="utf-8")
    return path


@pytest.mark.parametrize("spelled", [str, lambda name: f"{name[0].upper()}{name[1:]}"], ids=["cloud", "grid"])
def test_what_event_grid_added_is_taken_off(tmp_path: Path, spelled: Any) -> None:
    """S40: an event of a blob is sent as it was published, and shown with the reason that Event Grid gave."""
    added = {spelled(name): value for name, value in ADDED.items()}
    (one,) = dead_letter.events_in(blob(tmp_path, {**cloud_event(), **added}))
    assert (cloud_event(), f"{KEY.run_id}/Succeeded", "MaxDeliveryAttemptsExceeded after 30 attempts NotFound") == (
        json.loads(one.body),
        one.id,
        one.why,
    )


def test_a_folder_of_blobs(tmp_path: Path) -> None:
    """Of a folder all JSON files count, in all folders below it, in order."""
    blob(tmp_path, cloud_event(), name="b/2.json")
    blob(tmp_path, cloud_event(), name="a/1.json")
    blob(tmp_path, cloud_event(), name="a/1.txt")
    assert ["1.json", "2.json"] == [path.name for path in dead_letter.files_in(tmp_path)]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[]", b"[7]", b"7", b"[" * 100_000])
def test_files_that_are_no_blobs(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that holds no events is named, the others are shown, and the exit code says that not all was read."""
    blob(tmp_path, {**cloud_event(), **ADDED}, name="good.json")
    (tmp_path / "bad.json").write_bytes(content)
    assert 1 == cli.main(["replay", str(tmp_path), "--dry-run"], {})
    shown = capsys.readouterr()
    assert (True, True) == ("bad.json" in shown.err, f"{KEY.run_id}/Succeeded" in shown.out)


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run shows where each is, its id, why it became a dead letter, and its verdict, in columns of one line."""
    blob(tmp_path, {**cloud_event(), **ADDED}, {**cloud_event(id="x\ny", type="Another\x1b.Event"), **ADDED})
    assert 0 == cli.main(["replay", str(tmp_path), "--dry-run"], ENVIRONMENT)
    header, *rows = capsys.readouterr().out.splitlines()
    why = "MaxDeliveryAttemptsExceeded after 30 attempts NotFound"
    unasked = "a run event, says Succeeded; whether anybody waits was not asked (--url)"
    assert ["from", "id", "why it is there", "verdict now"] == [cell.strip() for cell in header.split("  ") if cell]
    assert [
        ["a.json", f"{KEY.run_id}/Succeeded", why, unasked],
        ["a.json", "x\\ny", why, "rejected: not a run event: type 'Another\\x1b.Event'"],
    ] == [[cell.strip() for cell in row.split("  ") if cell] for row in rows]  # fmt: skip


def test_a_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not more than the limit are shown."""
    blob(tmp_path, *(cloud_event(id=str(number)) for number in range(5)))
    assert 0 == cli.main(["replay", str(tmp_path), "--dry-run", "--limit", "2"], {})
    assert 3 == len(capsys.readouterr().out.splitlines())


# --- called wrongly ---------------------------------------------------------------------------------------------------

BUS = {"BRIDGE_SERVICEBUS__fullyQualifiedNamespace": "bus.servicebus.windows.net", "BRIDGE_EVENTS_QUEUE": "e"}
URL = ("--url", "https://bridge.example")


@pytest.mark.parametrize(
    ("arguments", "environment", "complaint"),
    [
        ([], {}, "set BRIDGE_REQUESTS_QUEUE or BRIDGE_EVENTS_QUEUE"),
        (["--queue", "requests"], BUS, "set BRIDGE_REQUESTS_QUEUE"),
        ([], {"BRIDGE_EVENTS_QUEUE": "e"}, "BRIDGE_SERVICEBUS__fullyQualifiedNamespace"),
        (["--queue", "others"], BUS, "invalid choice"),
        (["--limit", "0"], BUS, "whole number"),
        (["FILE", "--queue", "events"], BUS, "either files"),
        (["--topic", "https://a.b-1.eventgrid.azure.net/api/events"], BUS, "--topic is for"),
        (["FILE"], {}, "events need a way"),
        (["FILE", "--topic", "http://127.0.0.1:1/api/events"], {}, "BRIDGE_TOPIC_KEY"),
        (["nowhere.json"], BUS, "no such file"),
        (["--dry-run", *URL], BUS, "go together"),
        (["--dry-run", "--key", "k"], BUS, "go together"),
        (["--dry-run", *URL, "--key-env", "NONE"], BUS, "no function key"),
        ([*URL, "--key", "k"], BUS, "--url is for --dry-run"),
        (["FILE", "--dry-run"], {"BRIDGE_FACTORIES": "nonsense"}, "BRIDGE_FACTORIES"),
    ],
)
def test_called_wrongly(
    tmp_path: Path,
    arguments: list[str],
    environment: dict[str, str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What cannot be meant is refused with the reason, before anything is sent."""
    file = str(blob(tmp_path, cloud_event()))
    with pytest.raises(SystemExit) as ended:
        cli.main(["replay", *(file if one == "FILE" else one for one in arguments)], environment)
    assert (2, True) == (ended.value.code, complaint in capsys.readouterr().err.replace("\n", " "))


def test_secrets_are_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    """S34: a connection string that is wrong is refused without being shown."""
    with pytest.raises(SystemExit):
        cli.main(["replay"], {"BRIDGE_SERVICEBUS": "Endpoint=sb://x/;canary-key", "BRIDGE_EVENTS_QUEUE": "e"})
    shown = capsys.readouterr()
    assert "canary" not in shown.err + shown.out


def test_problems_are_told_by_their_codes(bench: Bench) -> None:
    """The code that a dry run shows for a request that makes no sense is the one that it is refused with."""
    with pytest.raises(Problem) as caught:
        queue_requests.take(bench.app, RequestMessage("key", b"["))
    assert f"refused: {caught.value.code}" == Verdicts(None, (), START).of_request(letter("["))
