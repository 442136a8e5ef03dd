"""The log: one JSON object per line, and no secret in it."""

import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.telemetry import Log
from tests.fakes.clock import START
from tests.fakes.samples import KEY, TASK, a_task, a_wait

SECRETS = ["canary", "canary-longer", "p\"ss'w\\rd", "geheim-ü💥"]


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="bridge")


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return the lines of the log, parsed."""
    return [json.loads(record.getMessage()) for record in caplog.records]


def raised(error: Exception) -> Exception:
    """Return an error as it is when it was raised: with its trace."""
    try:
        raise error
    except type(error) as caught:
        return caught


def test_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """A line is a JSON object with the event and its fields, at its level."""
    Log().info("event.received", id="e", count=3)
    Log().warning("call.refused")
    assert [{"event": "event.received", "id": "e", "count": 3}, {"event": "call.refused"}] == lines(caplog)
    assert ["INFO", "WARNING"] == [record.levelname for record in caplog.records]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_stays_on_its_line(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """S33: a line holds no line break and nothing but ASCII, whatever is logged, and reads back the same."""
    caplog.clear()
    Log().info("event.received", run_id=text)
    (record,) = caplog.records
    line = record.getMessage()
    assert (True, True, text) == (line.isascii(), line.isprintable(), json.loads(line)["run_id"])


def test_names_stay_on_their_line(caplog: pytest.LogCaptureFixture) -> None:
    """S33: names with line breaks and right-to-left marks forge no line and turn none around."""
    wait = a_wait(a_task(dag_id='a\n{"event": "forged"}', task_id="\u202eevil\u2028")).told(
        START, "registered", "x\r\ny"
    )
    Log().story(wait, wait.timeline[-1])
    (record,) = caplog.records
    assert (1, True) == (len(record.getMessage().splitlines()), record.getMessage().isascii())
    assert 'a\n{"event": "forged"}' == json.loads(record.getMessage())["dag_id"]


def test_a_story_line_tells_whose_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """A line of a wait's story names its token, run, target and task."""
    wait = a_wait().told(START, "registered", "waits")
    Log().story(wait, wait.timeline[-1])
    (line,) = lines(caplog)
    assert ("wait.registered", "waits", TASK.token, KEY.run_id, "prod", "orders", "copy", -1, 1, "open") == tuple(
        line[name]
        for name in (
            "event",
            "detail",
            "token",
            "run_id",
            "target",
            "dag_id",
            "task_id",
            "map_index",
            "try_number",
            "state",
        )
    )
    assert TASK.nonce not in line.values()


@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture, secret: str) -> None:
    """S34: a secret is masked wherever it stands in a field, in an error's message or in its trace."""
    log = Log(SECRETS)
    log.info("event.received", detail=f"before {secret} after", url=f"https://x/?code={secret}")
    log.failure("call.failed", raised(ValueError("failed with " + secret)), call="post_run")
    text = json.dumps(lines(caplog), ensure_ascii=False)
    assert (True, False) == ("before *** after" in text, any(hidden in str(lines(caplog)) for hidden in SECRETS))


def test_a_longer_secret_goes_as_a_whole(caplog: pytest.LogCaptureFixture) -> None:
    """S34: a secret that contains another one leaves no rest."""
    assert "*** ***" == Log(SECRETS).masked("canary-longer canary")


@pytest.mark.parametrize("spelled", [str, repr, json.dumps, quote, partial(quote, safe="")])
def test_a_secret_is_masked_as_it_is_spelled(spelled: Callable[[str], str]) -> None:
    """S34: a secret with odd characters is masked plain, in an address, as Python shows it in an error, and as JSON."""
    secret = 'canary\nline"/ü\\'
    assert "canary" not in Log([secret]).masked(f"Invalid header value {spelled(secret)}")


def test_short_secrets_do_not_blot_out_the_log() -> None:
    """A secret of three characters or fewer masks nothing: it would only hide the log."""
    assert "abc" == Log(["abc", ""]).masked("abc")


def test_a_failure_tells_where(caplog: pytest.LogCaptureFixture) -> None:
    """A failure is logged with its kind and its trace."""
    Log().failure("attend.failed", raised(KeyError("x")), token="t")
    (line,) = lines(caplog)
    assert ("KeyError", "t", True) == (line["error"], line["token"], "test_telemetry.py" in line["trace"])


def test_a_level_that_is_off_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """What is below the level is not written."""
    caplog.set_level(logging.ERROR, logger="bridge")
    Log().info("event.received")
    assert [] == caplog.records
