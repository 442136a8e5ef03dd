"""`python -m bridge replay`: dead letters of the bridge's queues, and of Event Grid, sent again the way they came."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Never

from bridge import config
from bridge.cli import dead_letter, topic_endpoint
from bridge.cli.dead_letter import DeadLetter, UnreadableError
from bridge.cli.dead_letter_queue import DeadLetterQueue, NotReachedError, NotSentError
from bridge.cli.dead_letter_topic import DeadLetterTopic
from bridge.cli.dead_letter_verdict import Verdicts
from bridge.cli.explain import Bridge, NotToBeHadError, add_key_to, api_root, function_key
from bridge.cli.story import plain
from bridge.errors import ConfigInvalid

DONE: Final = 0
NOT_ALL_DONE: Final = 1
REQUESTS, EVENTS = "requests", "events"

_WHY_CHARS: Final = 120
_HEADER: Final = ("from", "id", "why it is there", "verdict now")
_EPILOG: Final = """\
examples:
  %(prog)s --dry-run --url URL --key-env NAME
      show the dead letters of both queues, and what the bridge would say to each now; nothing is changed
  %(prog)s --queue requests
      send those of the requests queue again
  %(prog)s deadletter/ --topic URL
      publish the events of Event Grid's dead-letter blobs, downloaded into a folder, again; without --topic they go
      into the events queue

The queues are those of the app's settings, which this reads from its environment: BRIDGE_REQUESTS_QUEUE,
BRIDGE_EVENTS_QUEUE, and BRIDGE_SERVICEBUS__fullyQualifiedNamespace (the identity: az login, or that of the machine) or
BRIDGE_SERVICEBUS. For --topic, BRIDGE_TOPIC_KEY if there is one.

exit codes: 0 all is done; 1 something was left, or not to be had (stderr says what); 2 called wrongly.
docs/replay.md tells more.
"""

Outcomes = Iterator[tuple[DeadLetter, NotSentError | None]]


@dataclass(frozen=True, slots=True)
class _Queues:
    """The queues whose dead letters are asked for, by what they hold, and the one that events are put into."""

    asked: Mapping[str, DeadLetterQueue]
    events: DeadLetterQueue | None


def add_to(commands: Any) -> None:  # noqa: ANN401 - argparse's own type is private
    """Add the command to a command line."""
    parser = commands.add_parser(
        "replay",
        help="send dead letters again",
        description="Sends dead letters again, the way they came: each is handled like any other.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "blobs",
        metavar="PATH",
        nargs="*",
        type=_existing,
        help="a dead-letter blob of Event Grid, as a file, or a folder of them; without any, the queues' dead letters",
    )
    parser.add_argument("--queue", choices=(REQUESTS, EVENTS), help="the dead letters of this queue alone")
    parser.add_argument(
        "--topic", metavar="URL", type=topic_endpoint.parse, help="publish the events of files to this topic"
    )
    parser.add_argument("--limit", metavar="N", type=_count, help="at most so many, the oldest of a queue first")
    parser.add_argument("--dry-run", action="store_true", help="send and settle nothing; show each, with its verdict")
    parser.add_argument("--url", type=api_root, help="for --dry-run: the bridge that is asked what it knows")
    add_key_to(parser, required=False)
    parser.set_defaults(run=partial(_run, parser.error))


def _run(misuse: Callable[[str], Never], given: argparse.Namespace, environment: Mapping[str, str]) -> int:
    _check(misuse, given)
    bridge = Bridge(given.url, function_key(misuse, given, environment)) if given.url is not None else None
    try:
        if given.dry_run:
            whole = _show(given, _queues(misuse, given, environment), _verdicts(bridge, environment), bridge)
        elif given.blobs:
            whole = _put_blobs(misuse, given, environment)
        else:
            whole = _send_again(_queues(misuse, given, environment), given.limit)
    except ConfigInvalid as problem:
        misuse(problem.detail)
    except (NotReachedError, NotToBeHadError) as trouble:
        _complain(trouble)
        whole = False
    return DONE if whole else NOT_ALL_DONE


def _check(misuse: Callable[[str], Never], given: argparse.Namespace) -> None:
    if given.blobs and given.queue is not None:
        misuse("either files, or --queue")
    if given.topic is not None and not given.blobs:
        misuse("--topic is for the events of files; those of a queue go back into it")
    has_key = given.key is not None or given.key_env is not None
    if (given.url is not None) != has_key:
        misuse("--url and a key (--key-env NAME) go together")
    if given.url is not None and not given.dry_run:
        misuse("--url is for --dry-run")


def _queues(misuse: Callable[[str], Never], given: argparse.Namespace, environment: Mapping[str, str]) -> _Queues:
    """Find the queues by the app's settings; files that are only looked at need none."""
    bus, *names = config.load_queues(environment)
    named = {kind: name for kind, name in zip((REQUESTS, EVENTS), names, strict=True) if name}
    queues = (
        {kind: DeadLetterQueue(bus, name, place=kind, holds_events=kind == EVENTS) for kind, name in named.items()}
        if bus is not None
        else {}
    )
    if given.blobs:
        return _Queues({}, queues.get(EVENTS))
    asked = {kind: queue for kind, queue in queues.items() if given.queue in (None, kind)}
    if not asked:
        needed = {REQUESTS: (config.REQUESTS,), EVENTS: (config.EVENTS,)}.get(
            given.queue, (config.REQUESTS, config.EVENTS)
        )
        misuse(f"no queue is named: set {' or '.join(needed)}")
    return _Queues(asked, queues.get(EVENTS))


def _verdicts(bridge: Bridge | None, environment: Mapping[str, str]) -> Verdicts:
    return Verdicts(bridge, config.load_allowed(environment), datetime.now(UTC))


# --- looking ----------------------------------------------------------------------------------------------------------


def _show(given: argparse.Namespace, queues: _Queues, verdicts: Verdicts, bridge: Bridge | None) -> bool:
    """Print a table of the dead letters with their verdicts; whether all could be read."""
    rows: list[tuple[str, str, str, str]] = []
    letters, whole = _blobs(given.blobs, given.limit)
    rows += [_row(letter, letter.why, verdicts.of_event(letter)) for letter in letters]
    refused = bridge.rejected() if bridge is not None and REQUESTS in queues.asked else {}
    for kind, queue in queues.asked.items():
        for letter in queue.look(None if given.limit is None else given.limit - len(rows)):
            if kind == EVENTS:
                rows.append(_row(letter, letter.why, verdicts.of_event(letter)))
            else:
                reasons = [letter.why, *([refused[letter.id]] if letter.id in refused else [])]
                rows.append(_row(letter, "; ".join(reasons), verdicts.of_request(letter)))
    if not rows:
        print("no dead letters")
        return whole
    widths = [max(len(row[column]) for row in (_HEADER, *rows)) for column in range(len(_HEADER) - 1)]
    for row in (_HEADER, *rows):
        print("  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]]))
    return whole


def _row(letter: DeadLetter, why: str, verdict: str) -> tuple[str, str, str, str]:
    short = why if len(why) <= _WHY_CHARS else f"{why[:_WHY_CHARS]}…"
    return plain(letter.place), plain(letter.id) or "-", plain(short), plain(verdict)


# --- sending ----------------------------------------------------------------------------------------------------------


def _send_again(queues: _Queues, limit: int | None) -> bool:
    whole = True
    for queue in queues.asked.values():
        done, well = _tell(queue.send_again(limit))
        limit = None if limit is None else limit - done
        whole = whole and well
    return whole


def _put_blobs(misuse: Callable[[str], Never], given: argparse.Namespace, environment: Mapping[str, str]) -> bool:
    """Send the events of files to the topic, or into the events queue. The files stay as they are."""
    letters, whole = _blobs(given.blobs, given.limit)
    to: DeadLetterTopic | DeadLetterQueue | None
    if given.topic is not None:
        key = config.load_topic_key(environment)
        if given.topic.startswith("http:") and not key:
            misuse("BRIDGE_TOPIC_KEY has to be set for an http endpoint: a token is not sent in the clear")
        to = DeadLetterTopic(given.topic, key)
    else:
        to = _queues(misuse, given, environment).events
    if to is None:
        misuse(f"events need a way: {config.EVENTS} has to be set, or --topic given")
    _, well = _tell(to.put(letters))
    return whole and well


def _tell(outcomes: Outcomes) -> tuple[int, bool]:
    """Print what became of each; return how many there were, and whether all were sent and taken out."""
    count, whole = 0, True
    for letter, trouble in outcomes:
        count += 1
        whole = whole and trouble is None
        if trouble is None:
            print(f"sent again  {plain(letter.place)}  {plain(letter.id) or '-'}", flush=True)
        else:
            _complain(f"{letter.place} {letter.id or '-'}: {trouble}")
    return count, whole


def _blobs(paths: Sequence[Path], limit: int | None) -> tuple[list[DeadLetter], bool]:
    """Read files; return their events, and whether all could be read."""
    letters: list[DeadLetter] = []
    whole = True
    for file in (file for path in paths for file in dead_letter.files_in(path)):
        try:
            letters += dead_letter.events_in(file)
        except UnreadableError as trouble:
            _complain(f"{file}: {trouble}")
            whole = False
    return letters[:limit], whole


def _complain(trouble: object) -> None:
    print(plain(trouble), file=sys.stderr)


def _existing(text: str) -> Path:
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError("there is no such file or folder")
    return path


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text)):  # noqa: PLR2004 - below any limit
        raise argparse.ArgumentTypeError("has to be a whole number from 1")
    return int(text)
