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
