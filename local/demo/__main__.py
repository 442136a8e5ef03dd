"""`python -m local.demo`: everything on this machine, from Airflow's task to Data Factory's run and back."""

import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import requests

from local.airflow import Airflow, AirflowNotReadyError
from local.demo import verdict
from local.demo.choice import Choice
from local.demo.scenario import DAGS, PATIENCE, TASKS
from local.demo.screen import Screen
from local.demo.watch import Watch
from local.local_azure import LocalAzure
from local.process import ProcessFailedError

_LOOK_EVERY_SECONDS = 0.5


def main() -> int:
    """Run the demo. Returns 0 when everything went as it has to."""
    choice = Choice.of(sys.argv[1:])
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell's background job would ignore the latter
        signal.signal(number, signal.default_int_handler)
    screen = Screen()
    state = Path(tempfile.mkdtemp(prefix="adf-bridge-demo-"))
    keep = os.environ.get("KEEP") == "1"
    ok = False
    try:
        with ExitStack() as stack:
            ok = _run(stack, screen, state, choice, keep=keep)
    except (ProcessFailedError, AirflowNotReadyError, TimeoutError, requests.RequestException) as error:
        screen.say(f"The demo could not be run: {error}")
    except KeyboardInterrupt:
        screen.say("Stopped.")
    if ok:
        shutil.rmtree(state, ignore_errors=True)
    else:
        screen.say(f"The logs are in {state}")
    return 0 if ok else 1


def _run(stack: ExitStack, screen: Screen, state: Path, choice: Choice, *, keep: bool) -> bool:
    screen.say("A real Airflow starts Data Factory runs through the bridge, waits without polling, and goes on when")
    screen.say("Event Grid says that they have ended. Data Factory, Event Grid and the Functions host are local.")
    if choice.queue:
        screen.say("The bridge has no address of Airflow: completions come by a Service Bus queue, local as well.")
    screen.say()
    airflow, azure = _start(stack, screen, state, choice)
    airflow.wait_for_dags(DAGS)
    screen.step(f"DAGs: {', '.join(DAGS)} ({len(TASKS)} tasks that wait)")
    screen.say()
    began = datetime.now(UTC)
    dag_runs: dict[str, str] = {}
    watch = Watch(airflow, azure.ready, dag_runs)
    for dag_id in DAGS:
        # One DAG after the other: this Airflow has two worker slots, and starting a task takes it a second.
        dag_runs[dag_id] = airflow.trigger_dag(dag_id)
        _follow(watch, screen, began, until=partial(watch.settled, dag_id))
    _follow(watch, screen, began, until=watch.finished)
    screen.table(sorted(watch.attempts.values(), key=lambda one: (DAGS.index(one.task.dag_id), one.task.label)))
    found = verdict.problems(watch, airflow, dag_runs)
    for problem in found:
        screen.say(f"  NOT AS EXPECTED: {problem}")
    _show_failure(screen, airflow, dag_runs)
    if keep:
        _keep(screen, airflow, azure)
    screen.say(f"RESULT {json.dumps(verdict.result(watch, found))}")
    return not found


def _start(stack: ExitStack, screen: Screen, state: Path, choice: Choice) -> tuple[Airflow, LocalAzure]:
    """Start Airflow and, while it starts, the local Azure. Each needs the other's address, so ports come first."""
    airflow = choice.airflow(state)
    azure = choice.azure(state, airflow)
    stack.enter_context(azure)
    ready = azure.ready
    screen.step(f"Functions host, Event Grid and Data Factory are up ({len(ready['pipelines'])} pipelines)")
    airflow.connections["adf_bridge_default"] = choice.connection(ready)
    stack.callback(airflow.stop)
    airflow.start(lambda text: screen.step(f"Airflow: {text}"))
    return airflow, azure


def _follow(watch: Watch, screen: Screen, began: datetime, *, until: Callable[[], bool]) -> None:
    """Print what happens, as it happens, until it is as far as that, or patience ends."""
    give_up = time.monotonic() + PATIENCE.total_seconds()
    while True:
        for moment in watch.look():
            screen.moment(moment, began)
        if until():
            return
        if time.monotonic() > give_up:
            screen.say(f"  Not everything ended within {PATIENCE.total_seconds():g} s.")
            return
        time.sleep(_LOOK_EVERY_SECONDS)


def _show_failure(screen: Screen, airflow: Airflow, dag_runs: dict[str, str]) -> None:
    """Show what a person reads in the log of the task that failed."""
    for task in TASKS:
        if task.state != "failed" or not task.log_holds:
            continue
        log = airflow.task_log(task.dag_id, dag_runs[task.dag_id], task.task_id, task.tries, task.map_index)
        raised = log.rpartition("AdfBridgeRunFailed: ")[2].splitlines()
        screen.say(f"  What the log of {task.label} says:")
        for line in itertools.takewhile(lambda line: not line.startswith(("INFO ", "[")), raised):
            screen.say(textwrap.fill(line, 110, initial_indent="    ", subsequent_indent="    "))
        screen.say()


def _keep(screen: Screen, airflow: Airflow, azure: LocalAzure) -> None:
    """Leave everything running until Ctrl-C."""
    screen.say(f"  Airflow: {airflow.url}  (user admin, password {airflow.passwords['admin']})")
    screen.say(f"  Bridge:  {azure.ready['functions_url']}/api/health?code={azure.ready['function_key']}")
    screen.say("  Ctrl-C stops everything.")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        screen.say()


if __name__ == "__main__":
    sys.exit(main())
