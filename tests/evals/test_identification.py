"""Whether what happened tells the true action from others, for models of known worth."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from measured import Subject, measure, select, summary
from point_world import PointWorldModel, latents
from rslwm.compute import generator
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.evals.base import NotAvailable
from rslwm.evals.prediction import different
from rslwm.evals.windows import strangers


def test_the_exact_model_tells_every_action(evaluation: Subject) -> None:
    rows = measure("action_identification", evaluation)
    assert summary(rows, "action_identification") == 1
    assert summary(rows, "action_effect") < 1e-3


def test_a_model_that_ignores_actions_ties_at_chance(evaluation: Subject) -> None:
    evaluation.world_model = PointWorldModel(gain=0)  # type: ignore[assignment]
    rows = measure("action_identification", evaluation)
    assert {row.value for row in select(rows, "action_identification")} == {0.5}
    assert summary(rows, "action_effect") == pytest.approx(1)


def noisy_latents(corpus: Corpus, folder: Path, sigma: float) -> TensorStore:
    g = generator(0, "planted")
    true = (latents(actions) for actions in corpus.actions)
    noisy = (z + sigma * torch.randn(z.shape, generator=g) for z in true)
    return TensorStore.write(folder, zip(corpus.dataset.ids, noisy, strict=True), {"sigma": sigma})


def test_noise_in_the_latents_only_lowers_it_and_not_below_chance(evaluation: Subject, tmp_path: Path) -> None:
    found = []
    for sigma in (0.0, 1.0, 3.0, 30.0):
        evaluation.latents = noisy_latents(evaluation.corpus, tmp_path / str(sigma), sigma)
        found.append(summary(measure("action_identification", evaluation), "action_identification"))
    assert found[0] > 0.99
    assert found[0] > found[1] > found[2] > 0.5
    assert found[3] == pytest.approx(0.5, abs=0.12)


def test_a_window_s_value_is_the_share_of_others_that_predict_worse(evaluation: Subject) -> None:
    evaluation.set("action_identification", others=3)
    evaluation.world_model = PointWorldModel(gain=0.3)  # type: ignore[assignment]
    values = [row.value for row in select(measure("action_identification", evaluation), "action_identification")]
    assert all(min(abs(value * n - round(value * n)) for n in (1, 2, 3)) < 1e-6 for value in values)


def test_actions_alike_are_not_told_apart() -> None:
    taken = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    others = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]], [[1.0, 0.1], [0.0, 0.0], [0.0, 0.0]]])
    assert different(taken, others).tolist() == [[False, True, True]] * 2


def test_a_robot_that_always_does_the_same_tells_nothing(evaluation: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = type(evaluation.clips(1))
    batch = clips.batch

    def idle(self, windows):  # type: ignore[no-untyped-def]
        found = batch(self, windows)
        return replace(found, actions=torch.ones_like(found.actions))

    monkeypatch.setattr(clips, "batch", idle)
    with pytest.raises(NotAvailable, match="all held-out actions are alike"):
        measure("action_identification", evaluation)


@pytest.mark.parametrize("counts", [[5, 5], [1] * 20, [4, 3, 3, 1, 1], [9, 1, 1], [1]])
def test_others_are_distinct_and_every_window_serves_as_often_as_any(counts: list[int]) -> None:
    windows = np.array([(episode, start) for episode, count in enumerate(counts) for start in range(count)])
    places = strangers(windows, 4, seed=1).numpy()
    assert places.shape[1] <= 4
    for column in places.T:
        assert sorted(column) == list(range(len(windows)))
    assert all(len({*row, own}) == len(row) + 1 for own, row in enumerate(places.tolist()))
    if max(counts) <= len(windows) / 2:
        assert (windows[places][..., 0] != windows[:, None, 0]).all()
