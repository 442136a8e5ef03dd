"""The commands on the pages about events: what they use is set before, and the event that they send is one."""

import json
import re
from pathlib import Path

import pytest

from bridge import events
from bridge.model import FactoryId, RunEvent
from tests.fakes.json_schema import problems
from tests.fakes.samples import ARM_ID

DOCS = Path(__file__).resolve().parents[2] / "docs"
SCHEMA = json.loads((DOCS / "schema/run-event.schema.json").read_text(encoding="utf-8"))
SET = re.compile(r"^ *([A-Z_]+)=", re.MULTILINE)
USED = re.compile(r"\$([A-Z_]+)")


def commands(name: str) -> str:
    """The commands on a page, its blocks without a language, in their order."""
    page = (DOCS / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", page, re.DOTALL | re.MULTILINE)
    return "\n".join(content for language, content in blocks if not language)


SET_UP = commands("events.md")


@pytest.mark.parametrize("name", ["events.md", "wrap.md", "contract.md"])
def test_what_the_commands_use_is_set(name: str) -> None:
    """Whatever a command on the pages takes from a variable is set by the set-up, but for what only some need."""
    own = {"NAMESPACE_ID", "QUEUE_ID"}
    assert set() == set(USED.findall(commands(name))) - set(SET.findall(SET_UP)) - own


def test_the_order_of_the_set_up() -> None:
    """The topic is there before anything is done with it, and its schema, which cannot be changed, is CloudEvents."""
    found = re.findall(
        r"az (eventgrid topic create|role assignment create|eventgrid event-subscription create|rest)", SET_UP
    )
    assert ["eventgrid topic create", "eventgrid event-subscription create", "rest"] == [
        one for one in found if not one.startswith("role")
    ]
    assert "role assignment create" in found[1:3]
    assert 2 == len(re.findall(r"--(?:input|event-delivery)-schema cloudeventschemav1_0", SET_UP))
    assert '--endpoint-type azurefunction --endpoint "$APP_ID/functions/run_event"' in SET_UP


def test_the_event_that_is_sent() -> None:
    """The event of the set-up fits the contract, and the bridge takes it."""
    (body,) = re.findall(r"--body '([^']+)'", SET_UP)
    event = {**json.loads(body), "source": ARM_ID}
    (parsed,) = events.parse(json.dumps(event), [FactoryId.parse(ARM_ID)])
    assert ([], True) == (problems(event, SCHEMA), isinstance(parsed, RunEvent))
