"""The suite's own runner: what counts as passed."""

from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from xml.etree import ElementTree as ET

import pytest

from tests import run


def junit(tests: int = 0, failures: int = 0, errors: int = 0, skipped: int = 0) -> ET.Element:
    """A JUnit report with nothing but its counts."""
    counts = {"tests": tests, "failures": failures, "errors": errors, "skipped": skipped}
    return ET.Element("testsuite", {name: str(count) for name, count in counts.items()})


@pytest.mark.parametrize(
    ("code", "report", "closing", "verdict"),
    [
        pytest.param(0, junit(3), "=== 3 passed in 0.10s ===", run.Verdict(3), id="all-passed"),
        pytest.param(1, junit(3, 1, 1), "1 passed, 1 failed, 1 error in 2.00s", run.Verdict(1, 2), id="failed"),
        pytest.param(
            0,
            junit(3, skipped=1),
            "2 passed, 1 skipped in 0.10s",
            run.Verdict(2, 0, ("1 skipped",)),
            id="skipped",
        ),
        pytest.param(
            0,
            junit(2, skipped=1),
            "1 passed, 4 deselected, 1 xfailed in 0.10s",
            run.Verdict(1, 0, ("4 deselected", "1 xfailed")),
            id="deselected-and-expected-to-fail",
        ),
        pytest.param(0, junit(1), "1 xpassed in 0.10s", run.Verdict(1, 0, ("1 xpassed",)), id="passed-unexpectedly"),
        pytest.param(5, junit(), "no tests ran in 0.01s", run.Verdict(0, 0, ("no tests",)), id="none"),
        pytest.param(2, None, "", run.Verdict(complaints=("pytest ended with 2 before it could report",)), id="broken"),
        pytest.param(
            3,
            junit(2),
            "2 passed in 0.10s",
            run.Verdict(2, 0, ("pytest ended with 3",)),
            id="passed-but-ended-ill",
        ),
        pytest.param(0, junit(2), "", run.Verdict(2, 0, ("pytest did not close its report",)), id="cut-off"),
    ],
)
def test_judge(code: int, report: ET.Element | None, closing: str, verdict: run.Verdict) -> None:
    """Only tests that ran and passed count, and whatever was left out is named."""
    assert verdict == run.judge(code, report, f"collected\n{closing}\n")


@pytest.mark.parametrize(
    ("verdict", "ok"),
    [
        pytest.param(run.Verdict(1), True, id="one-passed"),
        pytest.param(run.Verdict(), False, id="none"),
        pytest.param(run.Verdict(5, 1), False, id="one-failed"),
        pytest.param(run.Verdict(5, 0, ("1 skipped",)), False, id="one-skipped"),
    ],
)
def test_a_part_without_a_checked_promise_fails(verdict: run.Verdict, ok: bool) -> None:
    """A part passes when something was tried, nothing failed and nothing was left out."""
    assert ok == verdict.ok


def test_real_pytest_output_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What today's pytest writes about passed, failed, skipped and expected failures is counted right."""
    monkeypatch.setattr(run, "REPORTS", tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.pytest]\n")
    (tmp_path / "test_sample.py").write_text(
        dedent("""
            import pytest

            def test_passes(): pass
            def test_fails(): assert False
            @pytest.mark.skip
            def test_skipped(): pass
            @pytest.mark.xfail
            def test_expected_to_fail(): assert False
        """)
    )
    part = run.Tests("sample", tmp_path, timedelta(minutes=1), config=tmp_path / "pyproject.toml")
    with (tmp_path / "sample.log").open("w") as log:
        verdict = part.run(log)
    assert run.Verdict(1, 1, ("1 skipped", "1 xfailed")) == verdict


def test_a_part_that_hangs_is_ended(tmp_path: Path) -> None:
    """A command that outlives its part's deadline is stopped, and says so in the log."""
    part = run.Checks("hang", {}, timedelta(seconds=0.2))
    with (tmp_path / "hang.log").open("w") as log:
        code = run.execute(["sleep", "60"], log, part)
    assert (124, True) == (code, "the deadline of hang" in (tmp_path / "hang.log").read_text())


def test_a_missing_interpreter_tells_what_to_do(tmp_path: Path) -> None:
    """A part whose virtual environment is missing names the command that builds it."""
    with (tmp_path / "missing.log").open("w") as log:
        code = run.execute([str(tmp_path / "python")], log, run.Checks("missing", {}))
    assert (127, True) == (code, "make setup" in (tmp_path / "missing.log").read_text())


def test_the_suite_sees_no_personal_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's Airflow, Azure, bridge and pytest settings do not reach the tests."""
    for name in (
        "AIRFLOW_HOME",
        "AIRFLOW__CORE__DAGS_FOLDER",
        "AZURE_CLIENT_ID",
        "BRIDGE_STORE",
        "PYTEST_ADDOPTS",
    ):
        monkeypatch.setenv(name, "mine")
    assert "mine" not in run.clean_environment().values()
