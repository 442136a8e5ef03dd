"""The verdict: what became of every task, by what the tasks, Airflow and Data Factory say. The bridge is not asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.soak.tasks import Telling

UNKNOWN = "unknown-outcome"


@dataclass(frozen=True)
class Account:
    """All that is known of one task without the bridge.

    `tellings` is what the task itself was told, `taken` the answers that Airflow took for it, `refusal` the code of a
    final refusal, `runs` the wrappers' runs that Data Factory started for its token, each with how its pipeline's run
    ended.
    """

    token: str
    tellings: Sequence[Telling] = ()
    taken: Sequence[Telling] = ()
    refusal: str | None = None
    runs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Broken:
    """A broken promise about one task."""

    promise: str
    token: str
    detail: str


@dataclass(frozen=True)
class Verdict:
    """The broken promises, and the tokens of the tasks that were told that nobody knows whether their run started."""

    broken: tuple[Broken, ...]
    unknown: tuple[str, ...]

    def count(self, promise: str) -> int:
        """How many tasks a promise was broken to."""
        return len({one.token for one in self.broken if one.promise == promise})


def judge(accounts: Iterable[Account]) -> Verdict:
    """Judge every task."""
    every = list(accounts)
    broken = tuple(one for account in every for one in _broken(account))
    return Verdict(broken, tuple(account.token for account in every if account.refusal == UNKNOWN))


def _broken(account: Account) -> Iterable[Broken]:
    answered = [told for told in account.tellings if told.how == "answered"]
    if len(account.runs) > 1:
        yield Broken("duplicate", account.token, f"{len(account.runs)} runs were started for one key")
    completions = len(answered) + len(account.taken)
    if completions > 1:
        yield Broken("duplicate", account.token, f"{len(answered)} in answers, {len(account.taken)} by resuming")
    if account.refusal == UNKNOWN and account.runs:
        yield Broken("not found", account.token, "nobody knows whether a run was started, and there is one")
    if account.refusal not in {None, UNKNOWN}:
        yield Broken("lost", account.token, f"refused: {account.refusal}")
    elif account.refusal is None and not account.tellings:
        resumed = ", although Airflow has its answer" if account.taken else ""
        yield Broken("lost", account.token, f"the task was told nothing{resumed}")
    yield from _wrong(account)


def _wrong(account: Account) -> Iterable[Broken]:
    """Yield what is not true of what was told, to the task or to Airflow."""
    for told in dict.fromkeys((*account.tellings, *account.taken)):
        if told.token != account.token:
            yield Broken("foreign", account.token, f"{told.how} with the completion of {told.token}")
        elif told.run_id not in account.runs:
            yield Broken("wrong", account.token, f"{told.how} about run {told.run_id}, which is not its own")
        elif account.runs[told.run_id] != told.status:
            status = account.runs[told.run_id]
            yield Broken("wrong", account.token, f"{told.how} {told.status}, and the run is {status}")
