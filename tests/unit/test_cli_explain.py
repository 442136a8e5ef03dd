"""`python -m bridge explain TOKEN`: a wait's story for a person, from a bridge that runs."""

import ast
import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from bridge import cli, http_api
from bridge.cli import story
from bridge.cli.explain import api_root
from bridge.model import FailedActivity, OtherFailure, RunStatus, WaitState
from tests.fakes.bench import Bench
from tests.fakes.clock import START
from tests.fakes.samples import KEY, MINUTE, SECOND, TASK

ROOT = Path(__file__).resolve().parents[2]
FUNCTION_KEY = "canary-function-key"


class Answers(HTTPServer):
    """A server on this machine that answers every GET alike, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.body = b"{}"
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, status: int, document: object, **headers: str) -> None:
        """Answer like this from now on."""
        self.status, self.body, self.headers = status, json.dumps(document).encode(), headers


class _Handler(BaseHTTPRequestHandler):
    server: Answers

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["x-functions-key"]))
        self.send_response(self.server.status)
        for name, value in {"Content-Length": str(len(self.server.body)), **self.server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it has there
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Answers]:
    """A stand-in for a bridge, on a free port."""
    with Answers() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def bench() -> Bench:
    """A bridge with a wait for a run that goes on, and a task that has parked."""
    bench = Bench()
    bench.airflow.run(TASK)
    bench.adf.begin(KEY)
    bench.register()
    return bench


def answer_of(bench: Bench) -> dict[str, Any]:
    """What the bridge's own API says of the wait."""
    document: dict[str, Any] = json.loads(bench.call(http_api.get_wait, path={"token": TASK.token}).body)
    return document


def last_line(bench: Bench, now: datetime | None = None) -> str:
    """The story's last line: what happens next."""
    return story.tell(answer_of(bench), now or bench.clock.now()).splitlines()[-1]


def explain(server: Answers, *arguments: str, **environment: str) -> int:
    """Call the command line, with a key unless other arguments are given."""
    return cli.main(["explain", TASK.token, "--url", server.url, *(arguments or ("--key", FUNCTION_KEY))], environment)


# --- the story --------------------------------------------------------------------------------------------------------


def test_the_story_of_a_delivered_wait(bench: Bench) -> None:
    """The story says which task waits for which run, what happened when, and that nothing more will happen."""
    bench.airflow.park(TASK)
    bench.clock.advance(MINUTE)
    bench.adf.end(KEY, RunStatus.SUCCEEDED)
    bench.event()
    lines = story.tell(answer_of(bench), bench.clock.now()).splitlines()
    assert [
        "task      orders / copy, try 1, on prod",
        "          DAG run scheduled__2026-03-01T00:00:00+00:00",
    ] == lines[:2]
    assert lines[2].startswith(f"run       {KEY.run_id} of ")
    assert [
        f"          {KEY.monitor_url}",
        "state     delivered: Airflow has the completion",
        "outcome   Succeeded",
        "deadline  2026-03-01 18:00:00.000Z",
        "",
    ] == lines[3:8]
    told = [line.split()[2:4] for line in lines[9:-2]]
    assert (["+0.000", "registered"], ["+60.000", "delivered"]) == (told[0], told[-1])
    assert "Nothing more will happen: Airflow has it." == lines[-1]


DEEP = FailedActivity(
    "Copy orders",
    "Copy",
    "2200",
    "No such\ntable. " + "x" * 1_000,
    path=("Run middle", "Run inner"),
    pipeline="inner",
    run_id="run-7",
    others=(
        OtherFailure("Second", "Copy", None, None, ("Run middle", "Run inner")),
        OtherFailure("Tell", "WebActivity", "2108", "no answer"),
    ),
)


def failed_answer(bench: Bench) -> dict[str, Any]:
    """What the bridge says of a wait whose run failed deep down."""
    bench.airflow.park(TASK)
    bench.clock.advance(MINUTE)
    bench.adf.end(KEY, RunStatus.FAILED, message="Operation on target Run middle failed", cause=DEEP)
    bench.event("Failed")
    return answer_of(bench)


def test_the_story_of_a_failed_run(bench: Bench) -> None:
    """The story says which activity failed, where it is, with which code and words, and what else failed."""
    lines = story.tell(failed_answer(bench), bench.clock.now()).splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("outcome"))
    assert [
        "outcome   Failed: Operation on target Run middle failed",
        f"cause     activity 'Copy orders' (Copy) failed with error 2200: No such\\ntable. {'x' * 285}…",
        "          in run run-7 of inner, by way of 'Run middle' > 'Run inner'",
        "also      activity 'Second' (Copy) failed (by way of 'Run middle' > 'Run inner')",
        "also      activity 'Tell' (WebActivity) failed with error 2108: no answer",
    ] == lines[first : first + 5]


def test_the_timeline_of_a_failed_run(bench: Bench) -> None:
    """The decision is told with the innermost activity and its code, without its message."""
    timeline = failed_answer(bench)["wait"]["timeline"]
    cause = "activity 'Copy orders' (Copy) failed with error 2200, by way of 'Run middle' > 'Run inner'"
    told = [line["detail"] for line in timeline if line["what"] == "decided"]
    assert [f"Failed, {cause}: to be delivered"] == told


def test_the_story_of_an_older_bridge(bench: Bench) -> None:
    """S43: a bridge that tells of one activity only is understood."""
    answer = failed_answer(bench)
    names = ("name", "type", "error_code", "message")
    failed = {name: answer["completed"]["failed_activity"][name] for name in names} | {"message": None}
    answer["completed"]["failed_activity"] = failed
    lines = story.tell(answer, bench.clock.now()).splitlines()
    causes = [line for line in lines if line.startswith(("cause", "also", "          in run"))]
    assert ["cause     activity 'Copy orders' (Copy) failed with error 2200"] == causes


def test_an_open_wait_says_when_it_is_read(bench: Bench) -> None:
    """Of a run that goes on the story says when the bridge reads it at the latest."""
    expected = "The bridge waits for the run's end: by an event, by a sweep, or by reading the run at 2026-03-01 13:00:"
    assert last_line(bench).startswith(expected)


def test_a_failed_delivery_says_when_it_is_tried_again(bench: Bench) -> None:
    """A completion that Airflow could not take yet is told with the time of the next attempt."""
    answer = answer_of(bench)
    at = (START + MINUTE).isoformat()
    answer["wait"] |= {"state": "due", "due_at": at, "timeline": [{"at": at, "what": "failed", "detail": "no answer"}]}
    early, late = (story.tell(answer, START + after).splitlines()[-1] for after in (SECOND, timedelta(hours=1)))
    assert "The delivery will be tried again at 2026-03-01 12:01:00.000Z." == early
    assert "The delivery will be tried again as soon as the timer fires." == late


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("paused", "The target is paused; it will be tried again "),
        ("observed", "Nothing is sent while the target is in observe mode; "),
        ("not-parked", "The task will be looked at again "),
    ],
)
def test_what_holds_a_delivery_up(bench: Bench, what: str, expected: str) -> None:
    """Of a completion that waits for something the story says for what."""
    answer = answer_of(bench)
    at = (START + MINUTE).isoformat()
    answer["wait"] |= {"state": "due", "due_at": at, "timeline": [{"at": at, "what": what, "detail": ""}]}
    assert story.tell(answer, START).splitlines()[-1].startswith(expected)


@pytest.mark.parametrize("state", list(WaitState))
def test_every_state_has_words(state: WaitState) -> None:
    """Each state is told in words, and of each final one it is told why nothing more will happen."""
    assert (True, state.is_final) == (state in story.STATES, state in story.REASONS)


def test_names_stay_on_their_line(bench: Bench) -> None:
    """S33: a name with line breaks, escape sequences or right-to-left marks forges no line of the story."""
    answer = answer_of(bench)
    lines = len(story.tell(answer, START).splitlines())
    answer["wait"]["task"]["dag_id"] = "a\nb\x1b[31m\u202ec"
    told = story.tell(answer, START)
    assert (lines, True) == (len(told.splitlines()), "a\\nb\\x1b[31m\\u202ec / copy" in told)


@pytest.mark.parametrize("answer", [{}, {"wait": None}, {"wait": {"task": 3}, "run": None, "completed": None}])
def test_an_answer_of_another_shape(answer: dict[str, Any]) -> None:
    """What is no story of a wait is called so, without a trace."""
    assert story.UNREADABLE == story.tell(answer, START)


# --- the call ---------------------------------------------------------------------------------------------------------


def test_it_is_printed(server: Answers, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """The story is printed, the key is sent in a header and shown nowhere, and the exit code is 0."""
    server.answer(200, answer_of(bench))
    assert 0 == explain(server)
    assert [(f"/api/waits/{TASK.token}", FUNCTION_KEY)] == server.asked
    out, err = capsys.readouterr()
    assert ("task      orders / copy, try 1, on prod", "") == (out.splitlines()[0], err)
    assert FUNCTION_KEY not in out


def test_the_key_may_stand_in_the_environment(server: Answers, bench: Bench) -> None:
    """The key is read from the environment variable that --key-env names."""
    server.answer(200, answer_of(bench))
    assert 0 == explain(server, "--key-env", "MY_KEY", MY_KEY=FUNCTION_KEY)
    assert [FUNCTION_KEY] == [key for _, key in server.asked]


@pytest.mark.parametrize(
    ("status", "document", "expected"),
    [
        (401, {}, "The bridge does not take this key."),
        (404, {"code": "not-found", "detail": "…"}, "The bridge knows no wait of this token."),
        (404, {}, "There is no bridge at http://127.0.0.1"),
        (
            503,
            {"code": "store-unavailable", "detail": "It is locked."},
            "The bridge refused, or has trouble of its own",
        ),
        (500, [], "The bridge refused, or has trouble of its own (500)."),
        (200, [], "What answers at http://127.0.0.1"),
    ],
)
def test_refusals(
    server: Answers, capsys: pytest.CaptureFixture[str], status: int, document: object, expected: str
) -> None:
    """A refusal is told in words, on stderr, with exit code 1."""
    server.answer(status, document)
    assert 1 == explain(server)
    out, err = capsys.readouterr()
    assert ("", True) == (out, err.startswith(expected))


def test_an_echoed_key_is_masked(server: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    """S34: a refusal that repeats the key is shown without it."""
    server.answer(403, {"detail": f"the key {FUNCTION_KEY} is wrong"})
    assert 1 == explain(server)
    err = capsys.readouterr().err
    assert (False, True) == (FUNCTION_KEY in err, "the key *** is wrong" in err)


def test_no_redirect_is_followed(server: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    """S37: a redirect is told and not followed: the key goes to no other place."""
    server.answer(302, {}, Location=f"{server.url}/elsewhere")
    assert 1 == explain(server)
    assert (1, True) == (len(server.asked), "redirect (302)" in capsys.readouterr().err)


def test_no_proxy_sees_the_key(server: Answers, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """S37: what is for this machine passes no proxy of the environment."""
    server.answer(200, answer_of(bench))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert 0 == explain(server)


def test_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """A bridge that cannot be reached is told in words, with exit code 1."""
    with Answers() as gone:
        url = gone.url
    assert 1 == cli.main(["explain", TASK.token, "--url", url, "--key", FUNCTION_KEY], {})
    err = capsys.readouterr().err
    assert (f"The bridge at {url}/api cannot be reached (ConnectionError).\n", False) == (err, FUNCTION_KEY in err)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["explain"],
        ["explain", TASK.token, "--url", "https://b.example.com"],
        ["explain", TASK.token, "--key", FUNCTION_KEY],
        ["explain", TASK.token, "--url", "https://b.example.com", "--key", FUNCTION_KEY, "--key-env", "MY_KEY"],
        ["explain", TASK.token, "--url", "https://b.example.com", "--key-env", "MISSING"],
        ["explain", TASK.token, "--url", "https://b.example.com", "--key", f"{FUNCTION_KEY}\n"],
        ["explain", "../health", "--url", "https://b.example.com", "--key", FUNCTION_KEY],
        ["explain", TASK.token, "--url", "http://b.example.com", "--key", FUNCTION_KEY],
        ["explain", TASK.token, "--url", "https://u:p@b.example.com", "--key", FUNCTION_KEY],
        ["explain", TASK.token, "--url", "ftp://b.example.com", "--key", FUNCTION_KEY],
        ["explain", TASK.token, "--url", "https://b.example.com:x", "--key", FUNCTION_KEY],
        ["explain", TASK.token, "--url", "https://b.example.com", "--kye", FUNCTION_KEY],
        ["explain", TASK.token, "--url", "https://b.example.com", "--kye=" + FUNCTION_KEY],
        ["--key", FUNCTION_KEY, "explain", TASK.token],
    ],
)
def test_called_wrongly(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """S37: what cannot be asked, or would show the key to a network, is refused with exit code 2; nothing is sent."""
    with pytest.raises(SystemExit) as exited:
        cli.main(arguments, {})
    out, err = capsys.readouterr()
    assert (2, "", False) == (exited.value.code, out, FUNCTION_KEY in err)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://b.example.com", "https://b.example.com/api"),
        ("https://b.example.com/", "https://b.example.com/api"),
        ("https://b.example.com/api/", "https://b.example.com/api"),
        ("http://localhost:7071", "http://localhost:7071/api"),
    ],
)
def test_urls(given: str, expected: str) -> None:
    """A URL may be given with or without `/api`."""
    assert expected == api_root(given)


# --- its place --------------------------------------------------------------------------------------------------------


def test_the_app_does_not_import_the_command_line() -> None:
    """No module of the app imports the command line: it costs the app nothing."""
    sources = [ROOT / "function_app.py", *(ROOT / "bridge").rglob("*.py")]
    own = {ROOT / "bridge/__main__.py", *(ROOT / "bridge/cli").glob("*.py")}
    importers = []
    for path in sorted(set(sources) - own):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if any(f"{module}.{name}".lstrip(".").startswith(("bridge.cli", "bridge.__main__")) for name in names):
                importers.append(path.name)
    assert [] == importers
