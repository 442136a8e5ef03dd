"""Entra's keys: fetched when they are needed, seldom, and from nobody else."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import requests

from bridge.adapters.entra_keys import AGAIN, AGAIN_WITHOUT, KEPT_FOR, MOST_BYTES, EntraKeys
from bridge.errors import EntraUnavailable
from tests.fakes.transport import Answer, ScriptedTransport
from tests.fakes_http.entra import private_key, public_jwk

URL = "https://login.microsoftonline.com/tenant/discovery/v2.0/keys"
ONE = {"keys": [public_jwk("key-1")]}
BOTH = {"keys": [public_jwk("key-1"), public_jwk("key-2")]}
DOWN = requests.ConnectTimeout("canary")
A_MOMENT = timedelta(seconds=1)


@dataclass
class Page:
    """Entra's page of keys, which answers whatever `answer` is, and a clock."""

    answer: Answer = (200, ONE)
    now: float = 1_000.0
    transport: ScriptedTransport = field(init=False)
    keys: EntraKeys = field(init=False)

    def __post_init__(self) -> None:
        """Put it on the wire."""
        self.transport = ScriptedTransport(lambda _: self.answer)
        session = requests.Session()
        session.mount("https://", self.transport)
        self.keys = EntraKeys(URL, session, clock=lambda: self.now)

    @property
    def fetches(self) -> int:
        """How often it was asked for."""
        return len(self.transport.sent)

    def has(self, kid: str) -> bool | str:
        """Whether there is such a key; or why that cannot be told."""
        try:
            return self.keys.find(kid) is not None
        except EntraUnavailable as problem:
            return problem.detail

    def passes(self, *durations: timedelta) -> None:
        """Let time pass."""
        self.now += sum(durations, timedelta()).total_seconds()


def test_keys_are_kept_for_a_day() -> None:
    """The keys are fetched with the first token, and then once a day, in five seconds at most."""
    page = Page()
    assert (True, True, 1) == (page.has("key-1"), page.has("key-1"), page.fetches)
    assert [f"GET {URL}"] == page.transport.calls()
    (asked,) = page.transport.options
    assert (True, True) == (asked["stream"], sum(asked["timeout"]) <= 5)
    page.passes(KEPT_FOR)
    page.answer = (200, {"keys": [public_jwk("key-2")]})
    assert (False, 2, True) == (page.has("key-1"), page.fetches, page.has("key-2"))


def test_a_new_key_is_found() -> None:
    """A key that Entra has only begun to use is fetched when the first token names it."""
    page = Page()
    page.has("key-1")
    page.passes(AGAIN)
    page.answer = (200, BOTH)
    assert (True, 2) == (page.has("key-2"), page.fetches)


def test_forged_names_of_keys() -> None:
    """S38: however many tokens name keys that do not exist, Entra is asked once a minute."""
    page = Page()
    assert {False} == {page.has(f"forged-{number}") for number in range(50)}
    assert 1 == page.fetches
    page.passes(AGAIN, -A_MOMENT)
    assert (False, 1) == (page.has("forged"), page.fetches)
    page.passes(A_MOMENT)
    assert (False, False, 2) == (page.has("forged"), page.has("forged"), page.fetches)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (DOWN, "ConnectTimeout"),
        (requests.exceptions.SSLError("canary"), "SSLError"),
        ((503, b"canary"), "it answered 503"),
        ((302, b"", {"Location": "https://example.com/canary"}), "it answered 302"),
        ((200, b"<html>canary"), "the answer is not JSON"),
        ((200, b"[" * 100_000), "the answer is not JSON"),
        ((200, b"\xff\xfe\xfd"), "the answer is not JSON"),
        ((200, b" " * (MOST_BYTES + 1)), "the answer is too large"),
        ((200, []), "there were none in the answer"),
        ((200, {"keys": "canary"}), "there were none in the answer"),
        ((200, {"keys": []}), "there were none in the answer"),
    ],
)
def test_keys_that_cannot_be_had(answer: Answer, said: str) -> None:
    """S46: while no keys can be had no token is judged, and Entra is asked every ten seconds until they can."""
    page = Page(answer)
    assert f"Entra's signing keys cannot be had ({said}), so" in str(page.has("key-1"))
    assert (True, 1) == ("canary" not in str(page.has("key-1")), page.fetches)
    assert (said, 1) == (page.keys.check(), page.fetches)
    page.passes(AGAIN_WITHOUT)
    page.answer = (200, ONE)
    assert (True, 2, None) == (page.has("key-1"), page.fetches, page.keys.check())


@pytest.mark.parametrize("answer", [DOWN, (500, b""), (200, b"<html>"), (200, {"keys": []})])
def test_old_keys_serve_on(answer: Answer) -> None:
    """Keys that are known serve on while new ones cannot be had, which is tried once a minute; others stay in doubt."""
    page = Page()
    page.has("key-1")
    page.answer = answer
    page.passes(KEPT_FOR)
    assert (True, True, 2) == (page.has("key-1"), page.has("key-1"), page.fetches)
    assert ("Entra's signing keys" in str(page.has("key-2")), 2) == (True, page.fetches)
    page.passes(AGAIN)
    assert (True, 3) == (page.has("key-1"), page.fetches)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param({"kty": "oct", "kid": "key-2", "k": "c2VjcmV0", "use": "sig"}, id="secret"),
        pytest.param(public_jwk("key-2", use="enc"), id="for-encryption"),
        pytest.param(public_jwk("key-2", n="?"), id="broken"),
        pytest.param({**public_jwk("key-2"), "n": None}, id="nothing"),
        pytest.param({**public_jwk("key-2"), "kid": 2}, id="name-no-text"),
        pytest.param("key-2", id="no-object"),
    ],
)
def test_keys_of_another_kind(key: Any) -> None:
    """What is no RSA key for signatures is passed over; the others count."""
    page = Page((200, {"keys": [key, *ONE["keys"]]}))
    assert (True, False) == (page.has("key-1"), page.has("key-2"))


def test_a_short_key() -> None:
    """A key of less than 2048 bits is none."""
    number = private_key("short", 1024).public_key().public_numbers().n
    text = public_jwk("key-2")["n"]
    assert number.bit_length() == 1024
    page = Page((200, {"keys": [public_jwk("key-2", n=text[: len(text) // 2])]}))
    assert "there were none in the answer" in str(page.has("key-2"))


def test_an_answer_that_trickles(monkeypatch: pytest.MonkeyPatch) -> None:
    """S42: an answer that comes byte by byte is given up after five seconds."""
    page = Page()

    def trickle(*_: object) -> Any:
        while True:
            page.now += 1
            yield b" "

    monkeypatch.setattr(requests.Response, "iter_content", trickle)
    began = page.now
    assert "the answer took too long" in str(page.has("key-1"))
    assert page.now - began <= 6


def test_one_thread_fetches_for_all() -> None:
    """S42: threads that all need the keys at once cause one fetch."""
    page, together = Page(), threading.Barrier(8)

    def find(_: int) -> bool | str:
        together.wait(timeout=20)
        return page.has("key-1")

    with ThreadPoolExecutor(8) as pool:
        assert [True] * 8 == list(pool.map(find, range(8)))
    assert 1 == page.fetches


def test_nobody_waits_for_newer_keys() -> None:
    """S42: while one thread fetches newer keys, the others go on with those that there are."""
    page, fetching, go_on = Page(), threading.Event(), threading.Event()
    page.has("key-1")
    page.passes(KEPT_FOR)

    def slowly(_: object) -> Answer:
        fetching.set()
        assert go_on.wait(timeout=20)
        return 200, ONE

    page.transport.reply = slowly
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(page.has, "key-1")
        assert fetching.wait(timeout=20)
        assert page.has("key-1") is True
        go_on.set()
        assert first.result() is True
    assert 2 == page.fetches
