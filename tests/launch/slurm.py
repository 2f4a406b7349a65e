# SPDX-License-Identifier: Apache-2.0
"""A real Slurm of four nodes on loopback: slurm.py LLMCTL [CASE...]. Needs slurmctld, slurmd and root's or a user's rights.

Cases: submit, requeue, node (a node's daemon killed, the node declared down), limit (told before its time limit it saves
and is requeued). Each job must end COMPLETED with the digest of a run on one rank.
"""
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

    def pid(self, name):
        return int(open(os.path.join(self.folder, name + ".pid")).read())

    def stop(self):
        self.ask("scancel", "--user", str(os.getuid()))
        for name in [f"slurmd-n{n}" for n in range(1, NODES + 1)] + ["slurmctld"]:
            try:
                os.kill(self.pid(name), signal.SIGKILL)
            except (OSError, ValueError):
                pass


def job(lab, cluster, wanted, name, disturb, *words, time_out=300):
    run = "slurm-" + name
    follower = lab.start("launch", "slurm", "-n", "2", "--poll", "0.3", "--name", name, *words, "--run", run)
    until(lambda: cluster.ask("squeue", "-h", "-n", name, "-o", "%i"), "the job")
    disturb(run, cluster.ask("squeue", "-h", "-n", name, "-o", "%i"))
    out, err = follower.communicate(timeout=time_out)
    assert follower.returncode == 0 and "COMPLETED" in out, f"{name}: exit {follower.returncode}\n{out}{err}"
    assert lab.train("--run", run, "--resume")["digest"] == wanted[words[-1]], f"{name}: another digest\n{err}"
    return out + err


def main(binary, cases):
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as home:
        lab = Lab(binary, folder)
        lab.config("long.json", schedule={"steps": 150}, checkpoint={"every": 10})
        lab.config("limit.json", batch={"units": 64}, schedule={"steps": 400}, checkpoint={"every": 100})
        configs = {"submit": "train.json", "requeue": "long.json", "node": "long.json", "limit": "limit.json"}
        cases = cases or list(configs)
        wanted = {c: lab.train(c, "--run", "alone-" + c)["digest"] for c in {configs[n] for n in cases}}
        print("references made", flush=True)
        cluster = Cluster(home)
        print("cluster up", flush=True)

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

        def nothing(run, number):
            pass
        tests = {"submit": nothing, "requeue": requeue, "node": kill_node, "limit": nothing}
        limit = {"limit": ("--time", "1", "--signal-before", "45")}
        try:
            for name in cases:
                start = time.monotonic()
                said = job(lab, cluster, wanted, name, tests[name], *limit.get(name, ()), configs[name], time_out=900)
                if name == "limit":
                    assert "the time limit is near; requeued at step" in said, said
                print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)
        finally:
            cluster.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
