"""Asks a running bridge about a wait: one GET, no redirects, and the key goes nowhere but into its header."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import requests

from bridge import masking, setting_values
from bridge.cli.story import plain
from bridge.config import Secret

_TIMEOUT: Final = (5, 30)  # seconds to connect, to read; a cold start takes its time
_WORDS_SHOWN: Final = 500


class NotToBeHadError(Exception):
    """The story is not to be had; the message says why, and what to do."""


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
        try:
            response = self._session.get(
                f"{self._url}/waits/{token}",
                headers={"x-functions-key": self._key.reveal(), "Accept": "application/json"},
                timeout=_TIMEOUT,
                allow_redirects=False,
            )
        except requests.Timeout:
            raise NotToBeHadError(f"The bridge at {self._url} did not answer in time. Try again.") from None
        except requests.RequestException as error:
            raise NotToBeHadError(f"The bridge at {self._url} cannot be reached ({type(error).__name__}).") from None
        document = _object(response)
        if response.status_code != requests.codes.ok:
            raise NotToBeHadError(masking.masked(self._refused(response.status_code, document), [self._key.reveal()]))
        if document is None:
            raise NotToBeHadError(f"What answers at {self._url} is no bridge: is the URL right?")
        return document

    def _refused(self, status: int, document: Mapping[str, Any] | None) -> str:
        said = document.get("detail") if document is not None else None
        words = f": {plain(said)[:_WORDS_SHOWN]}" if isinstance(said, str) and said else "."
        match status:
            case 401:
                return "The bridge does not take this key. It needs a function key of the app, or its host key."
            case 404 if document is not None and document.get("code") == "not-found":
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


def _object(response: requests.Response) -> Mapping[str, Any] | None:
    try:
        document = response.json()
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
