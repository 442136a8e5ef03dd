"""What the outcome of a run means for its task."""

from typing import Any

import pytest

from airflow_adf_bridge.airflow_api import AirflowException
from airflow_adf_bridge.completion import MESSAGE_LIMIT, Completion
from airflow_adf_bridge.errors import (
    AdfBridgeRunCancelled,
    AdfBridgeRunExpired,
    AdfBridgeRunFailed,
    AdfBridgeRunUnknown,
)

BODY = {"pipeline": "ingest", "run_id": "r1", "monitor_url": "https://adf.azure.com/r1"}
ACTIVITY = {"name": "Copy orders", "type": "Copy", "error_code": "2200", "message": "No such table."}


def test_a_failure_names_the_activity_its_error_and_the_monitor() -> None:
    """A failed run's message says which activity failed, with which code and message, and where to look."""
    error = Completion.parse({**BODY, "status": "Failed", "failed_activity": ACTIVITY}).error()
    assert (
        "Pipeline 'ingest' failed: activity 'Copy orders' (Copy) failed with error 2200\n"
        "No such table.\n"
        "Run r1: https://adf.azure.com/r1"
    ) == str(error)


DEEP = {
    **ACTIVITY,
    "path": ["Run middle", "Run inner"],
    "pipeline": "inner",
    "run_id": "r7",
    "others": [
        {**ACTIVITY, "name": "Second", "message": "No\nroom. " + "x" * 1_000, "path": ["Run middle", "Run inner"]},
        {"name": "Half", "type": "", "error_code": None, "message": None, "path": ["Run middle"]},
        {"name": "Tell", "type": "WebActivity", "error_code": "2108", "message": "No answer.", "path": []},
    ],
}


def test_a_failure_deep_down_names_the_innermost_activity() -> None:
    """Of a run that failed three levels deep the innermost activity is named, the way to it, and what else failed."""
    error = Completion.parse({**BODY, "status": "Failed", "failed_activity": DEEP}).error()
    assert (
        "Pipeline 'ingest' failed: activity 'Copy orders' (Copy) failed with error 2200\n"
        "No such table.\n"
        "It failed in pipeline 'inner', run r7, by way of 'Run middle' > 'Run inner'\n"
        f"Also: activity 'Second' (Copy) failed with error 2200: No room. {'x' * 191}… (the monitor has the rest)\n"
        "Also: activity 'Half' failed, by way of 'Run middle'\n"
        "Also: activity 'Tell' (WebActivity) failed with error 2108, in the run itself: No answer.\n"
        "Run r1: https://adf.azure.com/r1"
    ) == str(error)


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"path": "Run", "others": "x", "pipeline": 7, "run_id": []}, []),
        ({"path": ["Run", 7], "others": [None, 7]}, ["It failed in a pipeline, by way of 'Run'"]),
        ({"others": [{}] * 9}, ["Also: activity '' failed"] * 4),
    ],
)
def test_a_strange_cause_is_told_as_far_as_it_goes(changes: dict[str, Any], lines: list[str]) -> None:
    """What a bridge of another version tells otherwise is left out, and of what else failed four are named."""
    error = Completion.parse({**BODY, "status": "Failed", "failed_activity": {**ACTIVITY, **changes}}).error()
    assert lines == str(error).splitlines()[2:-1]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("Failed", AdfBridgeRunFailed),
        ("Cancelled", AdfBridgeRunCancelled),
        ("Expired", AdfBridgeRunExpired),
        ("Unknown", AdfBridgeRunUnknown),
        ("SomethingNew", AdfBridgeRunUnknown),
    ],
)
def test_every_ending_but_success_is_an_exception_of_its_own(status: str, kind: type[AirflowException]) -> None:
    """S30: failed, cancelled, expired and unknown are told apart, and all let Airflow retry."""
    error = Completion.parse({**BODY, "status": status}).error()
    assert (kind, True) == (type(error), isinstance(error, AirflowException))


def test_a_huge_message_is_cut() -> None:
    """S32: a message of a megabyte is cut between characters, with the link still behind it."""
    activity = {**ACTIVITY, "message": "💥" * 1_000_000}
    message = str(Completion.parse({**BODY, "status": "Failed", "failed_activity": activity}).error())
    assert (MESSAGE_LIMIT, True) == (message.count("💥"), message.endswith("https://adf.azure.com/r1"))


@pytest.mark.parametrize(
    ("run", "last"),
    [
        ({}, "Run r1: https://adf.azure.com/r1"),
        ({"monitor_url": None}, "Run r1"),
        ({"watched_run_id": "c1", "monitor_url": "https://adf.azure.com/c1"}, "Run c1: https://adf.azure.com/c1"),
        ({"run_id": None, "monitor_url": None}, "Pipeline 'ingest' had no such run before the deadline"),
    ],
)
def test_the_run_that_counts_is_named_last(run: dict[str, Any], last: str) -> None:
    """The last line of a message leads to the run that counts; where there was none, it says so."""
    assert last == str(Completion.parse({**BODY, "status": "Expired", **run}).error()).splitlines()[-1]


@pytest.mark.parametrize("body", [{}, {"status": 7, "failed_activity": "x", "message": []}])
def test_a_malformed_completion_is_no_success(body: dict[str, Any]) -> None:
    """A completion with missing or strange fields is read as an unknown outcome."""
    assert "Unknown" == Completion.parse(body).status
