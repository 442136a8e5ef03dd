"""Airflow's REST API v2: what is sent, and what is made of each answer."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import requests

from bridge.adapters import airflow_rest
from bridge.adapters.airflow_rest import AirflowRest
from bridge.config import Secret, Target
from bridge.ports import Accepted, Answer, ParkedPage, ParkedTask, Refusal, RefusalKind, TaskView
from tests.fakes.clock import START
from tests.fakes.samples import MINUTE, TASK, a_completion, a_task
from tests.fakes.transport import Answer as Reply
from tests.fakes.transport import ScriptedTransport

URL = "https://airflow.example.com"
PATH = f"{URL}/api/v2/dags/orders/dagRuns/scheduled__2026-03-01T00%3A00%3A00%2B00%3A00/taskInstances/copy/-1"
INSTANCE = {"id": "ti-1", "state": "awaiting_input", "try_number": 1, "end_date": None}
PARKED = {
    "options": ["Succeeded", "Failed", "Cancelled", "Expired", "Unknown"],
    "responded_by_user": None,
    "responded_at": None,
    "chosen_options": None,
    "params_input": {},
    "response_received": False,
    "task_instance": INSTANCE,
}
ANSWERED = {
    **PARKED,
    "responded_by_user": {"id": "ada", "name": "Ada L."},
    "responded_at": "2026-03-01T12:00:00Z",
    "chosen_options": ["Succeeded"],
    "response_received": True,
}
NOBODY_WAITS: dict[str, Any] = {"hitl_details": [], "total_entries": 0}
CHECK = f"GET {URL}/api/v2/dags/~/dagRuns/~/hitlDetails?limit=1"
NO_ANSWER = {"detail": "Human-in-the-loop detail does not exist for Task Instance with id ti-1"}
BEARER = Target("prod", URL, "bearer", token=Secret("canary-token"))
BASIC = Target("prod", URL, "basic", username="bridge", password=Secret("canary-password"))
PASSWORD = Target("prod", URL, "password", username="bridge", password=Secret("canary-password"))


class Wire:
    """An adapter under test, on a scripted transport."""

    def __init__(self, airflow: AirflowRest, transport: ScriptedTransport) -> None:
        self.airflow = airflow
        self.transport = transport

    def read(self) -> TaskView | Refusal:
        """Read the sample task."""
        return self.airflow.read_task(TASK)

    def resume(self) -> Accepted | Refusal:
        """Answer the sample task."""
        return self.airflow.resume(TASK, a_completion())


Make = Callable[..., Wire]


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make an adapter whose session answers from a script: a list of answers, or one for every request."""

    def make(*replies: Reply, target: Target = BEARER, by: Callable[..., Reply] | None = None) -> Wire:
        script = iter(replies)
        transport = ScriptedTransport(by or (lambda request: next(script)))
        original = airflow_rest.new_session

        def session() -> requests.Session:
            made = original()
            made.mount("https://", transport)
            return made

        monkeypatch.setattr(airflow_rest, "new_session", session)
        return Wire(AirflowRest({"prod": target}), transport)

    return make


# --- reading ----------------------------------------------------------------------------------------------------------


def test_one_call_is_the_fence(wire: Make) -> None:
    """Reading a parked task costs one call, which tells the task instance and its answer."""
    one = wire((200, PARKED))
    assert TaskView("awaiting_input", 1, "ti-1") == one.read()
    assert [f"GET {PATH}/hitlDetails"] == one.transport.calls()


def test_an_answered_task(wire: Make) -> None:
    """S11: an answer tells whose token it holds, when it was given, and what was chosen."""
    given = {**ANSWERED, "params_input": {"token": TASK.token}}
    view = wire((200, given)).read()
    assert TaskView("awaiting_input", 1, "ti-1", answer=Answer(TASK.token, "Ada L.", START, ("Succeeded",))) == view


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"params_input": {"note": "x"}}, Answer(None, "Ada L.", START, ("Succeeded",))),
        ({"params_input": None}, Answer(None, "Ada L.", START, ("Succeeded",))),
        ({"params_input": {"token": 7}}, Answer(None, "Ada L.", START, ("Succeeded",))),
        ({"responded_by_user": {"id": "ada"}}, Answer(None, "ada", START, ("Succeeded",))),
        ({"responded_by_user": None, "responded_at": "soon"}, Answer(None, None, None, ("Succeeded",))),
        ({"response_received": False}, None),
        ({"response_received": None}, None),
    ],
)
def test_a_persons_answer(wire: Make, changes: dict[str, Any], expected: Answer | None) -> None:
    """S16: an answer without a token is a person's, and tells the person's name where Airflow gives it."""
    view = wire((200, {**ANSWERED, **changes})).read()
    assert isinstance(view, TaskView)
    assert expected == view.answer


def test_a_task_that_never_parked(wire: Make) -> None:
    """A task that never parked has no answer row; the task instance itself is read then."""
    one = wire((404, NO_ANSWER), (200, {**INSTANCE, "state": "running"}))
    assert TaskView("running", 1, "ti-1") == one.read()
    assert [f"GET {PATH}/hitlDetails", f"GET {PATH}"] == one.transport.calls()


def test_a_task_that_is_not_there(wire: Make) -> None:
    """S10: a task that Airflow does not know is told as such, once Airflow has shown that it answers otherwise."""
    one = wire((404, NO_ANSWER), (404, {"detail": "not found"}), (200, NOBODY_WAITS))
    assert Refusal(RefusalKind.NOT_FOUND, "Airflow answered 404: not found") == one.read()
    assert [f"GET {PATH}/hitlDetails", f"GET {PATH}", CHECK] == one.transport.calls()


def test_an_answer_to_a_task_that_is_not_there(wire: Make) -> None:
    """S10: that a task to be answered is not known is believed likewise: once Airflow answers otherwise."""
    one = wire((404, NO_ANSWER), (200, NOBODY_WAITS))
    assert Refusal(RefusalKind.NOT_FOUND, f"Airflow answered 404: {NO_ANSWER['detail']}") == one.resume()
    assert [f"PATCH {PATH}/hitlDetails", CHECK] == one.transport.calls()


@pytest.mark.parametrize(
    ("check", "kind"),
    [
        ((404, {"detail": "Not Found"}), RefusalKind.UNAVAILABLE),
        ((200, {"status": "ok"}), RefusalKind.UNAVAILABLE),
        ((200, b"<html>"), RefusalKind.UNAVAILABLE),
        ((502, b""), RefusalKind.UNAVAILABLE),
        ((403, {"detail": "Forbidden"}), RefusalKind.FORBIDDEN),
        ((429, {}), RefusalKind.THROTTLED),
        (requests.ConnectTimeout(), RefusalKind.UNREACHABLE),
    ],
)
def test_a_task_that_nobody_else_knows_either(wire: Make, check: Reply, kind: RefusalKind) -> None:
    """S10: where the target itself does not answer, a 404 says nothing of the task: it is the target's trouble."""
    refusal = wire((404, NO_ANSWER), (404, {"detail": "not found"}), check).read()
    assert isinstance(refusal, Refusal)
    assert kind is refusal.kind


@pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 422])
@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", {}, {"error": "API route not found"}, {"detail": ""}])
def test_a_refusal_in_other_words(wire: Make, status: int, body: object) -> None:
    """S07, S10: a refusal that is not in Airflow's words is a proxy's: it says nothing about the task."""
    for refusal in (wire((status, body)).read(), wire((status, body)).resume()):
        assert isinstance(refusal, Refusal)
        assert (RefusalKind.UNAVAILABLE, True) == (refusal.kind, "not in Airflow's words" in refusal.detail)


@pytest.mark.parametrize(
    "instance",
    [
        {},
        None,
        [],
        {"state": 1, "try_number": "x", "id": 5, "end_date": 7},
        {"id": "ti-1", "state": "running"},
        {"try_number": 1, "state": "running"},
    ],
)
def test_no_task_instance(wire: Make, instance: object) -> None:
    """S07, S14: an answer without a task instance in it proves nothing, least of all that the try is another one."""
    for replies in ([(200, {**PARKED, "task_instance": instance})], [(404, NO_ANSWER), (200, instance)]):
        view = wire(*replies).read()
        assert isinstance(view, Refusal)
        assert RefusalKind.UNAVAILABLE is view.kind


@pytest.mark.parametrize("changes", [{"state": 1, "end_date": 7}, {"state": None, "end_date": "soon"}])
def test_an_odd_task_instance(wire: Make, changes: dict[str, Any]) -> None:
    """What Airflow leaves out, or writes in another type, is unknown, never a crash and never a match."""
    assert TaskView(None, 1, "ti-1") == wire((200, {**PARKED, "task_instance": {**INSTANCE, **changes}})).read()


# --- answering --------------------------------------------------------------------------------------------------------


def test_the_answer(wire: Make) -> None:
    """A task is answered with the option of the outcome and the completion."""
    one = wire((200, {"responded_at": "x"}))
    assert Accepted() == one.resume()
    assert [f"PATCH {PATH}/hitlDetails"] == one.transport.calls()
    body = json.loads(one.transport.sent[0].body or "")
    assert (["Succeeded"], "completion/v1", TASK.token) == (
        body["chosen_options"],
        body["params_input"]["schema"],
        body["params_input"]["token"],
    )


def test_only_that_index(wire: Make) -> None:
    """S17: of a mapped task only the index that waits is read and answered."""
    one = wire(by=lambda request: (200, PARKED))
    task = a_task(task_id="group.copy", map_index=2)
    one.airflow.read_task(task)
    one.airflow.resume(task, a_completion(task))
    assert ["copy/2/hitlDetails"] * 2 == [(request.url or "").rsplit("group.", 1)[1] for request in one.transport.sent]


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("a/b", "a%2Fb"),
        ("a%2Fb", "a%252Fb"),
        ("a b", "a%20b"),
        ("a?b=c&d#e", "a%3Fb%3Dc%26d%23e"),
        ("ü💥", "%C3%BC%F0%9F%92%A5"),
        ("a+b:c;d,e'\"", "a%2Bb%3Ac%3Bd%2Ce%27%22"),
        ("a\nb\r", "a%0Ab%0D"),
        ("שלום\u202e", "%D7%A9%D7%9C%D7%95%D7%9D%E2%80%AE"),
        ("~-._", "~-._"),
    ],
)
def test_names_in_paths(wire: Make, name: str, encoded: str) -> None:
    """S33: every name is one segment of the path, whatever characters it has."""
    one = wire((200, PARKED))
    one.airflow.read_task(a_task(dag_id=name, run_id=name, task_id=name))
    expected = f"GET {URL}/api/v2/dags/{encoded}/dagRuns/{encoded}/taskInstances/{encoded}/-1/hitlDetails"
    assert [expected] == one.transport.calls()


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RefusalKind.INVALID),
        (401, RefusalKind.UNAUTHENTICATED),
        (403, RefusalKind.FORBIDDEN),
        (404, RefusalKind.NOT_FOUND),
        (405, RefusalKind.INVALID),
        (408, RefusalKind.UNAVAILABLE),
        (409, RefusalKind.CONFLICT),
        (422, RefusalKind.INVALID),
        (429, RefusalKind.THROTTLED),
        (500, RefusalKind.UNAVAILABLE),
        (502, RefusalKind.UNAVAILABLE),
        (503, RefusalKind.UNAVAILABLE),
        (504, RefusalKind.UNAVAILABLE),
        (301, RefusalKind.UNAVAILABLE),
        (302, RefusalKind.UNAVAILABLE),
        (307, RefusalKind.UNAVAILABLE),
    ],
)
def test_status_codes(wire: Make, status: int, kind: RefusalKind) -> None:
    """S09: each status code of Airflow is sorted into one kind of refusal."""
    one = wire(by=lambda request: (status, {"detail": "no"}) if request.method == "PATCH" else (200, NOBODY_WAITS))
    reply = one.resume()
    assert isinstance(reply, Refusal)
    assert (kind, True) == (reply.kind, f"Airflow answered {status}: no" in reply.detail)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (requests.ConnectTimeout(), RefusalKind.UNREACHABLE),
        (requests.exceptions.SSLError(), RefusalKind.UNAVAILABLE),
        (requests.ReadTimeout(), RefusalKind.UNAVAILABLE),
        (requests.ConnectionError("canary"), RefusalKind.UNAVAILABLE),
        (requests.exceptions.ChunkedEncodingError(), RefusalKind.UNAVAILABLE),
    ],
)
def test_lost_connections(wire: Make, error: Exception, kind: RefusalKind) -> None:
    """S13: a connection that was made and lost may have had its effect; one that was never made has not."""
    reply = wire(error).resume()
    assert isinstance(reply, Refusal)
    assert (kind, False) == (reply.kind, "canary" in reply.detail)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "asked"),
    [
        ("30", timedelta(seconds=30)),
        ("86400", 15 * MINUTE),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 15 * MINUTE),
        ("Thu, 01 Jan 1970 00:00:00 GMT", timedelta(0)),
    ],
)
def test_retry_after(wire: Make, status: int, header: str, asked: timedelta) -> None:
    """S12: a 429, or a 503 with Retry-After, asks to wait: seconds or a date, clamped to 15 minutes."""
    reply = wire((status, {}, {"Retry-After": header})).resume()
    assert Refusal(RefusalKind.THROTTLED, f"Airflow answered {status}", asked) == reply


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"", b"null"])
def test_an_answer_that_is_no_json(wire: Make, body: bytes) -> None:
    """A success that is no JSON object is not Airflow's: it proves nothing."""
    reply = wire((200, body)).resume()
    assert isinstance(reply, Refusal)
    assert RefusalKind.UNAVAILABLE is reply.kind


def test_a_long_reason_is_cut(wire: Make) -> None:
    """What Airflow says about a refusal is passed on, cut to 200 characters."""
    reply = wire((400, {"detail": "x" * 5_000})).resume()
    assert isinstance(reply, Refusal)
    assert len("Airflow answered 400: ") + 200 == len(reply.detail)


def test_no_redirect_is_followed(wire: Make) -> None:
    """S37: a redirect is a refusal: nothing is sent to where it points, and no credential with it."""
    one = wire(by=lambda request: (302, {}, {"Location": "http://169.254.169.254/metadata"}))
    assert isinstance(one.resume(), Refusal)
    assert [f"PATCH {PATH}/hitlDetails"] == one.transport.calls()


def test_no_cookie_is_kept(wire: Make) -> None:
    """A cookie that Airflow sets is not sent back: each request signs in by itself."""
    one = wire(by=lambda request: (200, PARKED, {"Set-Cookie": "session=x; Path=/"}))
    one.read()
    one.read()
    assert [None, None] == [request.headers.get("Cookie") for request in one.transport.sent]


def test_every_call_has_a_time_limit(wire: Make) -> None:
    """S42: no call may last longer than about 3 seconds to connect and 5 to read."""
    one = wire(by=lambda request: (201, {"access_token": "t"}), target=PASSWORD)
    one.resume()
    assert [(3.05, 5.0)] * 2 == [options["timeout"] for options in one.transport.options]


# --- signing in -------------------------------------------------------------------------------------------------------


class Api:
    """Airflow's sign-in: hands out numbered tokens and accepts only the newest."""

    def __init__(self, *, refusal: Reply, accepts: bool = True) -> None:
        self.tokens = 0
        self.refusal = refusal
        self.accepts = accepts

    def expire(self) -> None:
        """Have the token that was handed out no longer accepted."""
        self.tokens += 1

    def __call__(self, request: requests.PreparedRequest) -> Reply:
        """Answer a request."""
        if (request.url or "").endswith("/auth/token"):
            self.tokens += 1
            return (201, {"access_token": f"jwt-{self.tokens}"})
        signed = request.headers.get("Authorization") == f"Bearer jwt-{self.tokens}"
        return (200, PARKED) if signed and self.accepts else self.refusal


REFUSED = [
    pytest.param((401, {"detail": "Not authenticated"}), id="401"),
    pytest.param((403, {"detail": "Invalid JWT token"}), id="403-invalid-jwt"),
]


def test_a_token_is_kept(wire: Make) -> None:
    """Signing in happens once; its token serves many calls."""
    one = wire(by=Api(refusal=(401, {})), target=PASSWORD)
    for _ in range(3):
        assert isinstance(one.read(), TaskView)
    assert 1 == sum(call.endswith("/auth/token") for call in one.transport.calls())
    assert {"username": "bridge", "password": "canary-password"} == json.loads(one.transport.sent[0].body or "")


@pytest.mark.parametrize("refusal", REFUSED)
def test_a_token_that_ran_out_is_renewed(wire: Make, refusal: Reply) -> None:
    """S08: a token that Airflow no longer accepts is renewed, and the call is sent again."""
    api = Api(refusal=refusal)
    one = wire(by=api, target=PASSWORD)
    one.read()
    api.expire()
    assert isinstance(one.read(), TaskView)
    assert 5 == len(one.transport.sent)


@pytest.mark.parametrize("refusal", REFUSED)
def test_it_is_renewed_once(wire: Make, refusal: Reply) -> None:
    """S08: a sign-in that does not help is not tried over and over: one renewal, then the refusal is passed on."""
    one = wire(by=Api(refusal=refusal, accepts=False), target=PASSWORD)
    reply = one.resume()
    assert isinstance(reply, Refusal)
    assert (RefusalKind.UNAUTHENTICATED, 4) == (reply.kind, len(one.transport.sent))


def test_a_role_that_is_too_weak(wire: Make) -> None:
    """S09: a 403 for a role that is too weak is no matter of signing in: nothing is renewed."""
    one = wire(by=Api(refusal=(403, {"detail": "Forbidden"}), accepts=False), target=PASSWORD)
    assert Refusal(RefusalKind.FORBIDDEN, "Airflow answered 403: Forbidden") == one.resume()
    assert 2 == len(one.transport.sent)


@pytest.mark.parametrize("target", [BEARER, BASIC])
def test_fixed_credentials_are_not_renewed(wire: Make, target: Target) -> None:
    """S08: credentials that only an operator can change are tried once."""
    one = wire(by=lambda request: (401, {}), target=target)
    assert isinstance(one.resume(), Refusal)
    assert 1 == len(one.transport.sent)


@pytest.mark.parametrize(
    ("target", "header"),
    [(BEARER, "Bearer canary-token"), (BASIC, "Basic YnJpZGdlOmNhbmFyeS1wYXNzd29yZA==")],
)
def test_credentials_go_into_the_header(wire: Make, target: Target, header: str) -> None:
    """S34: credentials stand in the Authorization header, and in no URL."""
    one = wire((200, PARKED), target=target)
    one.read()
    (request,) = one.transport.sent
    assert (header, False) == (request.headers["Authorization"], "canary" in (request.url or ""))


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ((401, {"detail": "Invalid credentials"}), RefusalKind.UNAUTHENTICATED),
        ((422, {}), RefusalKind.UNAUTHENTICATED),
        ((404, {}), RefusalKind.UNREACHABLE),
        ((500, {}), RefusalKind.UNREACHABLE),
        ((201, {}), RefusalKind.UNREACHABLE),
        ((201, {"access_token": ""}), RefusalKind.UNREACHABLE),
        ((201, b"<html>"), RefusalKind.UNREACHABLE),
        ((302, {}, {"Location": "http://169.254.169.254"}), RefusalKind.UNREACHABLE),
        (requests.ConnectionError("canary"), RefusalKind.UNREACHABLE),
    ],
)
def test_a_sign_in_that_fails(wire: Make, reply: Reply, kind: RefusalKind) -> None:
    """S34: why no token could be had is told without the credentials, and the task's call is not sent."""
    one = wire(by=lambda request: reply, target=PASSWORD)
    refusal = one.resume()
    assert isinstance(refusal, Refusal)
    assert (kind, False) == (refusal.kind, "canary" in refusal.detail)
    assert {f"POST {URL}/auth/token"} == set(one.transport.calls())


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ((200, NOBODY_WAITS), None),
        ((200, {}), RefusalKind.UNAVAILABLE),
        ((403, {}), RefusalKind.FORBIDDEN),
        ((404, {"detail": "Not Found"}), RefusalKind.UNAVAILABLE),
    ],
)
def test_checking_a_target(wire: Make, reply: Reply, kind: RefusalKind | None) -> None:
    """A target's health is one cheap call that needs the sign-in."""
    one = wire(reply)
    refusal = one.airflow.check("prod")
    assert kind is (refusal.kind if refusal is not None else None)
    assert [CHECK] == one.transport.calls()


def test_listing_parked_tasks(wire: Make) -> None:
    """The parked tasks are listed page by page, with the names and the identity of each, until there are no more."""
    names = {"dag_id": "orders", "dag_run_id": "manual", "task_id": "copy", "map_index": 3}
    page = {"hitl_details": [{**PARKED, "task_instance": {**INSTANCE, **names}}], "total_entries": 102}
    one = wire((200, page), (200, {**page, "total_entries": 101}), (200, {"hitl_details": [], "total_entries": 7}))
    task = ParkedTask("orders", "manual", "copy", 3, 1, "ti-1")
    assert [ParkedPage([task], more=True), ParkedPage([task], more=False), ParkedPage([], more=False)] == [
        one.airflow.parked("prod", page=1) for _ in range(3)
    ]
    query = "state=awaiting_input&order_by=ti_id&limit=100&offset=100"
    assert f"GET {URL}/api/v2/dags/~/dagRuns/~/hitlDetails?{query}" == one.transport.calls()[0]


@pytest.mark.parametrize("answer", [{}, {"hitl_details": None}, {"hitl_details": [None, {}], "total_entries": "x"}])
def test_a_listing_that_makes_no_sense(wire: Make, answer: object) -> None:
    """S26: a listing of another shape shows no task of ours: the tasks are read singly."""
    page = wire((200, answer)).airflow.parked("prod", page=0)
    assert isinstance(page, ParkedPage)
    assert not [task for task in page.tasks if task.task_instance_id]


def test_a_refused_listing(wire: Make) -> None:
    """A listing that Airflow refuses is a refusal like any other."""
    refused = wire((429, {"detail": "slow down"})).airflow.parked("prod", page=0)
    assert isinstance(refused, Refusal)
    assert RefusalKind.THROTTLED is refused.kind


def test_a_listing_that_is_not_there(wire: Make) -> None:
    """S07: a target without the list of waiting tasks is not Airflow: that is the target's trouble."""
    refused = wire((404, {"detail": "Not Found"})).airflow.parked("prod", page=0)
    assert isinstance(refused, Refusal)
    assert RefusalKind.UNAVAILABLE is refused.kind
