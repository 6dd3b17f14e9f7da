"""Commands in slots: what ran where and how often, what died is tried again, what is stopped ends in good order."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from domix.runtime.slots import Command, Runner, Slot, State, Verdict
from domix.runtime.tracking.heartbeat import Heartbeat, read_heartbeat

NOTE = "import os, sys, time; print('slot', os.environ.get('SLOT'), flush=True)\n"
# Saves on SIGINT, as a training does, unless it has been told to be deaf.
PATIENT = """
import signal, sys, time
from pathlib import Path
def save(*_):
    Path(sys.argv[1]).write_text("saved")
    sys.exit(75)
signal.signal(signal.SIGINT, save if len(sys.argv) < 3 else signal.SIG_IGN)
Path(sys.argv[1] + ".ready").touch()
time.sleep(60)
"""
# Watches over another process as dvc does, and records its end.
WATCHER = """
import signal, subprocess, sys
from pathlib import Path
child = subprocess.Popen([sys.executable, *sys.argv[2:]])
code = child.wait()
Path(sys.argv[1]).write_text(f"recorded {code}")
sys.exit(255)
"""


def judge(code: int, said: str) -> Verdict:
    if "busy" in said:
        return Verdict.BUSY
    return Verdict.DIED if code < 0 or code == 75 else Verdict.FAILED


def runner(commands: list[Command], slots: int = 2, *, retries: int = 1, grace_s: float = 20) -> Runner:
    places = [Slot(f"cpu {number}", {"SLOT": str(number)}) for number in range(slots)]
    return Runner(
        commands, places, environment=dict(os.environ), judge=judge, retries=retries, pause_s=0.0, grace_s=grace_s
    )


def python(folder: Path, name: str, code: str, *arguments: str, after: str | None = None) -> Command:
    words = (sys.executable, "-c", code, *arguments)
    return Command(name, words, folder, folder / "logs" / f"{name}.log", after=after)


def spare(command: Command, **environment: str | None) -> Command:
    return replace(command, spare=True, environment=environment)


def wait_for(happened: Callable[[], object]) -> None:
    limit = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < limit, "it never happened"
        time.sleep(0.02)


def test_commands_share_the_slots_and_each_slot_runs_one_at_a_time(tmp_path: Path) -> None:
    code = NOTE + (
        "from pathlib import Path; lock = Path('slot' + os.environ['SLOT'])\n"
        "lock.touch(exist_ok=False); time.sleep(0.3); lock.unlink()"
    )
    run = runner([python(tmp_path, f"c{number}", code) for number in range(5)])
    run.run()
    assert [job.state for job in run.jobs] == [State.DONE] * 5, [job.output() for job in run.jobs]
    assert {job.slot.name for job in run.jobs if job.slot} == {"cpu 0", "cpu 1"}
    assert all(job.attempts == 1 and job.code == 0 for job in run.jobs)
    assert "slot" in run.jobs[0].output()


def test_a_failure_leaves_the_others_alone_and_is_not_tried_again(tmp_path: Path) -> None:
    run = runner([python(tmp_path, "bad", "import sys; sys.exit('no such thing')"), python(tmp_path, "good", "")])
    run.run()
    bad, good = run.jobs
    assert (bad.state, bad.code, bad.attempts) == (State.FAILED, 1, 1)
    assert "no such thing" in bad.output()
    assert good.state is State.DONE


@pytest.mark.parametrize(("deaths", "state", "attempts"), [(1, State.DONE, 2), (2, State.FAILED, 2)])
def test_what_died_is_started_again_so_many_times(tmp_path: Path, deaths: int, state: State, attempts: int) -> None:
    code = (
        "import os; n = int(open('count').read()); open('count', 'w').write(str(n + 1))\n"
        f"n >= {deaths} or os.kill(os.getpid(), 9)"
    )
    (tmp_path / "count").write_text("0")
    run = runner([python(tmp_path, "c", code)])
    run.run()
    assert (run.jobs[0].state, run.jobs[0].attempts) == (state, attempts)
    assert (tmp_path / "logs/c.log").read_text().count("--- ") == attempts


def test_waiting_for_another_costs_no_attempt(tmp_path: Path) -> None:
    code = "import sys\nfrom pathlib import Path\nseen = Path('seen'); old = seen.exists(); seen.touch()\n"
    run = runner([python(tmp_path, "c", code + "sys.exit(0 if old else 'it is busy')")], retries=0)
    run.run()
    assert (run.jobs[0].state, run.jobs[0].attempts) == (State.DONE, 1)
    assert "busy" not in run.jobs[0].output()  # each attempt is judged by its own words


def test_a_command_waits_for_the_one_that_it_follows(tmp_path: Path) -> None:
    first = python(tmp_path, "first", "import time; time.sleep(0.5); open('made', 'w'); raise SystemExit(3)")
    second = python(tmp_path, "second", "open('made')", after="first")
    run = runner([second, first])
    run.run()
    assert [job.state for job in run.jobs] == [State.DONE, State.FAILED]


def test_stopping_interrupts_the_child_lets_its_watcher_record_and_starts_nothing(tmp_path: Path) -> None:
    saved, recorded = tmp_path / "saved", tmp_path / "recorded"
    watched = python(tmp_path, "watched", WATCHER, str(recorded), "-c", PATIENT, str(saved))
    run = runner([watched, python(tmp_path, "later", "open('started', 'w')")], slots=1)
    run.run(stopping=lambda: (tmp_path / "saved.ready").exists())
    assert saved.read_text() == "saved"
    assert recorded.read_text() == "recorded 75"
    assert [job.state for job in run.jobs] == [State.STOPPED, State.STOPPED]
    assert not (tmp_path / "started").exists()


def test_what_does_not_end_is_killed_with_all_its_processes(tmp_path: Path) -> None:
    watched = python(tmp_path, "deaf", WATCHER, str(tmp_path / "r"), "-c", PATIENT, str(tmp_path / "s"), "deaf")
    run = runner([watched], grace_s=0.5)
    run.run(stopping=lambda: (tmp_path / "s.ready").exists())
    assert run.jobs[0].state is State.STOPPED
    assert run.jobs[0].code == -signal.SIGKILL
    wait_for(lambda: not any(str(tmp_path / "s") in " ".join(process.cmdline()) for process in alive()))


def alive() -> list[psutil.Process]:
    mine = [p for p in psutil.process_iter(["status", "uids"]) if p.info["status"] != psutil.STATUS_ZOMBIE]
    return [p for p in mine if p.info["uids"] and p.info["uids"].real == os.getuid()]


def test_an_orphan_is_ended_before_its_command_is_started_again(tmp_path: Path) -> None:
    """The watcher dies, its child lives: two trainings of one run must never go on side by side."""
    code = (
        "import os, subprocess, sys, time\nfrom pathlib import Path\n"
        "if Path('saved').exists(): sys.exit()\n"
        "subprocess.Popen([sys.executable, '-c', sys.argv[1], 'saved'])\n"
        "while not Path('saved.ready').exists(): time.sleep(0.02)\n"
        "os.kill(os.getpid(), 9)"
    )
    run = runner([python(tmp_path, "c", code, PATIENT)])
    run.run()
    assert (run.jobs[0].state, run.jobs[0].attempts) == (State.DONE, 2)


def test_a_heartbeat_tells_the_newest_row(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run.json"
    assert read_heartbeat(path) == {}
    heart = Heartbeat(path, every_s=0.0)
    heart.params({"steps": 500, "batch": 128, "lr": 0.1})
    heart.metrics({"loss": 2.5, "samples_per_s": 900.0, "lr": 0.1}, 10)
    heart.metrics({"validation.loss": 9.0}, 10)
    told = read_heartbeat(path)
    assert told.pop("time") > 0
    assert told == {"steps": 500, "batch": 128, "step": 10, "loss": 2.5, "samples_per_s": 900.0}


def test_a_heartbeat_writes_seldom_but_ends_with_the_last_row(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    heart = Heartbeat(path, every_s=1000.0)
    heart.params({"steps": 3})
    for step in (1, 2, 3):
        heart.metrics({"loss": 1.0, "samples_per_s": 1.0}, step)
    assert "step" not in read_heartbeat(path)
    heart.finish(succeeded=True)
    assert read_heartbeat(path)["step"] == 3


def test_a_heartbeat_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(json.dumps(1))
    Heartbeat(tmp_path / "file" / "run.json").params({"steps": 3})


def test_a_spare_command_fills_a_slot_that_nothing_else_needs(tmp_path: Path) -> None:
    """The second waits for a slot: when there is one, no other command is left."""
    commands = [
        spare(python(tmp_path, "first spare", NOTE)),
        spare(python(tmp_path, "last spare", NOTE, after="long")),
        python(tmp_path, "short", "import time; time.sleep(0.1)"),
        python(tmp_path, "long", "import time; time.sleep(1.5)"),
    ]
    made = runner([commands[2], commands[3], *commands[:2]])
    made.run()
    states = {job.command.name: job.state for job in made.jobs}
    assert states == {
        "short": State.DONE,
        "long": State.DONE,
        "first spare": State.DONE,
        "last spare": State.STOPPED,
    }
    first, long = (next(job for job in made.jobs if job.command.name == name) for name in ("first spare", "long"))
    assert first.started > long.started
    assert not (tmp_path / "logs" / "last spare.log").exists()


def test_a_running_spare_command_is_waited_for(tmp_path: Path) -> None:
    slow = "import time; time.sleep(1); print('whole', flush=True)"
    made = runner([python(tmp_path, "short", NOTE), spare(python(tmp_path, "slow", slow))])
    made.run()
    assert made.jobs[1].state is State.DONE
    assert "whole" in made.jobs[1].output()


def test_a_command_may_be_without_a_variable_of_its_slot(tmp_path: Path) -> None:
    made = runner([spare(python(tmp_path, "bare", NOTE), SLOT=None), python(tmp_path, "other", NOTE)])
    made.run()
    assert ["slot None" in job.output() for job in made.jobs] == [True, False]
