"""What must never be seen: secrets and parameters, in whatever comes out of the bridge. And what its log looks like."""

import json

from tests.component.conftest import CALLER_SECRET
from tests.component.hosted_bridge import (
    CALLER_HEADER,
    EVENT_GRID_KEY,
    FUNCTION_KEY,
    MASTER_KEY,
    Bridge,
    run_event,
)
from tests.component.stand_ins import TOKEN, TOPIC_KEY
from tests.fakes_http.airflow import FakeAirflow

PARAMETER = "canary-parameter-value"


def log_lines(bridge: Bridge) -> list[dict[str, object]]:
    """The host's log but for the first line, which is not log."""
    text = bridge.process.log.read_text(encoding="utf-8")
    first, *lines = text.split("\n")[:-1]
    assert first.startswith("LISTENING ")
    return [json.loads(line) for line in lines]


def test_secrets_are_never_seen(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S34: no password, key, token or parameter is in any answer, story, list of events, log, or in the store,
    also where ADF and Airflow repeat them in their errors.
    """
    guarded = bridge.airflows["guarded"]
    secret = {"secret": PARAMETER}
    _, token, run_id = bridge.parked(
        guarded, dag_id="secrets", parameters=secret, headers={CALLER_HEADER: CALLER_SECRET}
    )
    bridge.complete(token, run_id)
    # Airflow's error repeats what it was sent.
    echo = {"detail": f"bad credentials {airflow.password} for {airflow.url}"}
    airflow.trouble("GET", "/hitlDetails", status=500, body=echo)
    _, echoed, echoed_run = bridge.parked(airflow, parameters=secret)
    bridge.complete(echoed, echoed_run)
    # So does ADF's.
    bridge.adf.post("faults", {"op": "createRun", "status": 400, "message": f"the value {PARAMETER} is wrong"})
    bridge.start(parameters=secret)
    bridge.start(key="other", parameters={"secret": 7, "x": PARAMETER}, factory="nobody")
    bridge.deliver(run_event(run_id, "Succeeded", id="more", data={"runId": run_id, "parameters": secret}))
    for path in ("/health", f"/waits/{token}", f"/waits/{echoed}", "/waits?limit=500", "/events?limit=500"):
        assert bridge.call("GET", path).ok
    shown = {
        "answers": "\n".join(bridge.answers),
        **{log.name: log.read_text(encoding="utf-8") for log in bridge.logs},
        **{file.name: file.read_bytes().decode("latin-1") for file in bridge.folder.glob("bridge.sqlite3*")},
    }
    assert {"answers", "functions_host.log", "adf.log", "event_grid.log", "bridge.sqlite3"} <= set(shown)
    secrets = {
        *(FUNCTION_KEY, EVENT_GRID_KEY, MASTER_KEY, CALLER_SECRET, PARAMETER, TOKEN, TOPIC_KEY),
        *(target.password for target in bridge.airflows.values()),
        *(issued for target in bridge.airflows.values() for issued in target.tokens),
    }
    assert [] == [(secret, place) for place, text in shown.items() for secret in secrets if secret in text]


def test_log_is_json(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S33: the log is one JSON object per line, whatever names are in it, and the bridge's own part is ASCII."""
    name = 'line\nbreak\r\u2028 "quote" \u202ertl 💥'
    _, token, run_id = bridge.parked(airflow, run_id=name, dag_id="käse")
    bridge.complete(token, run_id)
    bridge.deliver(run_event(run_id, id=name), {"id": name, "specversion": name})
    messages = [str(line["message"]) for line in log_lines(bridge) if line["logger"] == "bridge"]
    assert all(message.isascii() and "\n" not in message for message in messages)
    told = [json.loads(message) for message in messages]
    about = [line for line in told if line.get("token") == token]
    assert ["wait.registered", "wait.event", "wait.decided", "wait.delivered"] == [line["event"] for line in about]
    assert {("käse", run_id, airflow.name)} == {(line["dag_id"], line["run_id"], line["target"]) for line in about}


def test_invocations_are_told(bridge: Bridge) -> None:
    """A line that is logged while a function runs says which function, and which invocation of it."""
    bridge.deliver(run_event("some-run"))
    received = [line for line in log_lines(bridge) if '"event.received"' in str(line["message"])]
    assert ("run_event", True) == (received[-1]["function"], bool(received[-1]["invocation_id"]))
