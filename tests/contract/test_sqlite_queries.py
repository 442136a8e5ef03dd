"""What SQLite looks at: for a question that every event asks, at its answer only, however many rows there are."""

from collections.abc import Callable
from pathlib import Path

from bridge.adapters.sqlite_store import SqliteStore
from bridge.model import Match, RunKey, RunStatus, WaitState, match_key
from tests.contract.conftest import RETENTION
from tests.contract.test_store_contract import a_record
from tests.fakes.clock import START
from tests.fakes.samples import FACTORY, SECOND, a_task, a_wait

STEPS_FOR_ONE = 200  # of SQLite's own machine
MANY = 300


def counted_steps(store: SqliteStore) -> Callable[[], int]:
    """Return what tells how many steps the store has made from now on."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    store._connection().set_progress_handler(step, 1)
    return lambda: steps


def test_what_an_event_looks_at(tmp_path: Path) -> None:
    """S42: an event of a pipeline looks at none of the waits for other pipelines' runs, or for runs by their ids."""
    store = SqliteStore(tmp_path / "bridge.db", retention=RETENTION)
    for number in range(MANY):
        store.put(None, [a_wait(a_task(nonce=str(number)), key=RunKey(FACTORY, f"run-{number}"))])
    task = a_task(nonce="match")
    match = Match("copy_orders", START, (RunStatus.SUCCEEDED,))
    store.put(None, [a_wait(task, key=match_key(FACTORY, match.pipeline, task.token), match=match)])
    steps = counted_steps(store)
    assert [] == list(store.open_waits(FACTORY, limit=99, pipeline="another"))
    assert [task.token] == [one.token for one in store.open_waits(FACTORY, limit=99, pipeline="copy_orders")]
    assert steps() < 2 * STEPS_FOR_ONE
    store.open_waits(FACTORY, limit=999)
    assert steps() > MANY
    store.close()


def test_what_is_looked_at_for_adf(tmp_path: Path) -> None:
    """S42: who asks what is due for ADF looks at none of the completions that gather for a paused target."""
    store = SqliteStore(tmp_path / "bridge.db", retention=RETENTION)
    for number in range(MANY):
        state = WaitState.DUE if number else WaitState.OPEN
        store.put(None, [a_wait(a_task(nonce=str(number)), state=state, due_at=START)])
    steps = counted_steps(store)
    found = store.due("prod", before=START, limit=99, for_adf=True)
    assert ([a_task(nonce="0").token], True) == ([one.token for one in found], steps() < STEPS_FOR_ONE)
    store.close()


def test_what_is_looked_at_for_unfinished_requests(tmp_path: Path) -> None:
    """S42: whoever looks for what is to be finished looks at none of the records that are."""
    store = SqliteStore(tmp_path / "bridge.db", retention=RETENTION)
    for number in range(MANY):
        at = START + number * SECOND
        store.save_request(a_record(idempotency_key=str(number), finish_at=at, answer="{}" if number else None))
    steps = counted_steps(store)
    found = store.unfinished_requests(before=START + MANY * SECOND, limit=99)
    assert (["0"], True) == ([one.idempotency_key for one in found], steps() < STEPS_FOR_ONE)
    store.close()
