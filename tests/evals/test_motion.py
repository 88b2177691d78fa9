"""What moves, in a film in closed form: every planted defect is seen, and a still table decides nothing."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from film import CONTEXT, DEFECTS, SIDE, cinema, film, noisy, only_the_table, texture
from measured import Row, Subject, exact, measure, select, summary
from rslwm.compute import ComputeConfig
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.evals.config import EvalConfig
from rslwm.evals.flow import flow
from rslwm.evals.images import agreement, changes, moving, ms_ssim, psnr_within, scales, ssim_within
from rslwm.evals.visual import psnr, ssim

Rows = Callable[[str], list[Row]]
SCORED = ("psnr_moving", "ssim_moving", "motion_match")


@pytest.fixture(scope="module")
def rows_of(corpus: Corpus, point_latents: TensorStore) -> Rows:
    """Rows of whoever continues the film with this defect, or with none."""

    @cache
    def rows(defect: str) -> list[Row]:
        subject = exact(corpus, point_latents, EvalConfig(), ComputeConfig(device="cpu", dtype="float32"))
        return measure("motion[flow_every=1]", cinema(subject, DEFECTS.get(defect, lambda clips: clips[:, CONTEXT:])))

    return rows


def test_the_right_continuation_reaches_every_ceiling(rows_of: Rows) -> None:
    rows = rows_of("none")
    for metric in (*SCORED, "ms_ssim", "temporal_error", "flow_error", "dynamic_degree"):
        assert summary(rows, metric) == pytest.approx(summary(rows, metric, "ceiling"), abs=1e-4)
    assert summary(rows, "motion_match") == pytest.approx(1, abs=0.01)
    assert summary(rows, "dynamic_degree") == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("defect", DEFECTS)
def test_every_defect_lowers_what_is_scored(defect: str, rows_of: Rows) -> None:
    """Blurred, frozen, late, mirrored, noisy, without what moves, of another clip: less than half of the way from floor
    to ceiling in decibels, and no ceiling moves."""
    rows = rows_of(defect)
    floor, ceiling = (summary(rows, "psnr_moving", role) for role in ("floor", "ceiling"))
    assert summary(rows, "psnr_moving") < (floor + ceiling) / 2
    assert summary(rows, "ssim_moving") < 0.75
    assert summary(rows, "motion_match") < 0.7
    assert ceiling > 40


def test_what_stands_still_is_the_floor(rows_of: Rows) -> None:
    rows = rows_of("frozen")
    for metric in ("psnr_moving", "ssim_moving", "ms_ssim", "flow_error"):
        assert summary(rows, metric) == pytest.approx(summary(rows, metric, "floor"), abs=1e-5)
    assert (summary(rows, "motion_match"), summary(rows, "temporal_error")) == pytest.approx((0, 1))
    assert summary(rows, "dynamic_degree") == 0


def test_a_perfect_table_without_what_moves_on_it_pleases_psnr_alone() -> None:
    """PSNR prefers it to grainy frames that show everything; the moving pixels tell."""
    clips = film()
    true, where = clips[:, CONTEXT:], moving(clips[:, CONTEXT - 1 :], 0.1, 2)
    table, grain = only_the_table(clips), noisy(clips)
    assert psnr(table, true).mean() > psnr(grain, true).mean() + 1
    assert psnr_within(table, true, where).mean() < psnr_within(grain, true, where).mean() - 5
    assert ssim_within(table, true, where).mean() < ssim_within(grain, true, where).mean() - 0.1


def test_a_larger_still_table_changes_nothing() -> None:
    clips = film(2)
    wide = F.pad(clips, (0, 0, 20, 20, 20, 20), value=0.5)
    values = []
    for x in (clips, wide):
        true, bad = x[:, CONTEXT:], x[:, CONTEXT - 1 : -1]
        where = moving(x[:, CONTEXT - 1 :], 0.1, 2)
        values.append(torch.stack([psnr_within(bad, true, where), ssim_within(bad, true, where)]))
    torch.testing.assert_close(*values, rtol=1e-3, atol=1e-3)
    assert (psnr(wide[:, 1:-1], wide[:, 2:]) > psnr(clips[:, 1:-1], clips[:, 2:]) + 3).all()


def test_where_everything_moves_it_is_psnr_and_ssim() -> None:
    a, b = torch.rand(2, 3, 32, 32, 3), torch.rand(2, 3, 32, 32, 3)
    everywhere = torch.ones(2, 3, 32, 32, dtype=torch.bool)
    torch.testing.assert_close(psnr_within(a, b, everywhere), psnr(a, b))
    torch.testing.assert_close(ssim_within(a, b, everywhere), ssim(a, b))


def test_a_clip_in_which_nothing_happens_has_no_rows_of_motion(evaluation: Subject) -> None:
    found = cinema(evaluation)
    found.film = found.film.clone()
    found.film[0] = found.film[0, :1]
    rows = measure("motion", found)
    still = int(found.main.windows[0, 1]), found.corpus.dataset.ids[found.main.windows[0, 0]]
    measured = {metric: {(r.window, r.unit) for r in select(rows, metric)} for metric in ("ms_ssim", *SCORED)}
    assert still in measured["ms_ssim"]
    for metric in SCORED:
        assert still not in measured[metric]
        assert len(measured[metric]) == len(found.film) - 1


def test_motion_agrees_in_closed_form() -> None:
    change = torch.randn(1, 1, 8, 8, 3)
    for gain in (1.0, 0.5, 2.0, 0.0, -1.0):
        assert agreement(gain * change, change).item() == pytest.approx(2 * gain / (1 + gain**2), abs=1e-6)
    assert agreement(change, torch.roll(change, 1, 4) * 0).item() == 0


def test_changes_are_between_neighbours() -> None:
    frames = torch.arange(4.0).square()[None, :, None, None, None].expand(1, 4, 2, 2, 3)
    assert changes(frames)[0, :, 0, 0, 0].tolist() == [1, 3, 5]


# --------------------------------------------------------------------------------------------- ms-ssim and flow


@pytest.mark.parametrize(("side", "count"), [(16, 1), (32, 2), (64, 3), (128, 4), (161, 5), (256, 5)])
def test_small_frames_have_fewer_scales(side: int, count: int) -> None:
    assert scales(side) == count


def test_ms_ssim_is_a_weighted_product_over_scales() -> None:
    """Against scikit-image: at two scales, contrast and structure of the finer by SSIM of the coarser."""
    metrics = pytest.importorskip("skimage.metrics")
    a, b = (0.5 + texture(32, 0.5, name)[None, None] for name in "ab")
    b = 0.7 * a + 0.3 * b
    weights = torch.tensor([0.299, 0.587, 0.114])
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0, "full": True}

    def maps(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """SSIM, and its contrast and structure term: that of images whose means are equal."""
        whole = metrics.structural_similarity(x.numpy(), y.numpy(), **options)[1]
        mean = [torch.from_numpy(_blurred(z)) for z in (x, y)]
        luminance = (2 * mean[0] * mean[1] + 1e-4) / (mean[0] ** 2 + mean[1] ** 2 + 1e-4)
        return torch.from_numpy(whole), torch.from_numpy(whole) / luminance

    fine = maps(*((z[0, 0] @ weights).double() for z in (a, b)))[1][5:-5, 5:-5].mean()
    halved = (F.avg_pool2d((z[0, 0] @ weights)[None], 2)[0].double() for z in (a, b))
    coarse = maps(*halved)[0]
    beta = 0.0448 / (0.0448 + 0.2856)
    expected = fine**beta * coarse.mean() ** (1 - beta)
    assert ms_ssim(a, b).item() == pytest.approx(expected.item(), abs=0.01)  # how edges are padded differs


def _blurred(x: torch.Tensor):  # type: ignore[no-untyped-def]
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(x.numpy(), 1.5, truncate=3.5)


def test_ms_ssim_of_the_same_is_one() -> None:
    clips = film(1)
    torch.testing.assert_close(ms_ssim(clips, clips), torch.ones(1, clips.shape[1]))


@pytest.mark.parametrize("way", [(3, -2), (-5, 4), (0, 6), (0, 0)])
def test_flow_finds_a_known_shift(way: tuple[int, int]) -> None:
    a = (0.5 + texture(SIDE, 1.0, "flow")).permute(2, 0, 1)[None]
    b = torch.roll(a, way[::-1], (2, 3))
    found = flow(a, b, 6)[0, :, 4:-4, 4:-4]
    torch.testing.assert_close(found.mean((1, 2)), torch.tensor(way).float(), atol=0.05, rtol=0)
    assert found.std((1, 2)).max() < 0.2


def test_flow_finds_half_a_pixel() -> None:
    large = 0.5 + F.interpolate(texture(SIDE, 1.0, "flow").permute(2, 0, 1)[None], (128, 128), mode="bicubic")
    a, b = (F.avg_pool2d(x, 2) for x in (large, torch.roll(large, (3, 5), (2, 3))))
    found = flow(a, b, 6)[0, :, 4:-4, 4:-4].median(1).values.median(1).values
    torch.testing.assert_close(found, torch.tensor([2.5, 1.5]), atol=0.25, rtol=0)


def test_flow_of_faint_noise_is_none() -> None:
    a = torch.full((1, 3, 32, 32), 0.5)
    assert (flow(a, a + 0.005 * torch.randn(a.shape), 6) == 0).all()


def test_only_the_square_flows(rows_of: Rows) -> None:
    rows = rows_of("none")
    way = 3.6  # pixels a frame, of the first clip
    assert summary(rows, "flow_error", "floor") == pytest.approx(way, rel=0.25)
    assert summary(rows, "flow_error") < 0.2
