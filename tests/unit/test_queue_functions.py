"""The functions that queues trigger: there when their setting is, bound to it and to Service Bus."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
_TELL = """
import json, function_app
functions = function_app.app.get_functions()
print(json.dumps({one.get_function_name(): one.get_trigger().get_dict_repr() for one in functions}, default=str))
"""


def triggers(**settings: str) -> dict[str, Any]:
    """Return the trigger of each function of an app with these settings alone."""
    path = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", _TELL], cwd=REPOSITORY, env={**path, **settings}, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("setting", "name"), [("BRIDGE_REQUESTS_QUEUE", "run_request"), ("BRIDGE_EVENTS_QUEUE", "run_event_queued")]
)
def test_a_queue_has_its_function(setting: str, name: str) -> None:
    """A function is there when its queue is named, and takes its messages from that queue."""
    (found,) = (one for key, one in triggers(**{setting: "some-queue"}).items() if key in ("run_request", name))
    assert ("serviceBusTrigger", f"%{setting}%", "BRIDGE_SERVICEBUS") == (
        found["type"],
        found["queueName"],
        found["connection"],
    )


def test_no_queue_no_function() -> None:
    """Without the settings there is neither, as the host would not start an app whose queue is not named."""
    assert set() == {"run_request", "run_event_queued"} & set(triggers(BRIDGE_REQUESTS_QUEUE=" "))


def test_the_host_completes_what_returns() -> None:
    """The host completes a message whose function has returned, holds its lock for as long as a function may take."""
    host = json.loads((REPOSITORY / "host.json").read_text(encoding="utf-8"))
    bus = host["extensions"]["serviceBus"]
    assert (True, host["functionTimeout"]) == (bus["autoCompleteMessages"], bus["maxAutoLockRenewalDuration"])
