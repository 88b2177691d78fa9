"""PSNR and SSIM in closed form, and what planted defects do to them."""

import pytest
import torch

from measured import Subject, measure, select, summary, with_constant_rollouts, with_noise
from rslwm.compute import generator
from rslwm.evals.visual import psnr, ssim

VIDEO = torch.rand(2, 3, 24, 24, 3, generator=generator(0, "video"))


@pytest.mark.parametrize(("error", "decibels"), [(1.0, 0.0), (0.1, 20.0), (0.01, 40.0), (0.0, 60.0)])
def test_psnr_of_a_constant_error(error: float, decibels: float) -> None:
    grey = torch.full((2, 3, 8, 8, 3), 0.0)
    torch.testing.assert_close(psnr(grey, grey + error), torch.full((2, 3), decibels), rtol=0, atol=1e-3)


def test_psnr_is_of_each_frame_by_itself() -> None:
    other = VIDEO.clone()
    other[1, 2] += 0.1
    decibels = psnr(VIDEO, other)
    assert decibels[1, 2] == pytest.approx(20, abs=1e-3)
    assert (decibels.flatten()[:5] == 60).all()


def test_ssim_is_one_for_the_same_and_symmetric() -> None:
    torch.testing.assert_close(ssim(VIDEO, VIDEO), torch.ones(2, 3))
    other = (VIDEO + 0.2 * torch.randn(VIDEO.shape, generator=generator(0, "noise"))).clamp(0, 1)
    torch.testing.assert_close(ssim(VIDEO, other), ssim(other, VIDEO))
    assert ssim(VIDEO, other).max() < 0.95


def test_ssim_of_flat_images_is_its_luminance_term() -> None:
    a, b = torch.full((1, 1, 16, 16, 3), 0.3), torch.full((1, 1, 16, 16, 3), 0.6)
    c1 = 0.01**2
    expected = (2 * 0.3 * 0.6 + c1) / (0.3**2 + 0.6**2 + c1)
    assert ssim(a, b).item() == pytest.approx(expected, abs=1e-3)


def test_the_exact_world_model_reaches_its_ceiling(evaluation: Subject) -> None:
    rows = measure("visual", evaluation)
    for metric in ("psnr", "ssim"):
        floor, value, ceiling = (summary(rows, metric, role) for role in ("floor", "value", "ceiling"))
        assert value == pytest.approx(ceiling, rel=0.02)
        assert ceiling > floor


def test_the_floor_is_the_last_context_frame_decoded_and_held_still(evaluation: Subject) -> None:
    rows = select(measure("visual", evaluation), "psnr", "floor")
    episode, start = evaluation.main.windows[0]
    name = evaluation.corpus.dataset.ids[episode]
    last, first_future = start + 2, start + 4  # two context frames, two steps apart
    still = evaluation.decode(evaluation.latents[name][None, None, last].float())
    expected = psnr(still, evaluation.corpus.frames[name][None, None, first_future] / 255).item()
    row = next(r for r in rows if (r.k, r.window, r.unit) == (1, start, evaluation.corpus.dataset.ids[episode]))
    assert row.value == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("metric", ["psnr", "ssim"])
def test_the_floor_falls_with_the_horizon(metric: str, evaluation: Subject) -> None:
    rows = select(measure("visual", evaluation), metric, "floor")
    means = [sum(r.value for r in rows if r.k == k) for k in (1, 4)]
    assert means[0] > means[1]


@pytest.mark.parametrize("defect", [lambda e: with_noise(e, 3.0), with_constant_rollouts])
@pytest.mark.parametrize("metric", ["psnr", "ssim"])
def test_planted_defects_lower_fidelity(metric: str, defect, evaluation: Subject) -> None:  # type: ignore[no-untyped-def]
    good = summary(measure("visual", evaluation), metric)
    bad = measure("visual", defect(evaluation))
    assert summary(bad, metric) < good
    assert summary(bad, metric, "ceiling") >= good * 0.98  # what is measured against doesn't move


def test_more_noise_is_worse(evaluation: Subject) -> None:
    decibels = [summary(measure("visual", with_noise(evaluation, 0.5)), "psnr") for _ in range(4)]  # adds up
    assert decibels == sorted(decibels, reverse=True)
