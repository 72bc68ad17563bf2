"""A Slurm of one node on this machine, in a folder of its own: munged, slurmctld and slurmd, as root."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")


def missing() -> str:
    """What this machine lacks for a Slurm of its own; empty: nothing."""
    if os.geteuid() != 0:
        return "slurmd starts jobs as root"
    lacking = [name for name in (*DAEMONS, "sbatch") if not shutil.which(name)]
    return f"not installed: {', '.join(lacking)} (Debian: apt-get install slurm-wlm munge)" if lacking else ""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(reached: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until a condition holds; raises TimeoutError that says for what."""
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.5)


def descendants(pid: int) -> list[int]:
    """Processes that a process and its children have started, itself first."""
    found = [pid]
    for parent in found:
        with suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def _name(folder: Path) -> str:
    """Name of a process by its folder under /proc; empty: it has ended."""
    with suppress(OSError):
        return (folder / "comm").read_text().strip()
    return ""


class LocalSlurm:
    """One node with two CPUs, memory limits that are watched, and no accounting.

    Containers have no systemd and often no cgroups that may be written to, so jobs are tracked by their processes'
    parents, and their memory is measured and not fenced in.

    Parameters
    ----------
    folder : Path
        An empty folder, for sockets, states, logs and the configuration.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        # Snakemake's job steps call srun without the variables of Slurm, so without SLURM_CONF: one of our own has it.
        path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
        configuration = str(folder / "slurm.conf")
        self.environment: Mapping[str, str] = os.environ | {"SLURM_CONF": configuration, "PATH": path}
        self._processes: dict[str, subprocess.Popen] = {}

    def start(self) -> None:
        """Write the configuration, start the daemons and wait for the node."""
        self.folder.chmod(0o755)
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir()
        caller = self.folder / "bin" / "srun"
        caller.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        caller.chmod(0o755)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self._write_configuration()
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed"}
        options = [f"--{option}={self.folder / name}" for option, name in files.items()]
        self._start("munged", "--foreground", "--force", *options, f"--log-file={self.folder / 'munge.log'}")
        wait_until((self.folder / "munge.socket").exists, 20, "munged")
        self._start("slurmctld", "-D")
        self.start_node()

    def _write_configuration(self) -> None:
        folder = self.folder
        lines = f"""
            ClusterName=local
            SlurmctldHost={self.host}(127.0.0.1)
            SlurmUser=root
            SlurmctldPort={free_port()}
            SlurmdPort={free_port()}
            AuthType=auth/munge
            AuthInfo=socket={folder}/munge.socket,cred_expire=10
            StateSaveLocation={folder}/state
            SlurmdSpoolDir={folder}/spool
            SlurmctldPidFile={folder}/slurmctld.pid
            SlurmdPidFile={folder}/slurmd.pid
            SlurmctldLogFile={folder}/slurmctld.log
            SlurmdLogFile={folder}/slurmd.log
            ProctrackType=proctrack/linuxproc
            TaskPlugin=task/none
            SelectType=select/cons_tres
            SelectTypeParameters=CR_CPU_Memory
            JobAcctGatherType=jobacct_gather/linux
            JobAcctGatherFrequency=task=2
            JobAcctGatherParams=OverMemoryKill
            AccountingStorageType=accounting_storage/none
            MinJobAge=3600
            JobRequeue=1
            KillWait=20
            SlurmdTimeout=15
            ReturnToService=2
            SlurmdParameters=config_overrides
            NodeName={self.host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=16000 State=UNKNOWN
            PartitionName=work Nodes=ALL Default=YES MaxTime=INFINITE State=UP
        """
        (folder / "slurm.conf").write_text("\n".join(line.strip() for line in lines.strip().splitlines()) + "\n")

    def _start(self, *command: str) -> None:
        output = (self.folder / f"{command[0]}.out").open("ab")
        self._processes[command[0]] = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=self.environment
        )

    def start_node(self) -> None:
        """Start slurmd and wait until jobs may run."""
        self._start("slurmd", "-D")
        wait_until(lambda: self.node_state().startswith(("IDLE", "MIXED", "ALLOCATED")), 90, "the node")

    def kill_node(self) -> None:
        """Kill slurmd and everything that its jobs run, as when a machine loses its power."""
        node = self._processes["slurmd"].pid
        stepds = [int(one.name) for one in self._own_processes() if _name(one) == "slurmstepd"]
        for pid in [pid for one in (node, *stepds) for pid in descendants(one)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._processes.pop("slurmd").wait()

    def _own_processes(self) -> list[Path]:
        """Folders under /proc of all processes that this Slurm has started."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                found += [folder] * (f"{self.folder}/".encode() in (folder / "environ").read_bytes())
        return found

    def control(self, *arguments: str) -> str:
        """Call scontrol; return what it prints."""
        return subprocess.run(
            ["scontrol", *arguments], env=self.environment, check=True, capture_output=True, text=True
        ).stdout

    def node_state(self) -> str:
        """State of the node, such as IDLE; empty while slurmctld does not answer."""
        try:
            shown = self.control("show", "node", self.host)
        except subprocess.CalledProcessError:
            return ""
        return re.search(r"State=(\S+)", shown).group(1)

    def jobs(self) -> list[dict[str, str]]:
        """Every job that there is or was: its id, state, times it was requeued, and comment."""
        lines = self.control("--oneliner", "show", "jobs").splitlines()
        keys = {"id": "JobId", "state": "JobState", "restarts": "Restarts", "comment": "Comment"}
        found = [
            {key: (re.search(rf"\b{name}=(\S+)", line) or [None, ""])[1] for key, name in keys.items()}
            for line in lines
            if line.startswith("JobId=")
        ]
        return found

    def processes(self, job: str, *words: str) -> list[int]:
        """Processes of a job whose command line has all these words, the oldest first."""
        found = []
        for folder in self._own_processes():
            with suppress(OSError):
                mine = f"SLURM_JOB_ID={job}".encode() in (folder / "environ").read_bytes().split(b"\0")
                line = (folder / "cmdline").read_bytes().decode().split("\0")
                found += [int(folder.name)] * (mine and all(word in line for word in words))
        return sorted(found)

    def stop(self) -> None:
        """End the node's jobs, the daemons, and what a job that Slurm took for ended has left."""
        if "slurmctld" in self._processes:
            subprocess.run(["scancel", "--user=root"], env=self.environment, check=False)
        if "slurmd" in self._processes:
            self.kill_node()
        for name in reversed(DAEMONS):
            process = self._processes.pop(name, None)
            if process:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        for left in self._own_processes():
            with suppress(ProcessLookupError):
                os.kill(int(left.name), signal.SIGKILL)
