"""The command line: `explain` tells a wait's story, `replay` sends dead letters again, `wrap` generates wrappers.

Exit codes: 0 done, 1 not to be had or not all done, 2 called wrongly.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final, Never

from bridge import masking
from bridge.cli import replay, wrap
from bridge.cli.explain import Bridge, NotToBeHadError, add_key_to, api_root, function_key
from bridge.cli.story import tell

TOLD: Final = 0
NOT_TO_BE_HAD: Final = 1
_COMMANDS: Final = ("explain", "replay", "wrap")
_TOKEN: Final = re.compile(r"[0-9a-f]{64}")


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Do what the command line asks for; return the exit code. Exits with 2 by itself when it is called wrongly."""
    given = _parsed(_parser(), arguments)
    code: int = given.run(given, environment)
    return code


def _explain(misuse: Callable[[str], Never], given: argparse.Namespace, environment: Mapping[str, str]) -> int:
    key = function_key(misuse, given, environment)
    try:
        print(tell(Bridge(given.url, key).wait(given.token), datetime.now(UTC)))
    except NotToBeHadError as trouble:
        print(trouble, file=sys.stderr)
        return NOT_TO_BE_HAD
    return TOLD


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bridge", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    explain = commands.add_parser("explain", help="tell the story of a wait", allow_abbrev=False)
    explain.add_argument("token", metavar="TOKEN", type=_token, help="the wait's token (XCom adf_bridge_token)")
    explain.add_argument(
        "--url", required=True, type=api_root, help="where the bridge is: https, or http on this machine"
    )
    add_key_to(explain, required=True)
    explain.set_defaults(run=partial(_explain, explain.error))
    replay.add_to(commands)
    wrap.add_to(commands)
    return parser


def _parsed(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments. argparse repeats what it does not understand, which may be a key in the wrong place."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return parser.parse_args(arguments)
    finally:
        values = [
            text.partition("=")[2] if text.startswith("-") else text for text in arguments if text not in _COMMANDS
        ]
        print(masking.masked(complaint.getvalue(), values), end="", file=sys.stderr)


def _token(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise argparse.ArgumentTypeError("a token has 64 hexadecimal digits, in lower case")
    return text
