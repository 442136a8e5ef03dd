"""What is deployed: the app and what it needs, nothing of the workshop around it."""

import re
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEPLOYED = {"bridge", "function_app.py", "host.json", "requirements.txt"}


def patterns(path: Path) -> list[str]:
    """The patterns of an ignore file that concern the top folder, without comments and slashes."""
    lines = re.findall(r"^/?([^#\s/][^/\n]*)/?$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [line.strip() for line in lines]


def matches(name: str, ignored: list[str]) -> bool:
    """True when one of the patterns names this entry of the top folder."""
    return any(fnmatch(name, pattern) for pattern in ignored)


def test_nothing_but_the_app_is_deployed() -> None:
    """Everything in the top folder is either part of the app or named in .funcignore."""
    ignored = patterns(ROOT / ".funcignore")
    assert [] == sorted(
        entry.name for entry in ROOT.iterdir() if entry.name not in DEPLOYED and not matches(entry.name, ignored)
    )


def test_the_app_is_deployed_whole() -> None:
    """.funcignore holds back nothing that the app is made of."""
    ignored = patterns(ROOT / ".funcignore")
    assert [] == sorted(name for name in DEPLOYED if matches(name, ignored))


def test_secrets_are_neither_committed_nor_deployed() -> None:
    """The file with local secrets stays on the machine that it was written on."""
    assert [True, True] == ["local.settings.json" in patterns(ROOT / name) for name in (".gitignore", ".funcignore")]


def test_the_completions_queue_is_the_one_that_triggerers_look_for() -> None:
    """The queue with sessions that infra/service-bus.bicep makes has the name that a connection need not tell."""
    bicep = (ROOT / "infra/service-bus.bicep").read_text(encoding="utf-8")
    provider = (ROOT / "airflow_provider/airflow_adf_bridge/completions_queue.py").read_text(encoding="utf-8")
    made = re.findall(r"name: '([^']+)'[^\n]*\n  properties: \{ requiresSession: true", bicep)
    assert re.findall(r'^DEFAULT_QUEUE = "(.+)"', provider, re.MULTILINE) == made
