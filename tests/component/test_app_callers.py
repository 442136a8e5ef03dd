"""Who may call for a target, in the Functions host: tokens that Entra signed, checked with the keys that it shows."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from local.process import LocalProcess
from tests.component.hosted_bridge import (
    CALLER_HEADER,
    SALES,
    STOCK,
    Bridge,
    adf_arguments,
    adf_settings,
    hosted_bridge,
    run_event,
    settings_of,
    token_of,
    wait_of,
)
from tests.component.stand_ins import Control
from tests.fakes_http.airflow import running_airflows
from tests.fakes_http.airflow_task import AirflowTask
from tests.fakes_http.entra import APP, BRIDGE_APP, OTHER_APP, FakeEntra, running_entra

SECRET = "canary-secret-of-team-two"
FORGED = "canary-forged"


@dataclass
class Scene:
    """A bridge for two teams: one with APP and the factory `sales`, two with OTHER_APP, a secret and `stock`."""

    bridge: Bridge
    entra: FakeEntra

    def headers(self, app: str = APP, **changes: Any) -> dict[str, str]:
        """The header with a token of that app."""
        return {"Authorization": f"Bearer {self.entra.token(self.entra.claims(app, **changes))}"}

    def wait(self, team: str) -> dict[str, Any]:
        """What a task of that team asks for."""
        airflow = self.bridge.airflows[team]
        return wait_of(airflow, airflow.task())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The bridge, Entra, a Data Factory and two Airflows."""
    folder = tmp_path_factory.mktemp("callers")
    with (
        running_entra() as entra,
        running_airflows(["one", "two"]) as airflows,
        LocalProcess("local.adf", adf_arguments(folder / "pipelines"), log=folder / "adf.log") as adf,
    ):
        settings = {
            **adf_settings(adf.url, folder),
            **settings_of(airflows["one"], CALLER_APPS=APP, FACTORIES="sales"),
            **settings_of(airflows["two"], CALLER_APPS=OTHER_APP, CALLER_SECRET=SECRET, FACTORIES="stock"),
            **entra.settings,
        }
        with hosted_bridge(folder, settings) as hosted:
            yield Scene(Bridge(hosted.process, airflows=airflows, adf=Control(adf.url), folder=folder), entra)


def refusal(answer: requests.Response) -> tuple[int, str]:
    """The status and the code of a problem."""
    return answer.status_code, answer.json()["code"]


def test_a_token_of_the_targets_app(scene: Scene) -> None:
    """S46: a caller with a token of the target's app has its run started, its task completed, its wait withdrawn."""
    bridge, airflow = scene.bridge, scene.bridge.airflows["one"]
    _, token, run_id = bridge.parked(airflow, headers=scene.headers())
    bridge.end_run(run_id)
    bridge.deliver(run_event(run_id))
    assert ("delivered", 1) == (bridge.wait(token)["state"], len(airflow.patches))
    wait = scene.wait("one")
    run_id = bridge.started(wait, headers=scene.headers(aud=["https://example.com", BRIDGE_APP]))
    path = f"/waits/{token_of(wait)}"
    assert (403, "caller-not-allowed") == refusal(bridge.call("DELETE", path, headers=scene.headers(OTHER_APP)))
    assert "open" == bridge.wait(token_of(wait))["state"]
    assert 200 == bridge.call("DELETE", path, headers=scene.headers()).status_code


def test_a_version_1_token(scene: Scene) -> None:
    """A token of version 1.0, as a new registration gets it, does as well."""
    token = scene.entra.token(scene.entra.v1_claims())
    assert 202 == scene.bridge.start(scene.wait("one"), headers={"Authorization": f"Bearer {token}"}).status_code


def test_a_token_of_another_app(scene: Scene) -> None:
    """S46: a caller of one target neither starts nor registers, cancels nor withdraws anything of another's."""
    bridge = scene.bridge
    wait, theirs = scene.wait("one"), scene.headers(OTHER_APP)
    before = bridge.count("createRun")
    registered = {"factory": "sales", "run_id": str(uuid.uuid4()), **wait}
    answers = [bridge.start(wait, headers=theirs), bridge.call("POST", "/waits", json=registered, headers=theirs)]
    assert before == bridge.count("createRun")
    assert 404 == bridge.call("GET", f"/waits/{token_of(wait)}").status_code
    run_id = bridge.started(wait, headers=scene.headers())
    answers.append(bridge.call("POST", f"/runs/{run_id}/cancel", headers=theirs))
    answers.append(bridge.call("DELETE", f"/waits/{token_of(wait)}", headers=theirs))
    assert [(403, "caller-not-allowed")] * 4 == [refusal(answer) for answer in answers]
    assert "The bearer token is genuine, but of another app." in answers[0].json()["detail"]
    assert ("open", 0) == (bridge.wait(token_of(wait))["state"], bridge.calls(run_id).get("cancel", 0))


def test_either_is_enough(scene: Scene) -> None:
    """A target with a secret and an app takes calls with the one, or with a token of the other."""
    bridge = scene.bridge
    for headers in (scene.headers(OTHER_APP), {CALLER_HEADER: SECRET}):
        assert 202 == bridge.start(scene.wait("two"), factory="stock", headers=headers).status_code


def test_factories_of_a_team(scene: Scene) -> None:
    """S46: a team's callers start, wait for and cancel runs in its own factory, and in no other team's."""
    bridge, ours = scene.bridge, scene.headers()
    their_run = bridge.started(scene.wait("two"), factory="stock", headers={CALLER_HEADER: SECRET})
    before = bridge.count("createRun")
    wait = scene.wait("one")
    answers = [
        bridge.start(wait, factory="stock", headers=ours),
        bridge.call("POST", "/waits", json={"factory": "stock", "run_id": their_run, **wait}, headers=ours),
        bridge.start(factory=STOCK, headers=ours),
    ]
    assert [(403, "factory-not-allowed")] * 3 == [refusal(answer) for answer in answers]
    assert (404, before) == (bridge.call("GET", f"/waits/{token_of(wait)}").status_code, bridge.count("createRun"))
    assert 202 == bridge.start(factory=SALES, headers=ours).status_code


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (FORGED, "cannot be read"),
        (f"{FORGED}." * 3, "cannot be read"),
        ("expired", "has expired"),
        ("audience", "was made for another audience than BRIDGE_ENTRA_AUDIENCE"),
        ("key", "is signed with a key that the tenant does not have"),
    ],
)
def test_a_token_that_does_not_count(scene: Scene, token: str, reason: str) -> None:
    """S46, S34: a token that is forged or out of its time is refused with the reason, and is seen nowhere."""
    entra = scene.entra
    made = {
        "expired": lambda: entra.token(entra.claims(exp=1_700_000_000)),
        "audience": lambda: entra.token(entra.claims(aud=OTHER_APP)),
        "key": lambda: entra.token(kid="key-of-another-tenant"),
    }
    sent = made[token]() if token in made else token
    answer = scene.bridge.start(
        wait_of(scene.bridge.airflows["one"], AirflowTask()), headers={"Authorization": f"Bearer {sent}"}
    )
    assert ((403, "caller-not-allowed"), True) == (
        refusal(answer),
        f"The bearer token {reason}." in answer.json()["detail"],
    )
    shown = "\n".join([*scene.bridge.answers, *(log.read_text(encoding="utf-8") for log in scene.bridge.logs)])
    assert not [part for part in sent.split(".") if part and part in shown]


def test_entra_is_asked_seldom(scene: Scene) -> None:
    """S38: whatever tokens are sent, Entra is asked once for its keys; health tells that they are there."""
    for number in range(20):
        token = scene.entra.token(kid="key-2", headers={"kid": f"forged-{number}"})
        answer = scene.bridge.start(scene.wait("one"), headers={"Authorization": f"Bearer {token}"})
        assert (403, "caller-not-allowed") == refusal(answer)
    assert {"reachable": True, "detail": ""} == scene.bridge.health()["entra"]
    assert 2 >= len(scene.entra.fetches)  # one more, should these tests take longer than a minute


def test_entra_out_of_reach(tmp_path: Any) -> None:
    """S46: as long as Entra's keys cannot be had a token is answered 503, health says why, and no run is started."""
    with (
        running_entra() as entra,
        running_airflows(["one"]) as airflows,
        LocalProcess("local.adf", adf_arguments(tmp_path / "pipelines"), log=tmp_path / "adf.log") as adf,
    ):
        entra.status = 500
        settings = {
            **adf_settings(adf.url, tmp_path),
            **settings_of(airflows["one"], CALLER_APPS=APP),
            **entra.settings,
        }
        with hosted_bridge(tmp_path, settings) as hosted:
            bridge = Bridge(hosted.process, airflows=airflows, adf=Control(adf.url), folder=tmp_path)
            scene = Scene(bridge, entra)
            answer = bridge.start(scene.wait("one"), headers=scene.headers())
            assert ((503, "entra-unavailable"), True) == (refusal(answer), int(answer.headers["Retry-After"]) > 0)
            health = bridge.health()
            assert ("degraded", False) == (health["status"], health["entra"]["reachable"])
            assert "it answered 500" in health["entra"]["detail"]
            assert 0 == bridge.count("createRun")
