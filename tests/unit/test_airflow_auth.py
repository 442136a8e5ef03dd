"""Signing in to Airflow from many threads at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import pytest
import requests

from bridge.adapters.airflow_auth import PasswordAuth, SignInRefused
from bridge.config import Secret, Target
from bridge.ports import Refusal, RefusalKind
from tests.fakes.transport import Answer, ScriptedTransport

THREADS = 8
PASSWORD = Target("prod", "https://airflow.example.com", "password", username="bridge", password=Secret("canary"))


class CountingLock:
    """A lock that knows how many threads have asked for it; `all_asked` is set when all have."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._asked = 0
        self.all_asked = threading.Event()

    def __enter__(self) -> Self:
        with self._counting:
            self._asked += 1
            if self._asked == THREADS:
                self.all_asked.set()
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Crowd:
    """Threads that all need a token while the first sign-in is under way, which is answered by `first`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, first: Answer) -> None:
        self._answers = iter([first])
        self._lock = CountingLock()
        self.transport = ScriptedTransport(self._reply)
        session = requests.Session()
        session.mount("https://", self.transport)
        self._auth = PasswordAuth(PASSWORD, session)
        monkeypatch.setattr(self._auth, "_lock", self._lock)

    def _reply(self, _: requests.PreparedRequest) -> Answer:
        assert self._lock.all_asked.wait(timeout=20)
        return next(self._answers, (201, {"access_token": "jwt"}))

    def sign(self, _: int = 0) -> str | Refusal:
        """What a request is signed with, or why it is not."""
        request = requests.Request("GET", "https://airflow.example.com/api/v2/version").prepare()
        try:
            return str(self._auth(request).headers["Authorization"])
        except SignInRefused as refused:
            return refused.refusal

    def sign_at_once(self) -> list[str | Refusal]:
        """What all threads get."""
        with ThreadPoolExecutor(max_workers=THREADS) as pool:
            return list(pool.map(self.sign, range(THREADS)))


def test_a_failed_sign_in_answers_all_that_waited_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """S42: a target that does not answer the sign-in holds its callers for one attempt, not one after the other."""
    crowd = Crowd(monkeypatch, requests.ReadTimeout())
    refusal = Refusal(RefusalKind.UNREACHABLE, "Airflow could not be reached to sign in (ReadTimeout)")
    assert [refusal] * THREADS == crowd.sign_at_once()
    assert 1 == len(crowd.transport.sent)


def test_the_next_caller_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """S08: a sign-in that failed is no verdict for ever: who comes later signs in anew."""
    crowd = Crowd(monkeypatch, requests.ReadTimeout())
    crowd.sign_at_once()
    assert "Bearer jwt" == crowd.sign()
    assert 2 == len(crowd.transport.sent)


def test_one_sign_in_serves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that need a token at the same time sign in once."""
    crowd = Crowd(monkeypatch, (201, {"access_token": "first"}))
    assert ["Bearer first"] * THREADS == crowd.sign_at_once()
    assert 1 == len(crowd.transport.sent)
