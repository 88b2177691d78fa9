"""A Ray cluster of one machine that loses its machine or its head: the command ends, and the next one goes on."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.ray_cluster import RayCluster

import toy_stages as toys
from clusters import needs_ray, seen_by_others
from rslwm.run.stage import StageRecord
from test_runner_kill import START, wait_for

pytestmark = [needs_ray, pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RayCluster]:
    started = RayCluster(tmp_path / "ray")
    started.environment |= seen_by_others() | {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}  # a minute else
    with started:
        yield started


def command(tmp_path: Path, cluster: RayCluster) -> subprocess.Popen[str]:
    executor = f"ray[address={cluster.address},retries=0]"
    return subprocess.Popen(
        [sys.executable, "-c", f"import toy_stages; toy_stages.main({str(tmp_path)!r}, {executor!r})"],
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_command_whose_cluster_is_gone_ends_and_the_next_one_goes_on(tmp_path: Path, cluster: RayCluster) -> None:
    """Where Ray can't tell that the machine is gone it ends the process itself, with a sentence of its own."""
    quick, slow = toys.counting_chain(tmp_path)
    stages = tmp_path / "out/stages"
    count = stages / f"count-{slow.key}.partial/count"
    for lost, reached in (("raylet", 10), ("head", 20)):
        with command(tmp_path, cluster) as run:
            assert wait_for(lambda least=reached: count.exists() and int(count.read_text()) >= least, START)
            os.kill(getattr(cluster, lost), signal.SIGKILL)
            output = run.communicate(timeout=START)[0]
        assert run.returncode not in (0, None), lost
        assert re.search("its machine died|Failed to connect to GCS", output), f"{lost}: {output[-3000:]}"
        cluster.start()
    with command(tmp_path, cluster) as run:
        output = run.communicate(timeout=START)[0]
    assert run.returncode == 0, output[-3000:]
    assert (stages / f"count-{slow.key}/result.txt").read_text() == "40"
    assert (tmp_path / "trace").read_text().count("start quick") == 1
    counted = [line.split()[0] for line in (tmp_path / "trace").read_text().splitlines() if "from-" in line]
    assert "from-0" not in counted[1:]  # none at all where the stage ended before Ray did
    assert StageRecord.read(stages / f"write-{quick.key}").attempts == 1
