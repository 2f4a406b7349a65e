# SPDX-License-Identifier: Apache-2.0
"""A real Slurm of four nodes on loopback: slurm.py LLMCTL [CASE...]. Needs slurmctld, slurmd and root's or a user's rights.

Cases: submit, requeue, node (a node's daemon killed, the node declared down), limit (told before its time limit it saves
and is requeued), elastic (begins on two nodes while the others are taken, and goes on on four once they are idle), shrink
(of four nodes one dies: goes on on three). Each job must end COMPLETED with the digest of a run on one rank.
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from lab import Lab, until

NODES = 4
CONF = """ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
StateSaveLocation={lab}/state
SlurmdSpoolDir={lab}/spool/%n
TmpFS={lab}/tmp/%n
SlurmctldPidFile={lab}/slurmctld.pid
SlurmdPidFile={lab}/slurmd-%n.pid
SlurmctldLogFile={lab}/slurmctld.log
SlurmdLogFile={lab}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
KillWait=5
AuthInfo=cred_expire=5
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0,batch_sched_delay=0
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=2 RealMemory=1000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Cluster:
    def __init__(self, folder):
        self.folder, self.pids = folder, []
        for name in ["state", "spool", "tmp"] + [f"{d}/n{n}" for d in ("spool", "tmp") for n in range(1, NODES + 1)]:
            os.makedirs(os.path.join(folder, name))
        base = 17000 + os.getpid() % 5000
        self.conf = os.path.join(folder, "slurm.conf")
        import pwd
        with open(self.conf, "w") as out:
            out.write(CONF.format(host=socket.gethostname().split(".")[0], user=pwd.getpwuid(os.getuid()).pw_name, lab=folder,
                                  port=base, first=base + 1, last=base + NODES, nodes=NODES))
        os.environ["SLURM_CONF"] = self.conf
        self.daemon("slurmctld", "-f", self.conf)
        for n in range(1, NODES + 1):
            self.daemon("slurmd", "-N", f"n{n}", "-f", self.conf)
        until(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T") and "unk" not in self.ask("sinfo", "-h", "-o", "%T"), "idle nodes")

    def daemon(self, *words):
        subprocess.run([shutil.which(words[0]) or "/usr/sbin/" + words[0], *words[1:]], check=True)

    def ask(self, *words):
        return subprocess.run(words, capture_output=True, text=True).stdout.strip()

    def revive(self, node):
        self.daemon("slurmd", "-N", node, "-f", self.conf)
        self.ask("scontrol", "update", f"NodeName={node}", "State=RESUME")
        until(lambda: self.ask("sinfo", "-h", "-n", node, "-o", "%T") == "idle", node + " to be idle")

    def pid(self, name):
        return int(open(os.path.join(self.folder, name + ".pid")).read())

    def stop(self):
        self.ask("scancel", "--user", str(os.getuid()))
        for name in [f"slurmd-n{n}" for n in range(1, NODES + 1)] + ["slurmctld"]:
            try:
                os.kill(self.pid(name), signal.SIGKILL)
            except (OSError, ValueError):
                pass


def job(lab, cluster, wanted, name, disturb, *words, time_out=900):
    run = "slurm-" + name
    follower = lab.start("launch", "slurm", "--poll", "0.3", "--name", name, *words, "--run", run)
    until(lambda: cluster.ask("squeue", "-h", "-n", name, "-o", "%i"), "the job")
    disturb(run, cluster.ask("squeue", "-h", "-n", name, "-o", "%i"))
    out, err = follower.communicate(timeout=time_out)
    assert follower.returncode == 0 and "COMPLETED" in out, f"{name}: exit {follower.returncode}\n{out}{err}"
    world = json.load(open(lab.path(run, "lease.json")))["world"]
    assert lab.train("--run", run, "--resume")["digest"] == wanted[words[-1]], f"{name}: another digest\n{err}"
    return out + err, world


def main(binary, cases):
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as home:
        lab = Lab(binary, folder)
        lab.config("long.json", schedule={"steps": 150}, checkpoint={"every": 10})
        lab.config("limit.json", batch={"units": 64}, schedule={"steps": 400}, checkpoint={"every": 100})
        lab.config("elastic.json", batch={"units": 12}, schedule={"steps": 400}, checkpoint={"every": 20})
        configs = {"submit": "train.json", "requeue": "long.json", "node": "long.json", "limit": "limit.json",
                   "elastic": "elastic.json", "shrink": "elastic.json"}
        cases = cases or list(configs)
        wanted = {c: lab.train(c, "--run", "alone-" + c)["digest"] for c in {configs[n] for n in cases}}
        print("references made", flush=True)
        cluster = Cluster(home)
        print("cluster up", flush=True)

        dead = []

        def trained(run, steps):
            until(lambda: lab.done(run) >= steps, f"step {steps} of {run}")

        def requeue(run, number):
            trained(run, 20)
            cluster.ask("scontrol", "requeue", number)

        def kill_node(run, number):
            trained(run, 20)
            node = cluster.ask("scontrol", "show", "hostnames", cluster.ask("squeue", "-h", "-j", number, "-o", "%N")).split()[-1]
            os.kill(cluster.pid("slurmd-" + node), signal.SIGKILL)
            cluster.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=killed")
            dead.append(node)

        def elastic(run, number):
            trained(run, 20)
            assert json.load(open(lab.path(run, "lease.json")))["world"] == 2
            cluster.ask("scancel", "-n", "blocker")

        def nothing(run, number):
            pass
        tests = {"submit": nothing, "requeue": requeue, "node": kill_node, "limit": nothing, "elastic": elastic, "shrink": kill_node}
        flags = {"limit": ("-n", "2", "--time", "1", "--signal-before", "45"),
                 "elastic": ("-n", "4", "--min-nodes", "2", "--regrow", "2"), "shrink": ("-n", "4", "--min-nodes", "2")}
        must = {"limit": ("the time limit is near; requeued at step", 2), "elastic": ("there is room for more nodes; requeued at step", 4),
                "shrink": ("waits for 3 nodes instead of 4", 3)}
        try:
            for name in cases:
                start = time.monotonic()
                if name == "elastic":
                    cluster.ask("sbatch", "-n", "2", "-N", "2", "-J", "blocker", "-o", "/dev/null", "--exclusive", "--wrap", "sleep 600")
                    until(lambda: cluster.ask("squeue", "-h", "-n", "blocker", "-t", "R", "-o", "%i"), "the blocker")
                said, last_world = job(lab, cluster, wanted, name, tests[name], *flags.get(name, ("-n", "2")), configs[name])
                words, world = must.get(name, ("", 2))
                assert words in said and last_world == world, f"{name}: {last_world} ranks at last\n{said}"
                while dead:
                    cluster.revive(dead.pop())
                print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)
        finally:
            cluster.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
