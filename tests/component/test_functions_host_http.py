"""HTTP functions in the local Functions host: routes, methods, keys, requests and responses."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.component.hosted_app import FUNCTION_KEY, MASTER_KEY, HostedApp, hosted_app


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostedApp]:
    """One running host for all tests of this file."""
    with hosted_app(tmp_path_factory.mktemp("http")) as app:
        yield app


def test_ready_line_names_every_function(host: HostedApp) -> None:
    """What the app prints does not get in the way of the LISTENING line."""
    assert {"anyone", "echo", "take", "tick"} < set(host.process.ready["functions"])


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/api/open", None, 200),
        ("/api/open", "wrong", 200),
        ("/api/echo/a", None, 401),
        ("/api/echo/a", "wrong", 401),
        ("/api/echo/a", "", 401),
        ("/api/echo/a", FUNCTION_KEY, 201),
        ("/api/echo/a", MASTER_KEY, 201),
        ("/api/vault", None, 401),
        ("/api/vault", FUNCTION_KEY, 401),
        ("/api/vault", MASTER_KEY, 200),
    ],
)
@pytest.mark.parametrize("place", ["header", "query"])
def test_auth_levels(host: HostedApp, path: str, key: str | None, status: int, place: str) -> None:
    """A key opens the levels that it is for, from the header and from the query alike."""
    method = "POST" if "echo" in path else "GET"
    headers = {"x-functions-key": key} if key is not None and place == "header" else {}
    query = {"code": key} if key is not None and place == "query" else {}
    assert status == host.call(method, path, headers=headers, params=query).status_code


def test_header_key_wins(host: HostedApp) -> None:
    """A wrong key in the header is not made good by a right one in the query."""
    response = host.call("POST", "/api/echo/a", headers={"x-functions-key": "wrong"}, params={"code": FUNCTION_KEY})
    assert 401 == response.status_code


def test_key_that_is_no_text(host: HostedApp) -> None:
    """A key of arbitrary bytes is a wrong key, not an error."""
    response = host.call("POST", "/api/echo/a", headers={"x-functions-key": b"\xff\xfe"})
    assert 401 == response.status_code


def test_unauthorized_says_what_to_do(host: HostedApp) -> None:
    """A refused caller is told where the key goes."""
    response = host.call("POST", "/api/echo/a")
    assert "application/problem+json" == response.headers["Content-Type"].partition(";")[0]
    assert "x-functions-key" in response.json()["detail"]


def test_request_reaches_the_function_whole(host: HostedApp) -> None:
    """Method, route, query, headers and body arrive; status, headers and body come back."""
    response = host.call(
        "PUT",
        "/api/ECHO/a%2Fb%20ü/-7?q=1&q=2&e=%26",
        headers={"x-functions-key": FUNCTION_KEY, "x-colour": "red"},
        data="größe".encode(),
    )
    assert 201 == response.status_code
    assert "yes" == response.headers["x-echo"]
    assert "application/json" == response.headers["Content-Type"]
    expected = {
        "method": "PUT",
        "route": {"kind": "a%2Fb ü", "number": "-7"},
        "query": {"q": "1,2", "e": "&"},
        "header": "red",
        "body": "größe",
    }
    assert expected == response.json()


def test_returned_string_is_a_text_response(host: HostedApp) -> None:
    """A function that returns a string answers 200 with that text."""
    response = host.call("GET", "/api/vault", params={"code": MASTER_KEY})
    assert (200, "vault", "text/plain; charset=utf-8") == (
        response.status_code,
        response.text,
        response.headers["Content-Type"],
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/api/open"),
        ("HEAD", "/api/open"),
        ("GET", "/api/nothing"),
        ("GET", "/open"),
        ("GET", "/api/open/more"),
        ("POST", "/api/echo/a/not-a-number"),
        ("POST", "/api/echo"),
    ],
)
def test_unserved_requests_are_not_found(host: HostedApp, method: str, path: str) -> None:
    """A path, method or constraint that does not fit is 404 with an empty body, whatever the key."""
    response = host.call(method, path, params={"code": MASTER_KEY})
    assert (404, b"") == (response.status_code, response.content)


def test_raising_function_shows_nothing(host: HostedApp) -> None:
    """S34: an exception is 500 with an empty body for the caller, and stands whole in the log."""
    response = host.call("GET", "/api/boom")
    assert (500, b"") == (response.status_code, response.content)
    line = next(line for line in host.log_lines() if line.get("function") == "boom" and line["level"] == "error")
    assert "Failed: RuntimeError: the shelf broke" == line["message"]
    assert 'raise RuntimeError("the shelf broke")' in line["exception"]


def test_app_log_carries_the_invocation(host: HostedApp) -> None:
    """S33: what the app logs is one JSON object per line, with function and invocation id."""
    host.call("GET", "/api/boom")
    own = next(line for line in reversed(host.log_lines()) if line["logger"] == "shop")
    outcome = next(line for line in reversed(host.log_lines()) if line.get("function") == "boom")
    assert ("about to fail\nfor 💥", "warning", "boom") == (own["message"], own["level"], own["function"])
    assert outcome["invocation_id"] == own["invocation_id"]


def test_function_timeout(host: HostedApp) -> None:
    """A function that overruns host.json's functionTimeout has failed, and others are still served."""
    response = host.call("GET", "/api/slow?seconds=3")
    assert 500 == response.status_code
    assert 200 == host.call("GET", "/api/open").status_code
    assert any("functionTimeout" in line["message"] for line in host.log_lines())


def test_log_file_holds_no_key(host: HostedApp, tmp_path: Path) -> None:
    """S34: keys in a query do not reach the log."""
    host.call("POST", "/api/echo/a", params={"code": FUNCTION_KEY})
    assert FUNCTION_KEY not in host.process.log.read_text(encoding="utf-8")
