"""Cosines of consecutive changes against their closed forms."""

import pytest
import torch
from torch import Tensor

from measured import Subject, measure, select, summary
from rslwm.evals.smoothness import straightness

SHAPE = (400, 3, 4, 4, 8)


def drawn(seed: int = 0) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def test_a_line_is_straight_whatever_its_pace() -> None:
    start, way = drawn()[:, :1], drawn(1)[:, :1]
    assert straightness(start + way * torch.tensor([0.0, 1.0, 5.0])[:, None, None, None]).min() > 0.999


def test_a_way_back_is_bent_all_the_way() -> None:
    start, way = drawn()[:, :1], drawn(1)[:, :1]
    assert straightness(start + way * torch.tensor([0.0, 1.0, 0.0])[:, None, None, None]).max() < -0.999


def test_noise_of_every_frame_s_own_is_minus_a_half() -> None:
    assert float(straightness(drawn()).mean()) == pytest.approx(-0.5, abs=0.02)


def test_a_random_walk_is_0() -> None:
    assert float(straightness(drawn().cumsum(1)).mean()) == pytest.approx(0, abs=0.02)


def test_what_doesn_t_move_has_no_direction() -> None:
    assert straightness(torch.ones(2, 3, 4, 4, 8)).tolist() == [0, 0]


def test_rotated_and_scaled_channels_are_as_straight() -> None:
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(2))).Q
    assert torch.allclose(straightness(3 * drawn() @ rotation), straightness(drawn()), atol=1e-5)


def test_windows_are_held_out(evaluation: Subject) -> None:
    rows = select(measure("smoothness[windows=20]", evaluation), "smoothness")
    held_out = {evaluation.corpus.dataset.ids[e] for e in evaluation.corpus.test}
    assert len(rows) == 20
    assert {row.unit for row in rows} <= held_out
    assert -1 <= summary(rows, "smoothness") <= 1
