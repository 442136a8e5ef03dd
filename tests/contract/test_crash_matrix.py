"""Every place where a process can die, in every use case, on both real stores: after a restart, the same end."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import pytest
import requests
from azure.core.pipeline.transport import RequestsTransport

from bridge.adapters import table_keys as keys
from bridge.adapters.sqlite_store import SqliteStore
from bridge.adapters.table_access import connect
from bridge.adapters.table_index import HINT_WRITTEN, POINTS
from bridge.adapters.table_store import TableStore
from bridge.commands import Point
from bridge.ports import Store
from tests.contract.conftest import RETENTION
from tests.fakes.bench import OpenStore, Place
from tests.fakes.samples import FACTORY, TASK
from tests.fakes.stories import STORIES, Death, Story, deaths, misfits, play
from tests.fakes.ways import end_of, untold, ways_of

# Each call of Table Storage takes milliseconds. So there every effect of each use case is tried, and every step of each
# write, but once: not on all the ways to it, and in one of its two worlds. With this variable all are tried.
WHOLE: Final = bool(os.environ.get("WHOLE_CRASH_MATRIX"))
HINTS: Final = (keys.TOKENS, keys.RUN_IDS, keys.DUE, keys.AGES, keys.OPEN, keys.MATCHES, keys.PLACES)
MOVING: Final = (keys.DUE, keys.OPEN, keys.MATCHES)

Trait = tuple[object, ...]
Reach = Callable[[str], None]
Now = Callable[[], datetime]


class SqliteFiles:
    """Stores in files."""

    points: tuple[str, ...] = ()
    whole = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, name: str, reach: Reach, now: Now) -> SqliteStore:
        """Open a store as a new process does."""
        return SqliteStore(self._folder / name, retention=RETENTION)

    def left_behind(self, name: str) -> list[str]:
        """Return the rows that nothing leads to: SQLite keeps its indexes itself."""
        return []


class Tables:
    """Stores on Table Storage."""

    points = POINTS
    whole = WHOLE

    def __init__(self, uri: str) -> None:
        self._uri = uri
        session = requests.Session()
        session.trust_env = False  # it would read the environment for a proxy at every call
        self._transport = RequestsTransport(session=session, session_owner=False)

    def open(self, name: str, reach: Reach, now: Now) -> TableStore:
        """Open a store as a new process does, but for its connections."""
        return TableStore(connect(self._uri, name, transport=self._transport), reach=reach, now=now)

    def left_behind(self, name: str) -> list[str]:
        """Return the hints that lead to no row, and those that move with a row that does not move any more."""
        with connect(self._uri, name) as client:
            entities = list(client.list_entities(select=["PartitionKey", "RowKey", "to"]))
        of_rows = (keys.RUNS, keys.REQUESTS)
        rows = {entity["PartitionKey"] for entity in entities if entity["PartitionKey"].startswith(of_rows)}
        hints = [entity for entity in entities if entity["PartitionKey"].startswith(HINTS)]
        return [
            f"{hint['PartitionKey']} {hint['RowKey']}"
            for hint in hints
            if hint["to"] not in rows or hint["PartitionKey"].startswith(MOVING)
        ]


class Matrix:
    """All stories on stores of one kind. Each is played on an empty one."""

    def __init__(self, stores: SqliteFiles | Tables) -> None:
        self.stores = stores
        self._lives: dict[str, tuple[list[Place], list[str]]] = {}
        self._deaths: dict[str, list[Death]] = {}

    def live(self, story: Story) -> tuple[list[Place], list[str]]:
        """Return the places in a story, and what is not as it should be when nobody dies in it."""
        if story.name not in self._lives:
            self._lives[story.name] = self._play(story, None)
        return self._lives[story.name]

    def die(self, story: Story) -> dict[str, list[str]]:
        """Return what is not as it should be, by where the process died."""
        found = {}
        for death in self.deaths(story):
            passed, wrong = self._play(story, death)
            if wrong:
                found[f"{death.nth} {passed[-1]}, {'' if death.tried_again else 'not '}tried again"] = wrong
        return found

    def deaths(self, story: Story) -> Sequence[Death]:
        """Return how a process is to die in a story."""
        if not self._deaths:
            self._choose()
        return self._deaths[story.name]

    def _choose(self) -> None:
        seen: set[Trait] = set()
        for story in STORIES:
            places, _ = self.live(story)
            self._deaths[story.name] = deaths(story, len(places))
            if not self.stores.whole:
                chosen = self._deaths[story.name] = []
                for nth, traits in enumerate(_traits(places)):
                    if traits - seen:
                        chosen.append(Death(nth, story.worlds[nth % len(story.worlds)]))
                    seen |= traits

    def _play(self, story: Story, death: Death | None) -> tuple[list[Place], list[str]]:
        with self._empty() as (name, stores):
            stage = play(story, stores, death)
            wrong = misfits(story, stage, death)
            # As its next try does, and the pipeline's next event: that removes what leads nowhere.
            stage.store.inner.requests_at(TASK.place, limit=9)
            stage.store.inner.open_waits(FACTORY, limit=9, pipeline="copy_orders")
            return stage.passed, wrong + [f"left behind: {row}" for row in self.stores.left_behind(name)]

    @contextmanager
    def _empty(self) -> Iterator[tuple[str, OpenStore]]:
        name = f"t{uuid.uuid4().hex}"
        opened: list[SqliteStore | TableStore] = []

        def open_store(reach: Reach, now: Now) -> Store:
            opened.append(self.stores.open(name, reach, now))
            return opened[-1]

        yield name, open_store
        for store in opened:
            store.close()


def _traits(places: Sequence[Place]) -> Iterator[set[Trait]]:
    """Yield what tells places apart, in whatever story: whose effect it is; within a write, how far that has got."""
    within: Counter[str] = Counter()
    for place in places:
        within = within + Counter([place.within]) if place.within else Counter()
        if place.within:
            number = within[place.within] if place.within == HINT_WRITTEN else min(2, within[place.within])
            yield {(place.path[-1:], place.line, place.within, number)}
        else:
            yield {(*end_of(way), place.line) for way in ways_of(place)}


@pytest.fixture(scope="module", params=["sqlite", "table"])
def matrix(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    """The matrix of each kind of store in turn."""
    if request.param == "sqlite":
        return Matrix(SqliteFiles(tmp_path_factory.mktemp("matrix")))
    return Matrix(Tables(request.getfixturevalue("azurite")))


BY_NAME: Final = pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)


@BY_NAME
def test_living(matrix: Matrix, story: Story) -> None:
    """A story in which nobody dies ends as it should."""
    places, wrong = matrix.live(story)
    assert ([], True) == (wrong, len(places) > 0)


@BY_NAME
def test_dying(matrix: Matrix, story: Story) -> None:
    """S24: wherever the process dies in a story, the end is the same, nothing happens twice, and nothing is left."""
    assert {} == matrix.die(story)


def test_every_way_is_tried(matrix: Matrix) -> None:
    """S24: there is no effect of a use case, on whatever way (sqlite), after which a process does not die here."""
    assert [] == untold(places_of_deaths(matrix), every_way=matrix.stores.whole)


def test_every_point_is_tried(matrix: Matrix) -> None:
    """S24: there is no point, of the use cases or of the store, at which a process does not die here."""
    places = places_of_deaths(matrix)
    assert set(Point) == {place.point for place in places if place.point is not None and not place.within}
    assert set(matrix.stores.points) == {place.within for place in places if place.within}


def places_of_deaths(matrix: Matrix) -> list[Place]:
    """Return where processes die."""
    return [matrix.live(story)[0][death.nth] for story in STORIES for death in matrix.deaths(story)]
