"""Two protocols of inverse dynamics: what is left of actions once a frame's tokens are averaged."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from measured import Subject, measure, select, summary, swapped, with_latents
from point_world import GRID, write_corpus, write_latents
from rslwm.compute import ComputeConfig
from rslwm.evals.base import NotAvailable
from rslwm.evals.inverse_dynamics import InverseProbe
from rslwm.evals.pooled import PooledInverseProbe, PooledReader
from rslwm.evals.probe import GridProbe, Probe, ProbeConfig, TrainedProbe, train_probe
from rslwm.optim import OptimConfig
from rslwm.study.stages.metric import probing
from rslwm.types import DataError

POOLED, TOKENS = "inverse_dynamics_pooled[windows=400]", "inverse_dynamics"
BRIEF = ProbeConfig(width=8, grid=4, optim=OptimConfig(steps=150, batch_size=64, lr=1e-2, warmup=5))


@pytest.fixture
def wide(evaluation: Subject, tmp_path: Path) -> Subject:
    """The same with 40 episodes."""
    corpus = write_corpus(tmp_path, [bool(i % 2) for i in range(40)])
    return replace(evaluation, corpus=corpus, latents=write_latents(corpus, tmp_path / "latents"))


@pytest.fixture
def read(compute: ComputeConfig, tmp_path: Path) -> Callable[[Subject, Probe], TrainedProbe]:
    """What a probe learns of a space."""

    def trained(subject: Subject, probe: Probe) -> TrainedProbe:
        folder = tmp_path / f"{probe.name} {len(list(tmp_path.iterdir()))}"
        return train_probe(probe, subject.corpus, subject.latents, BRIEF, 0, folder, compute)

    return trained


def test_a_perfect_probe_explains_everything(evaluation: Subject) -> None:
    rows = measure("inverse_dynamics_pooled", evaluation)
    assert summary(rows, "idm_r2_pooled") == pytest.approx(1, abs=5e-3)
    assert summary(rows, "idm_r_pooled") == pytest.approx(1, abs=5e-3)


def test_both_protocols_read_the_same_windows(evaluation: Subject) -> None:
    pooled = select(measure("inverse_dynamics_pooled[windows=20]", evaluation), "idm_r2_pooled")
    tokens = select(measure(TOKENS, evaluation), "idm_r")
    assert [(r.unit, r.window, r.dim, r.target) for r in pooled] == [
        (r.unit, r.window, r.dim, r.target) for r in tokens
    ]


def test_what_every_cell_holds_is_read_from_their_mean(wide: Subject, read: Callable[..., TrainedProbe]) -> None:
    wide.probes["inverse-pooled-1"] = read(wide, PooledInverseProbe(1))
    rows = measure(POOLED, wide)
    assert np.mean([summary([r for r in rows if r.dim == d], "idm_r2_pooled") for d in "xyz"]) > 0.6


def test_actions_of_other_episodes_leak_nothing(wide: Subject, read: Callable[..., TrainedProbe]) -> None:
    swapped(wide.corpus)
    wide.probes["inverse-pooled-1"] = read(wide, PooledInverseProbe(1))
    rows = measure(POOLED, wide)
    assert summary(rows, "idm_r2_pooled") < 0.05
    assert abs(summary(rows, "idm_r_pooled")) < 0.2


@pytest.mark.parametrize("defect", ["shifted by a frame", "without the gripper", "mirrored"])
def test_defects_lower_it(defect: str, evaluation: Subject, tmp_path: Path) -> None:
    change = {
        "shifted by a frame": lambda z: z.roll(2, 0),
        "without the gripper": lambda z: z * torch.tensor([1.0, 1, 1, 0]),
        "mirrored": lambda z: z * torch.tensor([-1.0, 1, 1, 1]),
    }[defect]
    rows = measure(POOLED, with_latents(evaluation, change, tmp_path / "changed"))
    assert summary(rows, "idm_r2_pooled") < 0.8


def as_a_spot(z: torch.Tensor) -> torch.Tensor:
    """(T, 4, 4, 4) -> a spot at the point's x, seen in one channel whose mean is the same wherever it is; the other
    channels are empty."""
    places, x = torch.arange(GRID) - 1.5, 0.75 * z[:, 0, 0, 0]
    spot = torch.softmax(-1.5 * (places - x[:, None]).square(), 1)
    return 4 * torch.nn.functional.pad(spot[:, None, :, None].expand(-1, GRID, -1, -1), (0, 3))


def in_x(rows: list, metric: str) -> float:
    return summary([row for row in rows if row.dim == "x"], metric)


def test_what_stands_only_in_where_things_are_is_lost_in_the_mean(
    wide: Subject, read: Callable[..., TrainedProbe], tmp_path: Path
) -> None:
    """The two papers' disagreement: tokens tell the action, their mean doesn't."""
    spots = with_latents(wide, as_a_spot, tmp_path / "spots")
    spots.probes |= {"inverse-1": read(spots, InverseProbe(1)), "inverse-pooled-1": read(spots, PooledInverseProbe(1))}
    tokens, pooled = measure(TOKENS, spots), measure(POOLED, spots)
    assert in_x(tokens, "idm_r") > 0.7
    assert in_x(pooled, "idm_r2_pooled") < 0.05


@pytest.mark.parametrize("channels", [3, 16, 300, 1024])
def test_the_reader_has_as_many_parameters_for_every_space(channels: int) -> None:
    one, other = (PooledReader(2, c, (8, 8), 5, ProbeConfig()) for c in (channels, 16))
    assert sum(p.numel() for p in one.parameters()) == sum(p.numel() for p in other.parameters())
    assert one(torch.randn(3, 2, 8, 8, channels)).shape == (3, 5)


def test_cells_that_change_places_are_read_alike() -> None:
    reader, z = PooledReader(2, 16, (4, 4), 5, ProbeConfig()).eval(), torch.randn(3, 2, 4, 4, 16)
    assert torch.allclose(reader(z.flip(2)), reader(z), atol=1e-5)
    assert not torch.allclose(reader(z.flip(1)), reader(z), atol=1e-2)


def test_a_saved_probe_reads_the_same(
    evaluation: Subject, read: Callable[..., TrainedProbe], compute: ComputeConfig, tmp_path: Path
) -> None:
    probe, z = PooledInverseProbe(1), torch.randn(3, 2, 4, 4, 4)
    found = read(evaluation, probe)
    found.save(tmp_path)
    assert torch.equal(TrainedProbe.load(tmp_path, probe.reader).apply(z, compute), found.apply(z, compute))
    with pytest.raises(DataError):
        TrainedProbe.load(tmp_path, GridProbe)


def test_a_missing_probe_says_why(evaluation: Subject) -> None:
    evaluation.probes["inverse-pooled-1"] = TrainedProbe(None, "no training episode holds 2 frames")
    with pytest.raises(NotAvailable, match="no training episode holds 2 frames"):
        measure("inverse_dynamics_pooled", evaluation)


def test_what_it_takes_is_counted() -> None:
    """For estimates."""
    assert probing(PooledReader, (8, 8), 16, 2, 7, ProbeConfig()).parameters > 1000
