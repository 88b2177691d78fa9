"""Slurm, through submitit: one job a stage, which waits in the queue, and goes on after a preemption or a time limit.

A job outlives the process that submitted it. The next run of the same folder takes it up again.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from rslwm.files import write_whole
from rslwm.processes import cores
from rslwm.run.executors.base import EXECUTORS, THREAD_VARIABLES, fits, threads
from rslwm.run.executors.elsewhere import Elsewhere, in_gb, needed, perform_packed
from rslwm.run.perform import LESS_MEMORY, Done, Failed, Job
from rslwm.serialisation import ConfigError

FOLDER = "slurm"
"""In that of the run: what submitit keeps of every job, and the numbers of the jobs by their stages."""
REQUEUE = 144
"""The exit code of a job that wants to be started again, as submitit's local executor reads it."""
CHECK_SECONDS = {"slurm": 1.0, "local": 0.1}
RESULT_SECONDS = 15.0
"""How long the result of a job that has ended may take to be seen here."""
ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "PREEMPTED")


@dataclass(frozen=True)
class SlurmConfig:
    """Settings of the executor slurm; what is empty or 0 is left to the partition's defaults."""

    partition: str = ""
    """Where jobs queue."""
    account: str = ""
    """Whom they are charged to."""
    qos: str = ""
    """Their quality of service."""
    constraint: str = ""
    """Features that a machine must have, such as a100."""
    minutes: int = 240
    """Time limit of one job; a stage that needs longer is requeued and goes on, ``requeues`` times."""
    requeues: int = 10
    """Times that a job may reach its limit."""
    cpus: int = 0
    """CPUs of a stage; 0 is as many as it has threads (--compute.threads)."""
    whole: int = 8
    """CPUs of a stage that uses as many as it gets, such as recording episodes in the simulator."""
    gpus: int = 1
    """GPUs of a stage that computes on one."""
    memory_gb: float = 0.0
    """Main memory of a stage."""
    cluster: Literal["slurm", "local"] = "slurm"
    """local: processes of this machine instead of Slurm jobs, to try it out."""


class Performed:
    """What a job does, and has submitit do after a preemption or at the time limit: the same, which goes on."""

    def __init__(self) -> None:
        self.leaving = False

    def __call__(self, packed: bytes) -> Done | Failed:
        outcome = perform_packed(packed)
        if self.leaving:  # the stage was ended by the SystemExit with which submitit leaves; it hasn't failed
            sys.exit(REQUEUE)
        return outcome

    def checkpoint(self, packed: bytes) -> Any:
        self.leaving = True
        return needed("slurm", "submitit", "slurm").helpers.DelayedSubmission(Performed(), packed)


@EXECUTORS.register("slurm")
class Slurm(Elsewhere):
    """A Slurm cluster. Without ``jobs``, all stages that could run are in its queue."""

    Config: ClassVar[type | None] = SlurmConfig

    def __init__(self, jobs: int, config: SlurmConfig | None = None) -> None:
        super().__init__(jobs)
        self.config = config or SlurmConfig()
        self.submitit = needed("slurm", "submitit", "slurm")
        self._lost: dict[Any, float] = {}
        """When a job without a result was first seen to have ended."""

    @property
    def here(self) -> bool:
        """Whether it only tries it out."""
        return self.config.cluster == "local"

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Refuse what is given too little memory, and what Slurm says that it could never start."""
        if not self.jobs:
            self.jobs = max(1, cores() // max((job.threads for job in jobs), default=1) if self.here else len(jobs))
        asked: set[tuple[str, ...]] = set()
        for job in jobs:
            self._check_memory(job)
            options = tuple(f"--{name}={value}" for name, value in self._request(job).items())
            if not self.here and options not in asked:
                asked.add(options)
                _ask(job, options)

    def _check_memory(self, job: Job) -> None:
        taken = job.demand.memory * job.stage.processes
        if job.stage.accelerated or not self.config.memory_gb or taken <= self.config.memory_gb * 1e9:
            return
        given = f"slurm[memory_gb={self.config.memory_gb:g}] gives it {in_gb(self.config.memory_gb * 1e9)}"
        raise ConfigError(
            f"stage {job.stage} takes {in_gb(taken)} of memory, but {given}. Raise it, or make the batch smaller."
        )

    def _request(self, job: Job) -> dict[str, str]:
        """Options of sbatch."""
        config, stage = self.config, job.stage
        cpus, gpus = (config.cpus or job.threads) * stage.processes, config.gpus * stage.processes
        request = {
            "partition": config.partition,
            "account": config.account,
            "qos": config.qos,
            "constraint": config.constraint,
            "time": str(config.minutes),
            "cpus-per-task": str(max(cpus, config.whole) if stage.exclusive else cpus),
            "gpus-per-node": str(gpus) if stage.accelerated and gpus else "",
            "mem": f"{round(config.memory_gb * 1000)}M" if config.memory_gb else "",
        }
        return {name: value for name, value in request.items() if value}

    def room(self, job: Job) -> bool:
        if self.here:
            return fits(job.stage, [other.stage for other in self.running.values()], self.jobs)
        return len(self.running) < self.jobs

    def submit(self, job: Job) -> Any:
        if (earlier := self._alive(job)) is not None:
            return earlier
        problems = self.submitit.core.utils
        try:
            with threads(job.threads):  # of what is started here; Slurm's jobs get it from the script
                handle = self._executor(job).submit(Performed(), job.pack())
        except (problems.FailedSubmissionError, problems.FailedJobError) as error:
            remedy = "If it has a limit for jobs in the queue, run with --jobs N"
            raise ConfigError(f"Slurm doesn't take stage {job.stage}: {_last_line(str(error))}. {remedy}.") from None
        write_whole(self._number(job), handle.job_id)
        return handle

    def _executor(self, job: Job) -> Any:
        """submitit's, for a job like this one."""
        name = self.config.cluster
        executor = self.submitit.AutoExecutor(
            self._logs(job), cluster=name, **{f"{name}_max_num_timeout": self.config.requeues}
        )
        executor.update_parameters(name=f"rslwm-{job.stage.kind}", timeout_min=self.config.minutes)
        if not self.here:
            request = {name.replace("-", "_"): value for name, value in self._request(job).items() if name != "time"}
            exports = [f"export {variable}={job.threads}" for variable in THREAD_VARIABLES]
            executor.update_parameters(**{f"slurm_{name}": value for name, value in request.items()})
            executor.update_parameters(slurm_setup=exports)
        elif job.stage.accelerated:
            executor.update_parameters(gpus_per_node=self.config.gpus)
        return executor

    def _logs(self, job: Job) -> Path:
        """Where submitit writes of a job: a folder a job, or one for all where it runs here, since such a process may
        write before the folder that is named after it is made."""
        return _folder(job) if self.here else _folder(job) / "%j"

    def _number(self, job: Job) -> Path:
        return _folder(job) / f"{job.folder.name}.job"

    def _alive(self, job: Job) -> Any:
        """The Slurm job of an earlier run that is still at this stage, if there is one."""
        if self.here or not self._number(job).exists():
            return None
        handle = self.submitit.SlurmJob(self._logs(job), self._number(job).read_text())
        state = handle.watcher.get_state(handle.job_id, mode="force")
        return handle if state.split(" ")[0] in ALIVE else None

    def ended(self, seconds: float) -> Iterator[tuple[Any, Done | Failed]]:
        deadline, found = time.monotonic() + seconds, False
        while not found:
            for handle in [*self.running]:
                if handle.done() and (outcome := self._outcome(handle)) is not None:
                    found = True
                    yield handle, outcome
            if found or time.monotonic() >= deadline:
                return
            time.sleep(min(CHECK_SECONDS[self.config.cluster], max(0.0, deadline - time.monotonic())))

    def _outcome(self, handle: Any) -> Done | Failed | None:
        """What a job that has ended returned; None while that may still arrive."""
        if handle.paths.result_pickle.exists():
            error = handle.exception()
            return (
                handle.result() if error is None else Failed(f"its job {handle.job_id} failed: {_reason(str(error))}")
            )
        if time.monotonic() < self._lost.setdefault(handle, time.monotonic() + RESULT_SECONDS):
            return None
        return _lost(handle)

    def close(self) -> None:
        """Cancel the jobs that run or wait."""
        for handle, job in self.running.items():
            handle.cancel(check=False)
            self._number(job).unlink(missing_ok=True)  # it is on its way out, and nothing to take up again
        self.running.clear()


def _folder(job: Job) -> Path:
    return job.root.with_name(FOLDER)


def _ask(job: Job, options: Sequence[str]) -> None:
    """Have Slurm say whether it could ever start such a job; :class:`ConfigError` with what it says if not."""
    try:
        asked = subprocess.run(
            ["sbatch", "--test-only", *options, "--wrap", "true"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ConfigError(
            "executor: slurm needs the command sbatch, which isn't on this machine. Run this where jobs are submitted, "
            "or try it out with --executor 'slurm[cluster=local]'."
        ) from None
    if asked.returncode:
        raise ConfigError(
            f"stage {job.stage} asks Slurm for {' '.join(options)}, which it refuses: {_last_line(asked.stderr)}. "
            "Change the settings of --executor 'slurm[...]'."
        )


def _lost(handle: Any) -> Failed:
    state = str(handle.state).partition(" ")[0]
    why = f"its job {handle.job_id} ended without a result ({state}); see {handle.paths.stderr}"
    if state == "TIMEOUT":
        return Failed(why, "Give it more time, slurm[minutes=N]")
    return Failed(why, f"{LESS_MEMORY}, or with more memory, slurm[memory_gb=N], if it ran out")


def _reason(trace: str) -> str:
    """The error in what submitit says of a job: the last line between its two rules."""
    return _last_line([*re.split(r"^-{10,}$", trace, flags=re.MULTILINE), ""][1])


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip(" -")]
    return lines[-1].strip() if lines else "no reason given"
