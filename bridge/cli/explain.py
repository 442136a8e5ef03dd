"""Asks a running bridge what it knows: one GET each, no redirects, and the key goes nowhere but into its header."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, Final, Never
from urllib.parse import quote, urlsplit

import requests

from bridge import masking, setting_values
from bridge.cli.story import plain
from bridge.config import Secret

_TIMEOUT: Final = (5, 30)  # seconds to connect, to read; a cold start takes its time
_WORDS_SHOWN: Final = 500


class NotToBeHadError(Exception):
    """An answer is not to be had; the message says why, and what to do."""


def add_key_to(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add the ways to give a function key to a command line."""
    keys = parser.add_mutually_exclusive_group(required=required)
    keys.add_argument("--key", help="a function key of the bridge")
    keys.add_argument("--key-env", metavar="NAME", help="the environment variable that holds a function key")


def function_key(misuse: Callable[[str], Never], given: argparse.Namespace, environment: Mapping[str, str]) -> Secret:
    """Return the function key that was given; `misuse` is told when it cannot be one."""
    key = Secret(environment.get(given.key_env or "", "") if given.key is None else given.key)
    if not _fits_a_header(key):
        where = "--key" if given.key is not None else f"the environment variable {given.key_env}"
        misuse(f"{where} holds no function key: it is empty, or has characters that no key has")
    return key


def _fits_a_header(key: Secret) -> bool:
    text = key.reveal()
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def api_root(text: str) -> str:
    """Return the root of a bridge's API; `/api` is added unless the URL has a path. Refuses what would show the key."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise argparse.ArgumentTypeError("this is no URL") from None
    if parts.scheme not in ("https", "http") or not host:
        raise argparse.ArgumentTypeError("has to be a URL such as https://my-bridge.azurewebsites.net")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError("has to be a plain URL: no user, password, query or fragment")
    if parts.scheme == "http" and not setting_values.is_loopback(text):
        raise argparse.ArgumentTypeError("has to be https: http is for this machine only")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/api'}"


class Bridge:
    """A running bridge, as its callers see it."""

    def __init__(self, url: str, key: Secret) -> None:
        self._url = url
        self._key = key
        self._session = requests.Session()
        # Nothing that is for this machine goes through a proxy, and no key with it.
        self._session.trust_env = not setting_values.is_loopback(url)

    def wait(self, token: str) -> Mapping[str, Any]:
        """Return the answer to `GET /waits/{token}`; raise NotToBeHadError when there is none."""
        return self._found(*self._ask(f"waits/{token}"))

    def run(self, run_id: str) -> Mapping[str, Any] | None:
        """Return the answer to `GET /runs/{run_id}`, None for a run that the bridge does not know."""
        status, document = self._ask(f"runs/{quote(run_id, safe='')}")
        return None if _is_unknown(status, document) else self._found(status, document)

    def wait_or_why_not(self, key: str) -> Mapping[str, Any] | str:
        """Return the answer to `GET /waits/{key}`, or what the bridge says of a key that has no wait."""
        status, document = self._ask(f"waits/{quote(key, safe='')}")
        if document is not None and _is_unknown(status, document):
            return str(document.get("detail", ""))
        return self._found(status, document)

    def rejected(self) -> dict[str, str]:
        """Return why the last trigger requests and events were rejected, by their ids."""
        found = self._found(*self._ask("events?verdict=rejected&limit=500")).get("events")
        return {str(one.get("id")): str(one.get("reason")) for one in found} if isinstance(found, list) else {}

    def _ask(self, path: str) -> tuple[int, Mapping[str, Any] | None]:
        """Return the status and the document of an answer."""
        try:
            response = self._session.get(
                f"{self._url}/{path}",
                headers={"x-functions-key": self._key.reveal(), "Accept": "application/json"},
                timeout=_TIMEOUT,
                allow_redirects=False,
            )
        except requests.Timeout:
            raise NotToBeHadError(f"The bridge at {self._url} did not answer in time. Try again.") from None
        except requests.RequestException as error:
            raise NotToBeHadError(f"The bridge at {self._url} cannot be reached ({type(error).__name__}).") from None
        return response.status_code, _object(response)

    def _found(self, status: int, document: Mapping[str, Any] | None) -> Mapping[str, Any]:
        if status != requests.codes.ok:
            raise NotToBeHadError(masking.masked(self._refused(status, document), [self._key.reveal()]))
        if document is None:
            raise NotToBeHadError(f"What answers at {self._url} is no bridge: is the URL right?")
        return document

    def _refused(self, status: int, document: Mapping[str, Any] | None) -> str:
        said = document.get("detail") if document is not None else None
        words = f": {plain(said)[:_WORDS_SHOWN]}" if isinstance(said, str) and said else "."
        match status:
            case 401:
                return "The bridge does not take this key. It needs a function key of the app, or its host key."
            case 404 if _is_unknown(status, document):
                return (
                    "The bridge knows no wait of this token. It was never registered here, or it ended longer ago "
                    "than waits are kept."
                )
            case 404:
                return f"There is no bridge at {self._url}: is the URL right?"
            case _ if 300 <= status < 400:  # noqa: PLR2004 - a class of status codes
                return f"The answer is a redirect ({status}), which is not followed: is the URL right?"
            case _:
                return f"The bridge refused, or has trouble of its own ({status}){words}"


def _is_unknown(status: int, document: Mapping[str, Any] | None) -> bool:
    """Whether it is the bridge that does not know, and not something else that is asked by mistake."""
    return status == requests.codes.not_found and document is not None and document.get("code") == "not-found"


def _object(response: requests.Response) -> Mapping[str, Any] | None:
    try:
        document = response.json()
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
