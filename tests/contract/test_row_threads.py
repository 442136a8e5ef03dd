"""Rows that many threads of a new process read at once, as when requests meet a host that has just started."""

import subprocess
import sys
from textwrap import dedent

from tests.contract.processes import ROOT

PROGRAM = dedent("""
    import sys
    from threading import Barrier, Thread

    import msgspec

    from bridge.adapters import rows
    from bridge.model import EventRecord, Run, Verdict, Wait
    from tests.fakes.clock import START
    from tests.fakes.samples import a_due_wait, an_ended_run

    run, wait = rows.encode(an_ended_run()), rows.encode(a_due_wait())
    event = msgspec.json.encode(EventRecord("id", START, Verdict.NOTED, ""))
    readers = (
        lambda: rows.decode(run, Run, version="1"),
        lambda: rows.decode(wait, Wait, version="1"),
        lambda: msgspec.json.decode(event, type=EventRecord),
    )
    start = Barrier(15)

    def read(number):
        start.wait()
        readers[number % 3]()

    threads = [Thread(target=read, args=(number,)) for number in range(15)]
    sys.setswitchinterval(1e-6)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
""")
PROCESSES = 5


def test_first_reads_at_once() -> None:
    """A process survives that its threads read rows of a kind for the first time at the same time."""
    command = [sys.executable, "-c", PROGRAM]
    ended = [subprocess.run(command, cwd=ROOT, timeout=30, check=False).returncode for _ in range(PROCESSES)]
    assert [0] * PROCESSES == ended
