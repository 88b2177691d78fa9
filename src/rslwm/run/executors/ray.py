"""Ray: one task a stage, with the CPUs, the GPUs and the memory that it takes, on whatever machines are in the cluster.

Ray starts a stage again whose worker or machine dies, and it goes on from what it saved. A task returns what became of
the stage and nothing of its output, which is in its folder.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rslwm.processes import cores
from rslwm.run.executors.base import EXECUTORS, THREAD_VARIABLES
from rslwm.run.executors.elsewhere import Elsewhere, in_gb, needed, perform_packed
from rslwm.run.perform import LESS_MEMORY, Done, Failed, Job
from rslwm.serialisation import ConfigError

OBJECT_STORE = 100 << 20
"""Bytes, of a Ray that is started here; what tasks return is tiny."""
REFRESH_SECONDS = 5.0
CLOSE_SECONDS = 10.0
HERE = "local"
AMOUNTS = {"CPU": "CPUs", "GPU": "GPUs", "memory": "of memory"}


@dataclass(frozen=True)
class RayConfig:
    """Settings of the executor ray."""

    address: str = ""
    """HOST:PORT of the cluster; auto, the one that this machine is in; local, one that is started here and ends with
    the run. Empty: what RAY_ADDRESS says, or else local."""
    cpus: int = 0
    """CPUs of a stage; 0 is as many as it has threads (--compute.threads)."""
    gpus: float = 1.0
    """GPUs of a stage that computes on one; 0.5 puts two of them on each."""
    retries: int = 2
    """Times that a stage is started again whose worker or machine died."""


@EXECUTORS.register("ray")
class Ray(Elsewhere):
    """A Ray cluster. Without ``jobs``, as many stages run as its machines have CPUs, GPUs and memory for, those that
    join later included."""

    Config: ClassVar[type | None] = RayConfig

    def __init__(self, jobs: int, config: RayConfig | None = None) -> None:
        super().__init__(jobs)
        self.config, self._limit = config or RayConfig(), jobs
        self.ray = needed("ray", "ray", "ray")
        self.address = self.config.address or os.environ.get("RAY_ADDRESS") or HERE
        self._connected = False
        self._known: list[Mapping[str, float]] = []
        self._stale = 0.0

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Connect, and refuse what no machine has the resources for."""
        self.jobs = max(1, self.jobs)
        if not jobs:
            return
        self._connect(max(self.config.cpus or job.threads for job in jobs))
        nodes = self._nodes()
        for job in jobs:
            request = self._request(job)
            if not any(_fits(request, node) for node in nodes):
                raise ConfigError(self._refusal(job, request, nodes))
        least = min(self._request(job)["CPU"] for job in jobs)
        self.jobs = self._limit or max(1, sum(int(node.get("CPU", 0.0) // least) for node in nodes))

    def _connect(self, cpus: int) -> None:
        if self.ray.is_initialized():
            return
        options: dict[str, Any] = {}
        if self.address == HERE:
            count = self._limit * cpus or max(cpus, cores())
            options = {"num_cpus": count, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
        try:
            self.ray.init(self.address, log_to_driver=False, logging_level="warning", **options)
        except Exception as error:  # Ray raises this very class, too, where a machine is too slow to start it
            remedy = "Start it with `ray start --head`, or name another one: --executor 'ray[address=HOST:PORT]'"
            raise ConfigError(f"executor: no Ray cluster answers at {self.address!r}: {error}. {remedy}.") from None
        self._connected = True

    def _nodes(self) -> list[Mapping[str, float]]:
        """Resources of the machines, asked for every few seconds."""
        if time.monotonic() >= self._stale:
            self._stale = time.monotonic() + REFRESH_SECONDS
            self._known = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        return self._known

    def _request(self, job: Job) -> dict[str, float]:
        """What a stage takes; an exclusive one all cores of a machine. Of GPUs' memory Ray knows nothing."""
        most = max((node.get("CPU", 0.0) for node in self._nodes()), default=0.0)
        cpus = float(self.config.cpus or job.threads) * job.stage.processes
        return {
            "CPU": max(cpus, most) if job.stage.exclusive else cpus,
            "GPU": self.config.gpus * job.stage.processes if job.stage.accelerated else 0.0,
            "memory": 0.0 if job.stage.accelerated else math.ceil(job.demand.memory * job.stage.processes),
        }

    def _refusal(self, job: Job, request: Mapping[str, float], nodes: Sequence[Mapping[str, float]]) -> str:
        """The resource that is lacking, or all of them where only no single machine has them together."""
        most = {name: max((node.get(name, 0.0) for node in nodes), default=0.0) for name in request}
        lacking = [name for name in request if request[name] > most[name]] or [*request]
        taken, found = (" and ".join(_amount(n, of[n]) for n in lacking) for of in (request, most))
        remedy = {
            "CPU": "Lower compute.threads, or ray[cpus=N]",
            "GPU": "Lower ray[gpus=N], or compute on the CPU (--compute.device cpu)",
            "memory": "Make the batch smaller",
        }[lacking[0]]
        return (
            f"stage {job.stage} takes {taken}, but no machine of the Ray cluster at {self.address!r} has more than "
            f"{found}. {remedy}, or start a larger machine there."
        )

    def room(self, job: Job) -> bool:
        if not self.running:
            return True
        if self._limit and len(self.running) >= self._limit:
            return False
        requests = [self._request(other) for other in [*self.running.values(), job]]
        total = {name: sum(node.get(name, 0.0) for node in self._nodes()) for name in AMOUNTS}
        return _fits({name: sum(request[name] for request in requests) for name in AMOUNTS}, total)

    def submit(self, job: Job) -> Any:
        request = self._request(job)
        task = self.ray.remote(perform_packed).options(
            name=str(job.stage),
            num_cpus=request["CPU"],
            num_gpus=request["GPU"],
            memory=request["memory"] or None,
            max_retries=self.config.retries,
            runtime_env={"env_vars": dict.fromkeys(THREAD_VARIABLES, str(job.threads))},
        )
        return task.remote(job.pack())

    def ended(self, seconds: float) -> Iterator[tuple[Any, Done | Failed]]:
        tasks = [*self.running]
        if tasks and self.ray.wait(tasks, timeout=seconds)[0]:
            for task in self.ray.wait(tasks, num_returns=len(tasks), timeout=0)[0]:
                yield task, self._outcome(task)

    def _outcome(self, task: Any) -> Done | Failed:
        errors, attempts = self.ray.exceptions, self.config.retries + 1
        each = f" in each of {attempts} attempts" if attempts > 1 else ""
        try:
            return self.ray.get(task)
        except errors.OutOfMemoryError:
            return Failed(f"its machine ran out of memory{each}", LESS_MEMORY)
        except errors.LocalRayletDiedError:
            return Failed("Ray has ended on the machine where the command runs, or took it for dead", "Start Ray again")
        except (errors.WorkerCrashedError, errors.NodeDiedError) as error:
            died = "machine" if isinstance(error, errors.NodeDiedError) else "worker process"
            return Failed(f"its {died} died{each}, which often means that memory ran out", LESS_MEMORY)
        except Exception as error:  # Ray's own, or that of a worker that can't import this package
            return Failed.by(error)

    def close(self) -> None:
        """End the stages that run, and leave the cluster; one that was started here ends."""
        for task in self.running:
            self.ray.cancel(task, force=True)
        if self.running:
            self.ray.wait([*self.running], num_returns=len(self.running), timeout=CLOSE_SECONDS)
        self.running.clear()
        if self._connected:
            self.ray.shutdown()
            self._connected = False


def _fits(request: Mapping[str, float], have: Mapping[str, float]) -> bool:
    return all(amount <= have.get(name, 0.0) for name, amount in request.items())


def _amount(name: str, number: float) -> str:
    return f"{in_gb(number) if name == 'memory' else f'{number:g}'} {AMOUNTS[name]}"
