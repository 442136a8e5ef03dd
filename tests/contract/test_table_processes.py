"""One table, many processes and a network that loses answers: of two that race one wins, and no write is misjudged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError, ServiceResponseError
from azure.core.pipeline.transport import RequestsTransport

from bridge.adapters import table_access
from bridge.adapters import table_keys as keys
from bridge.adapters.table_access import connect
from bridge.adapters.table_store import TableStore
from bridge.errors import StoreConflict, StoreUnavailable
from bridge.model import Breaker, StartState, WaitState
from tests.contract.conftest import MakeTableStore
from tests.contract.processes import A_PLACE, Process, a_try, key_racer, race
from tests.fakes.samples import KEY, MINUTE, a_run, a_task, a_wait

ROUNDS = 200

# Reads lines from its standard input: each names a round to take part in. Answers each with what became of it.
RACER = """
import sys
from dataclasses import replace
from datetime import timedelta
from bridge.adapters.table_access import connect
from bridge.adapters.table_store import TableStore
from bridge.errors import StoreConflict
store = TableStore(connect(sys.argv[1], sys.argv[2]))
store.check()
print("ready", flush=True)
for line in sys.stdin:
    wait = store.find_wait(sys.argv[3])
    print("read", flush=True)
    sys.stdin.readline()
    try:
        store.put(None, (replace(wait, attempts=wait.attempts + 1, due_at=wait.due_at + timedelta(seconds=1)),))
    except StoreConflict:
        print("lost", flush=True)
    else:
        print("won", flush=True)
"""


KEY_RACER = key_racer("TableStore(connect(sys.argv[1], sys.argv[2]))")


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Start processes that are ended with the test, also when it fails."""
    started: list[Process] = []

    def start(program: str, *arguments: str) -> Process:
        process = Process(program, *arguments)
        started.append(process)
        return process

    yield start
    for process in started:
        process.end()


def test_two_processes_race_for_a_wait(
    azurite: str, table_name: str, make_table_store: MakeTableStore, start: Callable[..., Process]
) -> None:
    """S22: of two processes that read the same row and write it at the same moment, exactly one wins, each time."""
    store = make_table_store()
    store.put(a_run(), [a_wait()])
    racers = [start(RACER, azurite, table_name, a_wait().token) for _ in range(2)]
    assert ["ready", "ready"] == [racer.hear() for racer in racers]
    outcomes: Counter[tuple[str, ...]] = Counter()
    for _ in range(ROUNDS):
        for racer in racers:
            racer.tell()
        assert ["read", "read"] == [racer.hear() for racer in racers]
        for racer in racers:
            racer.tell()
        outcomes[tuple(sorted(racer.hear() for racer in racers))] += 1
    assert [0, 0] == [racer.end() for racer in racers]
    wait = store.find_wait(a_wait().token)
    assert wait is not None
    assert wait.due_at is not None
    assert ({("lost", "won"): ROUNDS}, ROUNDS) == (outcomes, wait.attempts)
    assert [(wait.token, wait.due_at)] == [
        (one.token, one.due_at) for one in store.due("prod", before=wait.due_at, limit=9)
    ]


def test_two_processes_race_for_a_key(
    azurite: str, table_name: str, make_table_store: MakeTableStore, start: Callable[..., Process]
) -> None:
    """S21: of two processes that reserve the same key at the same moment, one does; its task has one record of it."""
    racers = [start(KEY_RACER, azurite, table_name) for _ in range(2)]
    assert Counter({("lost", "won"): ROUNDS}) == race(racers, ROUNDS)
    store = make_table_store()
    listed = store.requests_at(A_PLACE, limit=2 * ROUNDS)
    assert list(reversed(range(ROUNDS))) == [record.try_number for record in listed]
    with connect(azurite, table_name) as table:
        hints = [one for one in table.list_entities() if one["PartitionKey"].startswith(keys.PLACES)]
    assert (ROUNDS, 0) == (len(hints), store.repair())


def test_many_threads_write(make_table_store: MakeTableStore) -> None:
    """S22: threads that share a store write without losing anything, each change exactly once."""
    store = make_table_store()
    store.put(None, [a_wait()])
    threads, each = 8, 5

    def count(_: int) -> int:
        won = 0
        while won < each:
            wait = store.find_wait(a_wait().token)
            assert wait is not None
            try:
                store.put(None, [replace(wait, attempts=wait.attempts + 1)])
                won += 1
            except StoreConflict:
                continue
        return won

    with ThreadPoolExecutor(threads) as pool:
        assert [each] * threads == list(pool.map(count, range(threads)))
    wait = store.find_wait(a_wait().token)
    assert wait is not None
    assert threads * each == wait.attempts


def test_many_instances_make_the_table(make_table_store: MakeTableStore) -> None:
    """S23: instances that find no table at the same moment all find it usable, and lose nothing."""
    stores = [make_table_store() for _ in range(8)]
    with ThreadPoolExecutor(len(stores)) as pool:
        list(pool.map(lambda n: stores[n].save_breaker(Breaker(f"target:{n}", failures=1)), range(len(stores))))
    assert [f"target:{number}" for number in range(len(stores))] == [one.name for one in stores[0].breakers()]


def test_one_registers_a_wait(make_table_store: MakeTableStore) -> None:
    """S22: of many that make the same wait at the same moment, one does."""
    stores = [make_table_store() for _ in range(6)]

    def register(store: TableStore) -> bool:
        try:
            store.put(None, [a_wait()])
        except StoreConflict:
            return False
        return True

    with ThreadPoolExecutor(len(stores)) as pool:
        assert [False] * 5 + [True] == sorted(pool.map(register, stores))
    assert 0 == stores[0].repair()


def test_a_table_that_was_deleted_is_made_again(
    azurite: str, table_name: str, make_table_store: MakeTableStore
) -> None:
    """S23: a store whose table is deleted under it goes on with an empty one."""
    store = make_table_store()
    store.put(a_run(), [])
    connect(azurite, table_name).delete_table()
    assert (None, ()) == store.run(KEY)
    store.put(a_run(), [a_wait()])


# --- more than a transaction holds ------------------------------------------------------------------------------------


def test_many_waits_for_one_run(make_table_store: MakeTableStore) -> None:
    """A run may have more waits than one transaction can write."""
    store = make_table_store()
    waits = [a_wait(a_task(map_index=number)) for number in range(120)]
    run, written = store.put(a_run(), waits)
    assert (run, set(written)) == (store.run(KEY)[0], set(store.run(KEY)[1]))
    due = [replace(wait, state=WaitState.DUE) for wait in written]
    assert 120 == len(store.put(None, due)[1])


def test_large_rows_of_one_run(make_table_store: MakeTableStore) -> None:
    """S33: rows that are together larger than a transaction are written all the same, and read back equal."""
    store = make_table_store()
    waits = [a_wait(a_task(nonce=str(number))).told(a_wait().registered_at, "x", "ü💥" * 70_000) for number in range(4)]
    _, written = store.put(None, waits)
    assert set(written) == set(store.run(KEY)[1])


def test_rows_of_two_runs(make_table_store: MakeTableStore) -> None:
    """Rows that cannot change together are refused before any is written."""
    with pytest.raises(ValueError, match="several runs"):
        make_table_store().put(a_run(), [a_wait(key=replace(KEY, run_id="other"))])


# --- answers that are lost --------------------------------------------------------------------------------------------


class Network:
    """A network around a real one, for the SDK: the answers to chosen writes are lost, or turned into a 503."""

    def __init__(self, *, answers: int = 0, with_status: bool = False, cut: bool = False) -> None:
        self._inner = RequestsTransport()
        self._left = answers
        self._with_status = with_status
        self._cut = cut
        self.lost = 0
        self.on_loss: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __enter__(self) -> Any:
        return self._inner.__enter__()

    def __exit__(self, *error: object) -> None:
        self._inner.__exit__(*error)

    def send(self, request: Any, **options: Any) -> Any:
        """Send a request; lose the answer of a write if it is one of the first."""
        if "$batch" not in request.url:
            return self._inner.send(request, **options)
        if self._cut:
            raise ServiceRequestError("no route")
        response: Any = self._inner.send(request, **options)
        if not self._left:
            return response
        self._left -= 1
        self.lost += 1
        self.on_loss()
        if not self._with_status:
            raise ServiceResponseError("connection lost")
        response.status_code = 503
        return response


def on_network(azurite: str, table_name: str, network: Network, **options: Any) -> TableStore:
    """Return a store that speaks to Azurite over such a network."""
    return TableStore(connect(azurite, table_name, transport=network, **options))


@pytest.mark.parametrize("with_status", [False, True], ids=["connection lost", "503 and sent again"])
def test_a_write_whose_answer_was_lost_is_a_write(
    azurite: str, table_name: str, make_table_store: MakeTableStore, with_status: bool
) -> None:
    """S23: a write that was applied, and whose answer was lost, is known as one's own: no failure, no conflict."""
    _, (wait,) = make_table_store().put(a_run(), [a_wait()])
    network = Network(answers=1, with_status=with_status)
    store = on_network(azurite, table_name, network)
    _, (changed,) = store.put(None, [replace(wait, attempts=1, due_at=wait.registered_at + MINUTE)])
    assert (1, changed) == (network.lost, make_table_store().find_wait(wait.token))
    _, (again,) = store.put(None, [replace(changed, attempts=2)])
    assert (2, 0) == (again.attempts, store.repair())
    store.close()


@pytest.mark.parametrize("with_status", [False, True], ids=["connection lost", "503 and sent again"])
def test_a_reservation_whose_answer_was_lost(
    azurite: str, table_name: str, make_table_store: MakeTableStore, with_status: bool
) -> None:
    """S23: a record that was written, and whose answer was lost, is one's own, and listed with its task."""
    network = Network(answers=1, with_status=with_status)
    store = on_network(azurite, table_name, network)
    saved = store.save_request(a_try(1))
    store.close()
    assert (1, [saved], 0) == (
        network.lost,
        list(make_table_store().requests_at(A_PLACE, limit=9)),
        make_table_store().repair(),
    )


def test_a_reservation_that_was_overwritten_meanwhile(
    azurite: str, table_name: str, make_table_store: MakeTableStore
) -> None:
    """S23: a record that was written, and that somebody has gone on with before the answer came, stays listed."""
    other = make_table_store()
    network = Network(answers=1, with_status=True)

    def go_on() -> None:
        found = other.request(a_try(1).idempotency_key)
        assert found is not None
        other.save_request(replace(found, state=StartState.STARTED, run_id="r"))

    network.on_loss = go_on
    store = on_network(azurite, table_name, network)
    with pytest.raises(StoreConflict):
        store.save_request(a_try(1))
    store.close()
    (listed,) = other.requests_at(A_PLACE, limit=9)
    assert ("r", 0) == (listed.run_id, other.repair())


def test_a_write_that_was_overwritten_meanwhile(
    azurite: str, table_name: str, make_table_store: MakeTableStore
) -> None:
    """S22: a write that was applied, and overwritten before it could be sent again, is no success: read again."""
    other = make_table_store()
    _, (wait,) = other.put(a_run(), [a_wait()])
    network = Network(answers=1, with_status=True)

    def overwrite() -> None:
        (found,) = other.run(KEY)[1]
        other.put(None, [replace(found, attempts=found.attempts + 10)])

    network.on_loss = overwrite
    store = on_network(azurite, table_name, network)
    with pytest.raises(StoreConflict):
        store.put(None, [replace(wait, attempts=1)])
    store.close()
    assert 11 == other.run(KEY)[1][0].attempts


def test_a_write_that_was_not_applied(azurite: str, table_name: str, make_table_store: MakeTableStore) -> None:
    """S23: a write that never arrived is a failure that says when to try again, and nothing has changed."""
    _, (wait,) = make_table_store().put(a_run(), [a_wait()])

    store = on_network(azurite, table_name, Network(cut=True), retry_total=0)
    with pytest.raises(StoreUnavailable) as caught:
        store.put(None, [replace(wait, attempts=1)])
    store.close()
    assert caught.value.retry_after is not None
    assert wait == make_table_store().find_wait(wait.token)


# --- errors -----------------------------------------------------------------------------------------------------------


def test_a_wrong_key_is_no_conflict(azurite: str, table_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S23: a store that is not let in says so, without a secret, at reads and at writes."""
    monkeypatch.setattr(table_access, "EMULATOR_KEY", "Y2FuYXJ5")
    store = TableStore(connect(azurite, table_name, retry_total=0))
    for call in (lambda: store.run(KEY), lambda: store.put(a_run(), []), lambda: store.find_wait("t")):
        with pytest.raises(StoreUnavailable) as caught:
            call()
        assert ("403" in caught.value.detail, "Y2FuYXJ5" in caught.value.detail) == (True, False)
    store.close()
