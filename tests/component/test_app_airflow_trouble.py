"""What Airflow may answer instead of yes: expired tokens, no permission, conflicts, overload, redirects, errors."""

import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.component.hosted_bridge import FINAL, Bridge, Json, run_event
from tests.component.stand_ins import eventually
from tests.fakes_http.airflow import FakeAirflow
from tests.fakes_http.airflow_task import PARKED, AirflowTask

DETAILS = "/hitlDetails"


def ended(bridge: Bridge, airflow: FakeAirflow, **names: str) -> tuple[AirflowTask, str]:
    """A parked task whose run has ended, and whose wait has been attended to at least once."""
    task, token, run_id = bridge.parked(airflow, **names)
    bridge.end_run(run_id)
    # The webhook answers when the invocation's budget for trying again is used up, which is too late for a test.
    threading.Thread(target=bridge.deliver, args=(run_event(run_id),)).start()
    eventually(lambda: bridge.story(token)[3:])
    return task, token


def details(airflow: FakeAirflow) -> list[str]:
    """The methods of the calls about the task that is called `copy`, in order."""
    return [one.method for one in airflow.requests if one.path.endswith(f"/copy/-1{DETAILS}")]


def due_in(wait: Json) -> timedelta:
    """How long it is until a wait is due."""
    return datetime.fromisoformat(wait["due_at"]) - datetime.now(UTC)


def paused(bridge: Bridge, airflow: FakeAirflow) -> str | None:
    """Why a target is paused, as `GET /health` tells it."""
    target: Json = bridge.health()["targets"][airflow.name]
    assert target["paused"] == bool(target["paused_since"])
    because: str | None = target["paused_because"]
    return because


# --- signing in -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
def test_expired_token(bridge: Bridge, airflow: FakeAirflow, status: int) -> None:
    """S08: a token that has run out is renewed once, in the same attempt; the task is completed without delay."""
    ended(bridge, airflow, task_id="first")
    before = len(airflow.sign_ins)
    if status == 403:
        airflow.expire_tokens()
    else:
        airflow.trouble("GET", "/second/", status=401, body={"detail": "Not authenticated"})
    _, token = ended(bridge, airflow, task_id="second")
    wait = bridge.until(token, "delivered")
    assert (1, ["delivered"]) == (wait["attempts"], bridge.story(token)[3:])
    assert (before + 1, 2) == (len(airflow.sign_ins), len(airflow.patches))


def test_wrong_password(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S08: a refused password pauses the target, /health says so, and all resumes when it works again."""
    right, airflow.password = airflow.password, "another"
    airflow.expire_tokens()
    _, token = ended(bridge, airflow)
    assert ("due", 0) == (bridge.wait(token)["state"], bridge.wait(token)["attempts"])
    because = paused(bridge, airflow)
    assert because is not None
    assert "refused the user name or password" in because
    assert ("degraded", False) == (bridge.health()["status"], bridge.health()["targets"][airflow.name]["reachable"])
    airflow.password = right
    assert 1 == bridge.until(token, "delivered")["attempts"]
    assert (None, 1) == (paused(bridge, airflow), len(airflow.patches))


def test_missing_permission(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S09: 403 pauses the target without burning an attempt, and the task is completed when the role is given."""
    airflow.role = "viewer"
    _, token = ended(bridge, airflow)
    assert ("due", 0, "paused") == (
        bridge.wait(token)["state"],
        bridge.wait(token)["attempts"],
        bridge.story(token)[3],
    )
    assert "Airflow answered 403: Forbidden" == paused(bridge, airflow)
    airflow.role = "user"
    assert 1 == bridge.until(token, "delivered")["attempts"]
    assert None is paused(bridge, airflow)


def test_paused_target_is_left_alone(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S09: while a target is paused, other waits of it cause no calls, but for one probe when its time has come."""
    airflow.trouble("GET", "/first/", status=403, headers={"Retry-After": "900"}, body={"detail": "Forbidden"})
    ended(bridge, airflow, task_id="first")
    before = len(airflow.looks)
    _, token, run_id = bridge.parked(airflow, task_id="second")
    bridge.end_run(run_id)
    bridge.deliver(run_event(run_id))
    for _ in range(2):
        bridge.tick()
    assert (before, "due", 0) == (len(airflow.looks), bridge.wait(token)["state"], bridge.wait(token)["attempts"])


# --- conflicts --------------------------------------------------------------------------------------------------------


def test_conflict_with_our_own_answer(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S11: 409 because the answer is already ours means that it is done."""
    airflow.trouble("PATCH", DETAILS, applied=True, status=409, body={"detail": "already been updated"})
    _, token = ended(bridge, airflow)
    assert ("delivered", 1) == (bridge.until(token, *FINAL)["state"], len(airflow.patches))


def test_conflict_with_another_answer(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S11: 409 because of an older try's answer is no end: the task parks again, and is answered then."""
    task, token, run_id = bridge.parked(airflow)

    def answer_of_an_older_try() -> None:
        task.answer(["Failed"], by="adf-bridge", params={"token": "0" * 64})
        task.state = PARKED

    airflow.trouble("PATCH", DETAILS, meanwhile=answer_of_an_older_try)
    for then in (None, None, task.park):
        airflow.trouble("GET", DETAILS, meanwhile=then)
    bridge.complete(token, run_id)
    assert ["GET", "PATCH", "GET", "GET", "PATCH", "GET"] == details(airflow)
    assert task.question is not None
    assert token == task.question.params_input["token"]


def test_conflict_with_a_person(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S11, S16: a person who answers between our look and our PATCH wins, and is named."""
    task, token, run_id = bridge.parked(airflow)
    airflow.trouble("PATCH", DETAILS, meanwhile=lambda: task.answer(["Cancelled"], by="ann"))
    wait = bridge.complete(token, run_id)
    assert ("overridden", 1) == (wait["state"], len(airflow.patches))
    assert "ann answered Cancelled in Required Actions" == wait["timeline"][-1]["detail"]


# --- overload ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "form"), [(429, "seconds"), (503, "date")])
def test_retry_after(bridge: Bridge, airflow: FakeAirflow, status: int, form: str) -> None:
    """S12: Airflow is not called again before the time that it asked for, in seconds or as a date."""
    asked = "2" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
    airflow.trouble("GET", DETAILS, status=status, headers={"Retry-After": asked}, body={"detail": "slow down"})
    _, token = ended(bridge, airflow)
    bridge.until(token, "delivered")
    assert "slow down" in bridge.wait(token)["timeline"][3]["detail"]
    first, second = airflow.seen("GET", f"/copy/-1{DETAILS}")[:2]
    assert 1.9 <= second.at - first.at


@pytest.mark.parametrize("asked", ["999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_absurd_retry_after(bridge: Bridge, airflow: FakeAirflow, asked: str) -> None:
    """S12: however long Airflow asks to be left alone, it is asked again within fifteen minutes."""
    airflow.trouble("GET", DETAILS, status=503, headers={"Retry-After": asked})
    _, token = ended(bridge, airflow)
    assert timedelta(minutes=14) < due_in(bridge.wait(token)) <= timedelta(minutes=15)


@pytest.mark.parametrize("asked", ["Fri, 31 Dec 1999 23:59:59 GMT"])
def test_senseless_retry_after(bridge: Bridge, airflow: FakeAirflow, asked: str) -> None:
    """S12: a Retry-After that says nothing, or lies in the past, leaves the usual backoff."""
    airflow.trouble("GET", DETAILS, status=429, headers={"Retry-After": asked})
    _, token = ended(bridge, airflow)
    bridge.until(token, "delivered")
    assert 1 == len(airflow.patches)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["500", "cut"])
def test_error_after_the_change(bridge: Bridge, airflow: FakeAirflow, how: str) -> None:
    """S13: an error after Airflow took the answer is looked into before anything is sent again; nothing is."""
    if how == "cut":
        airflow.trouble("PATCH", DETAILS, applied=True, cut=True)
    else:
        airflow.trouble("PATCH", DETAILS, applied=True, status=int(how), body={"detail": "Internal Server Error"})
    _, token = ended(bridge, airflow)
    bridge.until(token, "delivered")
    assert 1 == len(airflow.patches)


def test_error_before_the_change(bridge: Bridge, airflow: FakeAirflow) -> None:
    """An error before Airflow took the answer is tried again, after another look."""
    airflow.trouble("PATCH", DETAILS, status=500)
    _, token = ended(bridge, airflow)
    bridge.until(token, "delivered")
    assert ["GET", "PATCH", "GET", "PATCH", "GET"] == details(airflow)


def test_failing_target_does_not_hold_up_others(bridge: Bridge) -> None:
    """S07, S42: events for a target that fails are taken, and another target's task is completed meanwhile."""
    broken, sound = bridge.fresh_airflow(), bridge.fresh_airflow()
    broken.trouble("GET", DETAILS, status=500, headers={"Retry-After": "3"})
    _, broken_token = ended(bridge, broken)
    _, token = ended(bridge, sound)
    assert ["due", "delivered"] == [bridge.wait(one)["state"] for one in (broken_token, token)]
    bridge.until(broken_token, "delivered")
    assert 1 == len(broken.patches)


def test_slow_target_does_not_hold_up_others(bridge: Bridge) -> None:
    """S42: events for a target that does not answer leave threads free: while they wait, another's task is resumed."""
    slow, quick = bridge.fresh_airflow(), bridge.fresh_airflow()
    answer = threading.Event()
    slow.trouble("GET", DETAILS, until=answer, times=1_000)
    parked = [bridge.parked(slow, task_id=f"copy_{number}") for number in range(20)]
    task, _, quick_run = bridge.parked(quick)
    runs = [run_id for _, _, run_id in parked]
    for run_id in (*runs, quick_run):
        bridge.end_run(run_id)
    for run_id in runs:
        threading.Thread(target=bridge.deliver, args=(run_event(run_id),)).start()
    eventually(lambda: slow.looks and all("getRun" in bridge.calls(run_id) for run_id in runs))
    bridge.deliver(run_event(quick_run))
    assert ("scheduled", 0) == (task.state, slow.given_up)
    answer.set()
    for _, token, _ in parked:
        bridge.until(token, "delivered")


def test_unknown_task(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S10: a task that Airflow does not know (yet) is asked for again, and not given up at once."""
    _, token, run_id = bridge.parked(airflow)
    airflow.trouble("GET", "/copy/", status=404, body={"detail": "was not found"}, times=2)
    bridge.complete(token, run_id)
    assert ["decided", "missing", "delivered"] == bridge.story(token)[2:]


def test_page_of_a_proxy(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S07, S10: a proxy's 404, while there is no Airflow behind it, says nothing of the task: the call failed."""
    _, token, run_id = bridge.parked(airflow)
    airflow.trouble("GET", "/api/v2/", status=404, body=b"<html><h1>404 Not Found</h1></html>", times=2)
    bridge.complete(token, run_id)
    assert ["decided", "failed", "failed", "delivered"] == bridge.story(token)[2:]


# --- redirects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", DETAILS, 302), ("PATCH", DETAILS, 307), ("POST", "/auth/token", 307)]
)
def test_redirect(bridge: Bridge, airflow: FakeAirflow, method: str, path: str, status: int) -> None:
    """S37: a redirect to another server is never followed: it sees no call, no token, no password."""
    trap = bridge.airflows["trap"]
    airflow.trouble(method, path, status=status, headers={"Location": f"{trap.url}/api/v2/version"})
    airflow.expire_tokens()
    _, token = ended(bridge, airflow)
    bridge.until(token, "delivered")
    assert [] == trap.requests
    told = [line["detail"] for line in bridge.wait(token)["timeline"] if line["what"] == "failed"]
    assert "a redirect: the target's URL is not Airflow's own" in told[0] or "/auth/token answered 307" in told[0]


def test_recovery(bridge: Bridge, airflow: FakeAirflow) -> None:
    """S07: the waits of a target that was paused are all delivered when it is back, each once."""
    airflow.trouble("GET", "/gate/", status=429, headers={"Retry-After": "2"})
    _, token, run_id = bridge.parked(airflow, task_id="gate")
    tokens, events = [token], [run_event(run_id)]
    for number in range(20):
        _, token, run_id = bridge.parked(airflow, task_id=f"copy_{number}")
        bridge.end_run(run_id)
        tokens.append(token)
        events.append(run_event(run_id))
    bridge.end_run(events[0]["data"]["runId"])
    bridge.deliver(events[0])
    bridge.deliver(*events[1:])
    for token in tokens:
        bridge.until(token, "delivered")
    assert 21 == len({patch.path for patch in airflow.patches}) == len(airflow.patches)
