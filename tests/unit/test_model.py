"""The values: what they accept, and what they refuse."""

from datetime import timedelta

import pytest

from bridge.model import (
    TIMELINE_HEAD,
    TIMELINE_LINES,
    Breaker,
    FactoryId,
    Outcome,
    RunKey,
    RunStatus,
    WaitState,
    is_run_id,
)
from tests.fakes.clock import START
from tests.fakes.samples import ARM_ID, FACTORY, KEY, a_wait


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("Succeeded", RunStatus.SUCCEEDED),
        ("succeeded", RunStatus.SUCCEEDED),
        ("InProgress", RunStatus.IN_PROGRESS),
        ("Canceled", RunStatus.CANCELLED),
        ("Cancelled", RunStatus.CANCELLED),
        ("Canceling", RunStatus.CANCELING),
        ("Cancelling", RunStatus.CANCELING),
        ("Paused", None),
        ("", None),
        (" Succeeded", None),
    ],
)
def test_spellings(text: str, status: RunStatus | None) -> None:
    """S06: a status is known in each of its vendors' spellings; anything else is unknown, never guessed."""
    assert status is RunStatus.spelled(text)


def test_terminal_statuses() -> None:
    """A run has ended when it succeeded, failed or was cancelled; while it is being cancelled, it goes on."""
    assert {RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED} == {s for s in RunStatus if s.is_terminal}


def test_the_options_of_a_parked_task_are_fixed() -> None:
    """The options of a parked task and their order never change: tasks are parked with them."""
    assert ["Succeeded", "Failed", "Cancelled", "Expired", "Unknown"] == [outcome.value for outcome in Outcome]


def test_open_and_due_are_the_states_with_a_future() -> None:
    """Every state of a wait but open and due is final."""
    assert {WaitState.OPEN, WaitState.DUE} == {state for state in WaitState if not state.is_final}


def test_a_factory_is_named_by_its_arm_id_in_any_case() -> None:
    """ARM ids are compared without regard to case, and shown as they were written."""
    shouted = FactoryId.parse(ARM_ID.upper().replace("MICROSOFT.DATAFACTORY", "Microsoft.DataFactory") + "/")
    assert FACTORY == shouted
    assert ("ADF-DEMO", "RG-DEMO") == (shouted.name, shouted.resource_group)
    assert "11111111-1111-1111-1111-111111111111" == FACTORY.subscription_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "adf-demo",
        ARM_ID + "/pipelines/p",
        ARM_ID.replace("Microsoft.DataFactory", "Microsoft.Storage"),
        "https://management.azure.com" + ARM_ID,
        "http://169.254.169.254/metadata",
        ARM_ID.replace("/resourceGroups/rg-demo", ""),
    ],
)
def test_what_is_no_arm_id_is_refused(text: str) -> None:
    """S37: a factory is an ARM id of a data factory and nothing else, no URL either."""
    with pytest.raises(ValueError, match="not the ARM id of a data factory"):
        FactoryId.parse(text)


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        (KEY.run_id, True),
        ("a", True),
        ("A.b_c-d", True),
        ("", False),
        ("..", False),
        ("a/b", False),
        ("a?b", False),
        ("a%2Fb", False),
        ("a\n", False),
        ("ü", False),
        ("x" * 128, True),
        ("x" * 129, False),
    ],
)
def test_run_ids(text: str, ok: bool) -> None:
    """S37: nothing that could change a URL's path passes for a run id."""
    assert ok == is_run_id(text)


def test_runs_of_two_factories_are_two_runs() -> None:
    """S18: the same run id in two factories names two runs."""
    other = FactoryId.parse(ARM_ID.replace("adf-demo", "adf-other"))
    assert RunKey(FACTORY, "r") != RunKey(other, "r")


def test_the_monitor_link_shows_the_run() -> None:
    """A run's link leads to its page in ADF's monitor."""
    expected = f"https://adf.azure.com/en-us/monitoring/pipelineruns/{KEY.run_id}?factory={ARM_ID}"
    assert expected == KEY.monitor_url


def test_a_story_keeps_its_beginning_and_its_end() -> None:
    """A wait's story is bounded: its first lines and its newest ones stay."""
    wait = a_wait()
    for number in range(TIMELINE_LINES * 3):
        wait = wait.told(START + timedelta(seconds=number), "line", str(number))
    details = [int(entry.detail) for entry in wait.timeline]
    newest = TIMELINE_LINES - TIMELINE_HEAD
    expected = [*range(TIMELINE_HEAD), *range(TIMELINE_LINES * 3 - newest, TIMELINE_LINES * 3)]
    assert expected == details


def test_a_breaker_is_open_while_a_probe_is_awaited() -> None:
    """A breaker holds calls back exactly while it knows when to probe."""
    assert (False, True) == (Breaker("target:prod", failures=2).is_open, Breaker("target:prod", probe_at=START).is_open)
