"""A process that dies between any two effects: after a restart, the same end. Here on the store in memory.

The same stories are told on the real stores by `tests/contract/test_crash_matrix.py`.
"""

import pytest

from bridge.commands import Point
from tests.fakes.bench import OpenStore
from tests.fakes.store import MemoryStore
from tests.fakes.stories import STORIES, Death, Story, deaths, misfits, play
from tests.fakes.ways import untold


def memory() -> OpenStore:
    """Return what opens a store that outlives its process."""
    store = MemoryStore()
    return lambda reach, now: store


PLACES = {story.name: play(story, memory()).passed for story in STORIES}
CASES = [
    pytest.param(
        story, death, id=f"{story.name}-{death.nth}-{place.point}{'-tried again' if death.tried_again else ''}"
    )
    for story in STORIES
    for death in deaths(story, len(PLACES[story.name]))
    for place in [PLACES[story.name][death.nth]]
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_living(story: Story) -> None:
    """A story in which nobody dies ends as it should."""
    assert [] == misfits(story, play(story, memory()))


@pytest.mark.parametrize(("story", "death"), CASES)
def test_dying_at_any_effect(story: Story, death: Death) -> None:
    """S24: whatever the effect after which the process dies, the end is the same, and nothing happens twice."""
    stage = play(story, memory(), death)
    assert [] == misfits(story, stage, death)


def test_every_way_is_tried() -> None:
    """S24: there is no use case, and no way in it to an effect, that these stories do not try."""
    places = [place for passed in PLACES.values() for place in passed]
    assert ([], set(Point)) == (untold(places), {place.point for place in places} - {None})
