# SPDX-License-Identifier: Apache-2.0
"""Ranks killed for real: kill.py LLMCTL [ROUNDS]. The digests are those of a run that nobody disturbed.

ROUNDS (4): how often a save is killed at a random moment of it.
"""
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time

from lab import Lab, until


class Launch:
    """`llmctl launch local`, its ranks' process ids as its log tells them, world by world."""

    def __init__(self, lab, *words):
        self.process = lab.start("launch", "local", *words)
        self.worlds, self.log = [], []
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stderr:
            self.log.append(line)
            if match := re.search(r"processes ([\d, ]+)", line):
                self.worlds.append([int(p) for p in match[1].split(",")])

    def world(self, n):
        until(lambda: len(self.worlds) > n or self.process.poll() is not None, f"world {n}")
        assert len(self.worlds) > n, "".join(self.log)
        return self.worlds[n]

    def end(self, code):
        found = self.process.wait(600)
        self.reader.join()
        self.text = "".join(self.log)
        assert found == code, f"exit {found}, not {code}\n{self.text}"
        return self.process.stdout.read()


def in_step(lab, run, step):
    """Returns within step `step` (from 0): the lines before it are there and its own is not. The save before it may be
    under way still."""
    until(lambda: len(lab.metrics(run)) >= step, f"step {step} of {run}")
    time.sleep(0.005)
    assert len(lab.metrics(run)) == step, "the step was over too soon: make it larger"


def smaller_worlds(lab, wanted):
    """DP 2 x TP 2, a rank killed within the 7th step; resumed as a pipeline of 2, then on one worker."""
    run = ["train.json", "--run", "smaller"]
    launch = Launch(lab, "-n", "4", "--max-restarts", "0", *run, "--", "--parallel.tp", "2")
    in_step(lab, "smaller", 6)
    os.kill(launch.world(0)[2], signal.SIGKILL)
    launch.end(6)
    assert "gave up: rank 2 was killed by signal 9" in launch.text, launch.text
    assert lab.done("smaller") in (4, 6)
    Launch(lab, "-n", "2", *run, "--", "--resume", "--parallel.tp", "1", "--parallel.pp", "2", "--stop-after", "8").end(130)
    assert lab.done("smaller") == 8
    one = ["--parallel.tp", "1", "--parallel.pp", "1"]
    assert lab.train("--run", "smaller", "--resume", *one)["digest"] == wanted
    assert lab.digests("smaller") == lab.digests("alone")


def restarted(lab, wanted):
    """The supervisor restarts by itself; a rank that fails twice in a row costs the world one rank."""
    launch = Launch(lab, "-n", "4", "--elastic", "--backoff", "0.05", "--json", "--", "train", "late.json", "--run", "restarted")
    for world in range(2):
        pids = launch.world(world)
        until(lambda: len(lab.metrics("restarted")) >= 2, "steps")
        os.kill(pids[3], signal.SIGKILL)
        until(lambda: len(launch.worlds) > world + 1, "the next world")
    assert len(launch.world(2)) == 3, launch.worlds
    out = launch.end(0)
    assert '"restarts":2' in out and '"ranks":3' in out and f'"digest":"{wanted}"' in out, out
    assert "rank 3 failed twice in a row: going on with 3 ranks" in launch.text, launch.text


def grown(lab, wanted):
    """Room that the slots file gives and takes: the world follows it, in sizes that divide into TP 2; then the place of a
    rank that was given up is tried again by itself, and by the file."""
    wanted = lab.train("long.json", "--run", "long-alone")["digest"]

    def slots(n):
        with open(lab.path("slots.new"), "w") as out:
            out.write(f"{n} ranks\n")
        os.rename(lab.path("slots.new"), lab.path("slots"))

    def further(run, steps=2):
        seen = len(lab.metrics(run))
        until(lambda: len(lab.metrics(run)) >= seen + steps, f"steps of {run}")
    slots(2)
    launch = Launch(lab, "-n", "4", "--elastic", "--slots", "slots", "--backoff", "0.05", "--json", "long.json", "--run", "grown",
                    "--", "--parallel.tp", "2")
    assert len(launch.world(0)) == 2, launch.worlds
    further("grown")
    slots(5)
    assert len(launch.world(1)) == 4, launch.worlds  # 5 do not divide
    further("grown")
    slots(3)
    assert len(launch.world(2)) == 2, launch.worlds
    further("grown")
    slots(4)
    assert len(launch.world(3)) == 4, launch.worlds
    further("grown")
    slots("soon four")  # no number: what was known holds
    os.kill(launch.world(3)[1], signal.SIGKILL)
    assert len(launch.world(4)) == 4, launch.worlds
    out = launch.end(0)
    assert '"restarts":1' in out and '"resizes":3' in out and '"ranks":4' in out and f'"digest":"{wanted}"' in out, out
    assert "slots says there is room for 5 ranks: the ranks save, and 4 go on instead of 2" in launch.text, launch.text
    assert lab.digests("grown") == lab.digests("long-alone")

    slots(3)
    launch = Launch(lab, "-n", "2", "--elastic", "--slots", "slots", "--regrow", "1", "--backoff", "0.05", "--json", "long.json",
                    "--run", "regrown", "--", "--checkpoint.every", "0")
    for world in range(2):
        pids = launch.world(world)
        assert len(pids) == 3, launch.worlds
        further("regrown")
        os.kill(pids[2], signal.SIGKILL)
    assert len(launch.world(2)) == 2, launch.worlds
    assert len(launch.world(3)) == 3, launch.worlds
    out = launch.end(0)
    assert '"restarts":2' in out and '"resizes":1' in out and '"ranks":3' in out and f'"digest":"{wanted}"' in out, out
    assert "rank 2 failed twice in a row: going on with 2 ranks" in launch.text, launch.text
    assert "1 s have passed since a rank was given up: the ranks save, and 3 go on instead of 2" in launch.text, launch.text
    assert lab.digests("regrown") == lab.digests("long-alone")


def hanging(lab, wanted):
    """A rank that is stopped holds up the others: no progress, so all are started again."""
    launch = Launch(lab, "-n", "2", "--hang-timeout", "4", "--backoff", "0.05", "train.json", "--run", "hanging")
    in_step(lab, "hanging", 4)
    os.kill(launch.world(0)[1], signal.SIGSTOP)
    launch.end(0)
    assert len(launch.worlds) == 2 and "restart 1 of 3" in launch.text, launch.text
    assert lab.digests("hanging") == lab.digests("alone")


def woken(lab, wanted):
    """A start that sleeps while another takes the run over wakes to an error, and changes nothing."""
    words = ["train", "train.json", "--run", "woken", "--quiet"]
    old = lab.start(*words)
    in_step(lab, "woken", 5)
    os.kill(old.pid, signal.SIGSTOP)
    _, err = lab.run(*words, "--resume", code=2)
    assert "is being trained: epoch 1 on host" in err and "--take-over" in err, err
    assert lab.train("--run", "woken", "--resume", "--take-over")["digest"] == wanted

    def files():
        return {os.path.join(d, f): os.stat(os.path.join(d, f)).st_mtime_ns
                for d, _, fs in os.walk(lab.path("woken")) for f in fs if "events" not in d}
    before = files()
    os.kill(old.pid, signal.SIGCONT)
    _, err = old.communicate(timeout=60)
    assert old.returncode == 6 and "went on without this process, which is of epoch 1: epoch 2 began" in err, err
    assert files() == before
    assert lab.digests("woken") == lab.digests("alone")


def killed_saves(lab, wanted, rounds):
    """Kills at random moments of saves: the newest DONE never goes back, and each resume starts there."""
    random.seed(7)
    within = 0
    for i in range(rounds):
        run, ranks = f"saves-{i // 5}", 1 + i % 2
        launch = Launch(lab, "-n", str(ranks), "--max-restarts", "0", "every.json", "--run", run, "--", "--resume")
        before = lab.done(run)
        pids = launch.world(0)
        epoch = lab.path(run, f".epoch-{i % 5 + 1}")

        def saving():
            try:
                return any(n.startswith("step-") for n in os.listdir(epoch))
            except FileNotFoundError:
                return False
        until(lambda: saving() or launch.process.poll() is not None, "a save")
        time.sleep(random.uniform(0, 0.03))
        within += saving()
        known = lab.done(run)
        if launch.process.poll() is None:
            os.kill(random.choice(pids), signal.SIGKILL)
        launch.process.wait(600)
        launch.reader.join()
        text = "".join(launch.log)
        assert launch.process.returncode in (0, 6), text
        assert lab.done(run) >= known >= before, (run, before, known, lab.done(run))
        if before >= 0 and before < 10:
            assert f"resuming at step {before} from" in text, text
        assert "skipped" not in text, text
    for i in range((rounds + 4) // 5):
        assert lab.train("--run", f"saves-{i}", "--resume")["digest"] == wanted
        assert lab.digests(f"saves-{i}") == lab.digests("alone")
    print(f"{rounds} kills, {within} of them within a save")
    assert within > 0 or rounds < 10  # how many depends on the machine's load


def main(binary, rounds):
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(binary, folder)
        lab.config("late.json", checkpoint={"every": 0})
        lab.config("every.json", checkpoint={"every": 1})
        lab.config("long.json", schedule={"steps": 120})
        wanted = lab.train("train.json", "--run", "alone")["digest"]
        for test in (smaller_worlds, restarted, grown, hanging, woken):
            start = time.monotonic()
            test(lab, wanted)
            print(f"{test.__name__}: {time.monotonic() - start:.1f} s", flush=True)
        killed_saves(lab, wanted, rounds)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 4)
