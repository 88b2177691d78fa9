"""Canonical correlations against an eigenvalue problem, their invariances, and planted defects."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch

from measured import Subject, measure, select, summary, swapped, with_latents
from point_world import write_corpus, write_latents
from rslwm.evals.base import NotAvailable
from rslwm.evals.cca import Canonical

CCA = "cca[windows=60]"


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    """Two of y's three dimensions have something of x in them."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(500, 6)) * [5, 1, 1, 1, 0.3, 0.1]
    return x, np.column_stack([x[:, 1] + draw.normal(size=500), 3 * x[:, 4], draw.normal(size=500)])


def test_correlations_are_those_of_the_eigenvalue_problem(data: tuple[np.ndarray, np.ndarray]) -> None:
    """Sxy Syy^-1 Syx w = r^2 Sxx w, as Hotelling wrote it."""
    x, y = (z - z.mean(0) for z in data)
    xx, yy, xy = x.T @ x, y.T @ y, x.T @ y
    squares = scipy.linalg.eigh(xy @ np.linalg.solve(yy, xy.T), xx, eigvals_only=True)[::-1][:3]
    found = Canonical.of(*data, components=6)
    np.testing.assert_allclose(found.correlations, np.sqrt(squares), atol=1e-9)
    u, v = found.variates(*data)
    np.testing.assert_allclose([np.corrcoef(a, b)[0, 1] for a, b in zip(u.T, v.T, strict=True)], found.correlations)
    np.testing.assert_allclose(u.T @ u / len(u), np.eye(3), atol=1e-9)


def test_fewer_components_are_the_principal_ones(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    _, _, axes = np.linalg.svd(x - x.mean(0), full_matrices=False)
    reduced = Canonical.of((x - x.mean(0)) @ axes[:2].T, y, 6).correlations
    np.testing.assert_allclose(Canonical.of(x, y, 2).correlations, reduced, atol=1e-9)


def test_what_never_varies_has_no_direction(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    assert len(Canonical.of(x, np.column_stack([y, np.ones(len(y))]), 6).correlations) == 3
    assert len(Canonical.of(x, np.ones((len(x), 2)), 6).correlations) == 0


def test_a_world_of_actions_alone_is_correlated_perfectly(evaluation: Subject) -> None:
    """Three translations; the gripper's command is in the latents, its change isn't the action."""
    rows = select(measure(CCA, evaluation), "cca")
    assert {row.dim for row in rows} == {"1", "2", "3", "4"}
    assert summary([row for row in rows if row.dim != "4"], "cca") > 0.99


def test_rotated_channels_are_the_same(evaluation: Subject, tmp_path: Path) -> None:
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(2))).Q
    rotated = with_latents(evaluation, lambda z: z @ rotation, tmp_path / "rotated")
    assert summary(measure(CCA, rotated), "cca") == pytest.approx(summary(measure(CCA, evaluation), "cca"), abs=0.01)


def test_latents_of_noise_are_at_the_floor(evaluation: Subject, tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    noise = with_latents(evaluation, lambda z: torch.randn(z.shape, generator=g), tmp_path / "noise")
    rows = measure("cca[windows=1000]", noise)
    assert abs(summary(rows, "cca")) < 0.3
    assert abs(summary(rows, "cca", "floor")) < 0.3


def test_latents_shifted_by_a_frame_lose_their_actions(evaluation: Subject, tmp_path: Path) -> None:
    """Two recorded steps are a frame."""
    shifted = with_latents(evaluation, lambda z: z.roll(2, 0), tmp_path / "shifted")
    assert summary(measure(CCA, shifted), "cca") < 0.6 * summary(measure(CCA, evaluation), "cca")


def test_other_windows_actions_are_the_floor(evaluation: Subject) -> None:
    rows = measure(CCA, evaluation)
    assert summary(rows, "cca", "floor") < 0.4


def test_actions_of_other_episodes_leak_nothing(tmp_path: Path, evaluation: Subject) -> None:
    corpus = write_corpus(tmp_path, [bool(i % 2) for i in range(40)])
    latents = write_latents(corpus, tmp_path / "latents")
    subject = replace(evaluation, corpus=swapped(corpus), latents=latents)
    assert abs(summary(measure("cca[windows=1000]", subject), "cca")) < 0.2


def test_actions_that_are_all_alike_are_said(evaluation: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    alike = [np.zeros_like(actions) for actions in evaluation.corpus.actions]
    monkeypatch.setitem(vars(evaluation.corpus), "actions", alike)
    with pytest.raises(NotAvailable, match="all actions of the training episodes are alike"):
        measure(CCA, evaluation)
