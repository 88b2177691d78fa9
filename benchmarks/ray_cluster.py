"""A Ray cluster of one machine, whose processes can be told from those of any other Ray there."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.processes import descendants

START_SECONDS = 120.0
IDLE = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
PATIENCE_MS = "60000"
"""For which a machine may not answer; a busy one takes longer than Ray's 10 seconds."""


class RayCluster:
    """A head with so many CPUs, from entering to leaving; ``folder`` gets Ray's logs."""

    def __init__(self, folder: Path, cpus: int = 2) -> None:
        self.folder, self.cpus = folder.absolute(), cpus
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
        self.environment = {**os.environ, **token, "RAY_health_check_timeout_ms": PATIENCE_MS}
        """Of whoever uses the cluster."""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RayCluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, again after its end, at the same address. Raises OSError if it doesn't come up."""
        self.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        words = ["start", "--head", "--block", f"--port={self.address.rpartition(':')[2]}", f"--num-cpus={self.cpus}"]
        words += ["--include-dashboard=false", "--disable-usage-stats", "--object-store-memory=100000000"]
        with (self.folder / "ray.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", *words],
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._named("raylet/raylet") or not self.answers:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise OSError(f"Ray didn't start; see {self.folder / 'ray.log'}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End all its processes."""
        if self._process is None:
            return
        for pid in [*descendants(self._process.pid), self._process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
        self._process = None

    @property
    def answers(self) -> bool:
        host, _, port = self.address.rpartition(":")
        with socket.socket() as asked:
            return asked.connect_ex((host, int(port))) == 0

    @property
    def head(self) -> int:
        """The process without which there is no cluster."""
        return self._named("gcs_server")[0]

    @property
    def raylet(self) -> int:
        """The process without which this machine isn't in it."""
        return self._named("raylet/raylet")[0]

    def workers(self) -> list[int]:
        """Processes that run a stage now."""
        named = {pid: line for pid, line in self._processes().items() if line.startswith("ray::")}
        return [pid for pid, line in named.items() if not line.startswith(IDLE)]

    def _named(self, part: str) -> list[int]:
        return [pid for pid, line in self._processes().items() if part in line.partition(" ")[0]]

    def _processes(self) -> dict[int, str]:
        return descendants(self._process.pid) if self._process else {}
