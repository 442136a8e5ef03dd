"""The settings that the code reads, that the sample shows and that the documentation explains: the same."""

import ast
import json
import re
from pathlib import Path

import pytest

from bridge.config import SETTINGS, Setting

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "local.settings.sample.json"
DOCUMENTATION = ROOT / "docs/configuration.md"
SOURCES = (ROOT / "function_app.py", *sorted((ROOT / "bridge").rglob("*.py")))
READERS = ("bridge/__main__.py", "bridge/cli", "bridge/config.py", "bridge/wiring.py")

NAMES = {setting.name for setting in SETTINGS}
MENTION = re.compile(r"(?<![A-Za-z0-9_])BRIDGE_(?:[A-Za-z0-9_]|<[A-Z]+>|\{\w+\})*")
PER_TARGET = re.compile(r"(?<=^BRIDGE_AIRFLOW__)(?:[A-Z0-9]+(?:_[A-Z0-9]+)*|<[A-Z]+>|\{\w+\})(?=__)")


def mentions(text: str) -> set[str]:
    """Every setting that a text speaks of, whatever target it gives as an example."""
    return {PER_TARGET.sub("<TARGET>", name) for name in MENTION.findall(text)}


def is_known(name: str) -> bool:
    """True for a setting, and for the common beginning of several."""
    return name in NAMES or (name.endswith("_") and any(known.startswith(name) for known in NAMES))


def rows() -> dict[str, str]:
    """The documentation's table rows, by the setting in their first column."""
    lines = DOCUMENTATION.read_text(encoding="utf-8").splitlines()
    return {match[1]: line for line in lines if (match := re.match(r"\|\s*`(BRIDGE_[^`]+)`", line))}


def test_the_sample_shows_every_setting() -> None:
    """local.settings.sample.json holds each setting once, those of a target for the example target PROD."""
    values: dict[str, str] = json.loads(SAMPLE.read_text(encoding="utf-8"))["Values"]
    expected = sorted(name.replace("<TARGET>", "PROD") for name in NAMES)
    assert expected == sorted(name for name in values if name.startswith("BRIDGE_"))


def test_the_documentation_has_a_row_for_every_setting() -> None:
    """docs/configuration.md explains each setting in a table row, and no other."""
    assert sorted(NAMES) == sorted(rows())


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.default], ids=lambda setting: setting.name)
def test_the_documentation_tells_the_default(setting: Setting) -> None:
    """A setting's row names the default that the code uses."""
    assert f"`{setting.default}`" in rows()[setting.name]


@pytest.mark.parametrize("path", [DOCUMENTATION, *SOURCES], ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_speaks_of_a_setting_that_does_not_exist(path: Path) -> None:
    """Code and documentation name no setting that the configuration does not know."""
    assert [] == sorted(name for name in mentions(path.read_text(encoding="utf-8")) if not is_known(name))


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if not path.relative_to(ROOT).as_posix().startswith(READERS)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_only_the_configuration_reads_the_environment(path: Path) -> None:
    """No module but the configuration, its composition root and the command line looks at the environment."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    reads = [
        node.lineno
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"})
        or (isinstance(node, ast.ImportFrom) and {alias.name for alias in node.names} & {"environ", "getenv"})
    ]
    assert [] == reads


def test_settings_are_named_once() -> None:
    """No two settings have the same name."""
    assert len(SETTINGS) == len(NAMES)


def test_secrets_have_no_default() -> None:
    """A secret is given, or there is none."""
    assert [] == [setting.name for setting in SETTINGS if setting.secret and setting.default]


def test_every_setting_says_what_it_is_for() -> None:
    """Each setting carries a summary."""
    assert [] == [setting.name for setting in SETTINGS if not setting.summary.strip()]
