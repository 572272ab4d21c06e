"""SLURM on this machine for tests: its controller, one node with two pretend GPUs, all on loopback, all in one folder.

The node's GPUs are device files that no program opens: SLURM hands them out and tells jobs which they got.
"""

import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

CONFIG = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
GresTypes=gpu
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
KillWait=20
MinJobAge=3600
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=4096 Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""

DAEMONS = ("munged", "slurmctld", "slurmd")
DONE = ("COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT", "OUT_OF_MEMORY")


def missing() -> str | None:
    """Why SLURM cannot be started here; None where it can."""
    if os.geteuid() != 0:
        return "only root can start SLURM's daemons and make device files"
    absent = [name for name in DAEMONS if not shutil.which(name)]
    return f"{', '.join(absent)} not installed (apt-get install slurm-wlm munge)" if absent else None


@dataclass(frozen=True)
class Slurm:
    """A running cluster; `folder` holds all that it writes."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """With it, SLURM's commands talk to this cluster."""
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def __call__(self, *command: str, **more: str) -> str:
        """The output of one of its commands, with more variables in the environment; jobs speak into its folder."""
        environment = {**self.environment, **more}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{command}: {done.stderr or done.stdout}"
        return done.stdout.strip()

    def states(self, job: str) -> dict[str, str]:
        """The state of a job, or of each task of an array, by id."""
        found = {}
        for line in self("scontrol", "show", "job", job, "--oneliner").splitlines():
            fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
            for name in _tasks(job, fields.get("ArrayTaskId")):
                found[name] = fields["JobState"]
        return found

    def wait(self, job: str, states: tuple[str, ...] = DONE, seconds: float = 180) -> dict[str, str]:
        """Wait until all tasks of a job are in one of some states."""
        deadline = time.monotonic() + seconds
        while not set((found := self.states(job)).values()) <= set(states):
            assert time.monotonic() < deadline, f"job {job} is {found} after {seconds} s"
            time.sleep(0.2)
        return found

    def rest(self) -> None:
        """Wait until the node does nothing, not even clear up after a job."""
        _until(lambda: self("sinfo", "--noheader", "--format=%t") == "idle")


def _tasks(job: str, tasks: str | None) -> list[str]:
    """The ids of a job's tasks; those that wait are told together, as 2-3."""
    if tasks is None:
        return [job]
    first, _, last = tasks.partition("-")
    return [f"{job}_{number}" for number in range(int(first), int(last or first) + 1)]


@contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """A cluster that ends, with all its jobs, when the context does."""
    _write(folder)
    cluster = Slurm(folder)
    with ExitStack() as stack:
        _start(stack, cluster, "munged", "--foreground", "--force", *_munge(folder))
        _until(lambda: (folder / "munge.socket").exists())
        _start(stack, cluster, "slurmctld", "-D", "-f", str(folder / "slurm.conf"))
        _start(stack, cluster, "slurmd", "-D", "-f", str(folder / "slurm.conf"))
        _until(lambda: "idle" in _try(cluster, "sinfo", "--noheader", "--format=%t"))
        yield cluster
        cluster("scancel", "--user=root")
        _until(lambda: not _try(cluster, "squeue", "--noheader"))


def _write(folder: Path) -> None:
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    for number in range(2):
        os.mknod(folder / f"gpu{number}", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    gpus = "\n".join(f"Name=gpu File={folder}/gpu{number}" for number in range(2))
    (folder / "gres.conf").write_text(gpus + "\n")
    ports = _free_ports(2)
    words = {"host": socket.gethostname().partition(".")[0], "folder": folder, "cpus": os.cpu_count()}
    (folder / "slurm.conf").write_text(CONFIG.format(controller=ports[0], node=ports[1], **words))


def _munge(folder: Path) -> list[str]:
    files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "seed-file": "munge.seed"}
    return [f"--{option}={folder / name}" for option, name in (*files.items(), ("log-file", "munged.log"))]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def _start(stack: ExitStack, cluster: Slurm, *command: str) -> None:
    """Start a daemon, which ends with the stack."""
    log = stack.enter_context((cluster.folder / f"{command[0]}.out").open("w"))
    daemon = subprocess.Popen(command, env=cluster.environment, stdout=log, stderr=log)
    stack.callback(daemon.wait, 30)
    stack.callback(daemon.terminate)


def _try(cluster: Slurm, *command: str) -> str:
    done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else "?"


def _until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "SLURM did not get ready"
        time.sleep(0.1)
