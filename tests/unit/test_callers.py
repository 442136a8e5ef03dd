"""Who may call for a target: by its secret, by a token of one of its apps, and in which factories."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from bridge import http_api
from bridge.callers import CALLER_HEADER, TokenRefused
from bridge.errors import EntraUnavailable
from bridge.http_api import Request, Response
from bridge.model import RunKey, WaitState
from tests.fakes.bench import Bench
from tests.fakes.samples import FACTORY, KEY, OTHER_FACTORY, TASK, a_task, run_body, wait_body
from tests.fakes_http.entra import APP, BRIDGE_APP, OTHER_APP, TENANT

PROD, DEV = "BRIDGE_AIRFLOW__PROD__", "BRIDGE_AIRFLOW__DEV__"
SECRET, CANARY = "canary-secret", "canary-token"
ENTRA = {"BRIDGE_ENTRA_TENANT": TENANT, "BRIDGE_ENTRA_AUDIENCE": BRIDGE_APP}
APPS = {PROD + "CALLER_APPS": APP, **ENTRA}
BOTH = {PROD + "CALLER_SECRET": SECRET, **APPS}
DEV_TASK = a_task(target="dev")
Headers = Mapping[str, str]
NOBODY: Headers = {}
OTHER_RUN = RunKey(OTHER_FACTORY, "run-of-the-other")


class FakeTokens:
    """Knows a token by its words: `of APP`. `down` says that nothing can be said of any."""

    def __init__(self) -> None:
        self.down = False
        self.asked = 0

    def app_of(self, token: str) -> str:
        """Return the app."""
        self.asked += 1
        if self.down:
            raise EntraUnavailable("Entra's signing keys cannot be had", retry_after=timedelta(seconds=10))
        if not token.startswith("of-"):
            raise TokenRefused("has expired")
        return token.removeprefix("of-")

    def check(self) -> str | None:
        """Tell whether it is down."""
        return "ConnectTimeout" if self.down else None


def bridge(settings: Mapping[str, str] = NOBODY) -> tuple[Bench, FakeTokens]:
    """A bridge with a run that goes on and tasks that run."""
    tokens = FakeTokens()
    bench = Bench(None, stores=None, tokens=tokens, **settings)
    bench.adf.begin(KEY)
    bench.adf.begin(OTHER_RUN)
    bench.airflow.run(TASK)
    return bench, tokens


def bearer(token: str) -> dict[str, str]:
    """The header with a token."""
    return {"authorization": f"Bearer {token}"}


def start(bench: Bench, headers: Headers = NOBODY) -> Response:
    """`POST /runs` with a wait."""
    sent = {"idempotency-key": TASK.token, **headers}
    return bench.call(http_api.post_run, body=run_body(), headers=sent)


def start_without_wait(bench: Bench, headers: Headers = NOBODY, *, factory: str = "demo") -> Response:
    """`POST /runs` without a wait."""
    body = {name: value for name, value in run_body(factory=factory).items() if name != "wait"}
    return bench.call(http_api.post_run, body=body, headers={"idempotency-key": "k", **headers})


def wait_for(bench: Bench, headers: Headers = NOBODY, *, key: RunKey = KEY) -> Response:
    """`POST /waits`."""
    body = {"factory": key.factory.arm_id, "run_id": key.run_id, **wait_body()}
    return bench.call(http_api.post_wait, body=body, headers=headers)


def wait_for_next(bench: Bench, headers: Headers = NOBODY, *, factory: str) -> Response:
    """`POST /waits` with a match."""
    match = {"factory": factory, "pipeline": "ingest", "since": "2026-03-01T11:00:00+00:00"}
    return bench.call(http_api.post_wait, body={"match": match, **wait_body()}, headers=headers)


def cancel(bench: Bench, headers: Headers = NOBODY, *, key: RunKey = KEY) -> Response:
    """`POST /runs/{run_id}/cancel`."""
    body = {"factory": key.factory.arm_id}
    return bench.call(http_api.cancel_run, path={"run_id": key.run_id}, body=body, headers=headers)


def withdraw(bench: Bench, headers: Headers = NOBODY) -> Response:
    """`DELETE /waits/{token}`."""
    return bench.call(http_api.delete_wait, path={"token": TASK.token}, headers=headers)


def told(response: Response) -> tuple[int, str]:
    """The status, and the code of a problem."""
    document: dict[str, Any] = json.loads(response.body)
    return response.status, document.get("code", "")


NOT_ALLOWED, ELSEWHERE = (403, "caller-not-allowed"), (403, "factory-not-allowed")
GIVEN = [
    pytest.param(BOTH, {}, False, id="nothing"),
    pytest.param(BOTH, {CALLER_HEADER: SECRET}, True, id="the-secret"),
    pytest.param(BOTH, bearer(f"of-{APP}"), True, id="a-token"),
    pytest.param(BOTH, {"authorization": f"bearer   of-{APP}  "}, True, id="a-token-loosely-put"),
    pytest.param(BOTH, {CALLER_HEADER: "canary-wrong", **bearer(f"of-{APP}")}, True, id="a-token-and-a-wrong-secret"),
    pytest.param(BOTH, {CALLER_HEADER: SECRET, **bearer(CANARY)}, True, id="the-secret-and-a-bad-token"),
    pytest.param(BOTH, {CALLER_HEADER: "canary-wrong"}, False, id="a-wrong-secret"),
    pytest.param(BOTH, {CALLER_HEADER: "\ud800canary"}, False, id="half-a-surrogate-pair"),
    pytest.param(BOTH, bearer(CANARY), False, id="a-bad-token"),
    pytest.param(BOTH, bearer(f"of-{OTHER_APP}"), False, id="a-token-of-another-app"),
    pytest.param(BOTH, bearer(""), False, id="an-empty-token"),
    pytest.param(BOTH, {"authorization": f"Basic of-{APP}"}, False, id="another-scheme"),
    pytest.param(BOTH, {"authorization": f"of-{APP}"}, False, id="no-scheme"),
    pytest.param(APPS, {}, False, id="apps-nothing"),
    pytest.param(APPS, {CALLER_HEADER: ""}, False, id="apps-an-empty-secret"),
    pytest.param(APPS, bearer(f"of-{APP}"), True, id="apps-a-token"),
    pytest.param({PROD + "CALLER_SECRET": SECRET}, bearer(f"of-{APP}"), False, id="secret-a-token"),
    pytest.param({DEV + "CALLER_SECRET": SECRET}, {}, True, id="neither"),
    pytest.param({DEV + "CALLER_APPS": APP, **ENTRA}, bearer(CANARY), True, id="neither-a-bad-token"),
]


@pytest.mark.parametrize(("settings", "headers", "allowed"), GIVEN)
def test_who_may_call(settings: dict[str, str], headers: Headers, allowed: bool) -> None:
    """S46, S34: a run with a wait, and a wait, are taken from a target's callers only; of others nothing is kept."""
    for call, status in ((start, 202), (wait_for, 200)):
        bench, _ = bridge(settings)
        answer = call(bench, headers)
        assert ((status, "") if allowed else NOT_ALLOWED) == told(answer)
        kept = [bench.store.inner.find_wait(TASK.token), bench.store.inner.request(TASK.token), *bench.adf.creates]
        assert (allowed, False) == (any(kept), "canary" in answer.body)


@pytest.mark.parametrize(("settings", "headers", "allowed"), GIVEN)
def test_who_may_end_it(settings: dict[str, str], headers: Headers, allowed: bool) -> None:
    """S46, S34: a wait is withdrawn, and a run with a wait is cancelled, by the target's callers only."""
    bench, _ = bridge(settings)
    bench.register()
    answers = [cancel(bench, headers), withdraw(bench, headers)]
    assert ([(202, ""), (200, "")] if allowed else [NOT_ALLOWED] * 2) == [told(answer) for answer in answers]
    assert (allowed, WaitState.WITHDRAWN if allowed else WaitState.OPEN) == (
        bool(bench.adf.cancels),
        bench.wait().state,
    )
    assert "canary" not in "".join(answer.body for answer in answers)


def test_reading_stays_open() -> None:
    """Whoever has a function key may read every wait and run: a wait's token is not to be guessed."""
    bench, tokens = bridge(BOTH)
    bench.register()
    assert [200, 200, 200] == [
        bench.call(http_api.get_wait, path={"token": TASK.token}).status,
        bench.call(http_api.get_run, path={"run_id": KEY.run_id}).status,
        bench.call(http_api.list_waits).status,
    ]
    assert 0 == tokens.asked


@pytest.mark.parametrize(
    ("settings", "headers", "said"),
    [
        (
            BOTH,
            {},
            f"Send its secret in the header {CALLER_HEADER} (`caller_secret` in Airflow's connection), or a bearer",
        ),
        (APPS, {}, "Send a bearer token of one of its CALLER_APPS (`entra_scope` in Airflow's connection)."),
        (APPS, bearer("bad"), "The bearer token has expired."),
        (APPS, bearer(f"of-{OTHER_APP}"), "The bearer token is genuine, but of another app."),
    ],
)
def test_what_is_missing(settings: dict[str, str], headers: Headers, said: str) -> None:
    """S46: a refusal says what the target asks for, and what is wrong with a token that was sent."""
    bench, _ = bridge(settings)
    assert said in json.loads(start(bench, headers).body)["detail"]


def test_entra_out_of_reach() -> None:
    """S46: a token that cannot be checked is a 503 that says when to come back; a secret needs no check."""
    bench, tokens = bridge(BOTH)
    tokens.down = True
    answer = start(bench, bearer(f"of-{APP}"))
    assert ((503, "entra-unavailable"), {"Retry-After": "10"}) == (told(answer), answer.headers)
    assert ([], None) == (bench.adf.creates, bench.store.inner.request(TASK.token))
    assert [(202, ""), NOT_ALLOWED] == [
        told(start(bench, {CALLER_HEADER: SECRET, **bearer("x")})),
        told(wait_for(bench)),
    ]


def test_health_tells_of_entra() -> None:
    """S41: health says whether Entra's keys can be had, where tokens are taken, and nothing of Entra elsewhere."""
    bench, tokens = bridge(BOTH)
    assert ("ok", {"reachable": True, "detail": ""}) == health(bench)
    tokens.down = True
    assert ("degraded", {"reachable": False, "detail": "Entra's keys cannot be had (ConnectTimeout)"}) == health(bench)
    assert ("ok", None) == health(Bench())


def health(bench: Bench) -> tuple[str, Any]:
    """The status, and what is said of Entra."""
    document = json.loads(http_api.health(lambda: bench.app, Request()).body)
    return document["status"], document.get("entra")


def test_a_run_that_several_targets_wait_for() -> None:
    """S46: where tasks of several targets wait for a run, a caller of any of them may cancel it."""
    bench, _ = bridge({**BOTH, DEV + "CALLER_APPS": OTHER_APP})
    bench.register()
    bench.register(DEV_TASK)
    assert [NOT_ALLOWED, (202, "")] == [told(cancel(bench)), told(cancel(bench, bearer(f"of-{OTHER_APP}")))]


def test_a_run_that_nobody_waits_for_any_more() -> None:
    """A wait that is over asks nothing of who cancels its run, and may be withdrawn again by its callers only."""
    bench, _ = bridge(BOTH)
    bench.register()
    assert (200, WaitState.WITHDRAWN) == (withdraw(bench, {CALLER_HEADER: SECRET}).status, bench.wait().state)
    assert [NOT_ALLOWED, (202, "")] == [told(withdraw(bench)), told(cancel(bench))]


def test_a_target_that_is_configured_no_more() -> None:
    """A wait of a target that was taken out of the settings may be withdrawn by whoever has a function key."""
    bench, _ = bridge()
    bench.register(DEV_TASK)
    later = Bench(
        bench.store.inner, BRIDGE_AIRFLOW__DEV__URL="", BRIDGE_AIRFLOW__DEV__AUTH="", BRIDGE_AIRFLOW__DEV__TOKEN=""
    )
    assert 200 == later.call(http_api.delete_wait, path={"token": DEV_TASK.token}).status
    assert 404 == later.call(http_api.delete_wait, path={"token": "unknown"}).status


# --- factories --------------------------------------------------------------------------------------------------------


def test_a_targets_factories() -> None:
    """S46: callers of a target start and wait for runs in its factories, and nowhere else."""
    bench, _ = bridge({PROD + "FACTORIES": "other"})
    refused = [start(bench), wait_for(bench), wait_for_next(bench, factory="demo")]
    assert [ELSEWHERE] * 3 == [told(answer) for answer in refused]
    assert (
        "Target prod may use these, or have an operator add it to its FACTORIES on the bridge: other."
        in refused[0].body
    )
    assert ([], None) == (bench.adf.creates, bench.store.inner.find_wait(TASK.token))
    assert 200 == wait_for(bench, key=OTHER_RUN).status
    assert FACTORY == KEY.factory


def test_the_caller_comes_before_the_factory() -> None:
    """Who may not speak for a target learns nothing of its factories."""
    bench, _ = bridge({**BOTH, PROD + "FACTORIES": "other"})
    answer = start(bench)
    assert (NOT_ALLOWED, False) == (told(answer), "other" in answer.body)


GUARDED = {**BOTH, DEV + "CALLER_SECRET": "canary-of-dev", DEV + "FACTORIES": "other", PROD + "FACTORIES": "demo"}


@pytest.mark.parametrize(
    ("headers", "factory", "allowed"),
    [
        ({}, "other", False),
        ({CALLER_HEADER: SECRET}, "other", False),
        (bearer(f"of-{APP}"), "other", False),
        ({CALLER_HEADER: "canary-of-dev"}, "other", True),
        ({}, "demo", False),
        (bearer(f"of-{APP}"), "demo", True),
    ],
)
def test_factories_of_others(headers: Headers, factory: str, allowed: bool) -> None:
    """S46: in a factory that targets name as theirs, none but their callers start runs or cancel any."""
    bench, _ = bridge(GUARDED)
    answers = [
        start_without_wait(bench, headers, factory=factory),
        cancel(bench, headers, key=OTHER_RUN if factory == "other" else KEY),
    ]
    assert ([(202, "")] * 2 if allowed else [ELSEWHERE] * 2) == [told(answer) for answer in answers]
    assert ([1, 1] if allowed else [0, 0]) == [len(bench.adf.creates), len(bench.adf.cancels)]
    assert "canary" not in "".join(answer.body for answer in answers)


@pytest.mark.parametrize(
    ("settings", "factory"),
    [
        pytest.param({**BOTH, DEV + "CALLER_SECRET": "canary-of-dev"}, "demo", id="no-lists"),
        pytest.param(
            {**BOTH, DEV + "CALLER_SECRET": "canary-of-dev", PROD + "FACTORIES": "demo"},
            "other",
            id="a-factory-that-nobody-names",
        ),
        pytest.param({**BOTH, PROD + "FACTORIES": "demo"}, "demo", id="an-open-target-without-a-list"),
    ],
)
def test_factories_of_all(settings: dict[str, str], factory: str) -> None:
    """A factory that no target names, or that a target open to all may use, is open to all callers."""
    bench, tokens = bridge(settings)
    assert ((202, ""), 0) == (told(start_without_wait(bench, factory=factory)), tokens.asked)
