"""Directions and places that matter, in latents where it is known which do."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from measured import Row, Subject, measure, select, summary
from point_world import PointWorldModel, ReadAction, ReadState
from rslwm.compute import generator
from rslwm.evals.attribution import blocks, random_directions, telling, varying
from rslwm.evals.base import NotAvailable
from rslwm.evals.probe import TrainedProbe
from rslwm.evals.readout import StateTargets

NAME = "attribution[windows=60,decoded=8]"
NOISE = 12
"""Channels that tell nothing."""


@dataclass
class View:
    """Stored latents seen otherwise."""

    store: Any
    see: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def shape(self, key: str) -> tuple[int, ...]:
        return (self.store.shape(key)[0], *self.see(torch.zeros(1, 1, 4, 4, 4)).shape[2:])

    def read(self, places: Any) -> Tensor:
        return self.see(self.store.read(places).float())


class Back(nn.Module):
    """A reader or decoder of the point world's latents, of latents from which ``back`` makes them."""

    def __init__(self, reader: Any, back: Any) -> None:
        super().__init__()
        self.reader, self.back = reader, back

    def forward(self, z: Tensor) -> Tensor:
        return self.reader(self.back(z))


class Model(PointWorldModel):
    def __init__(self, back: Any) -> None:
        super().__init__()
        self.back = back

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(self.back(z))


def seen(evaluation: Subject, see: Any, back: Any) -> Subject:
    """The same world, with other latents and probes that are right for them."""
    probes: dict[str, Any] = {
        "inverse-1": Back(ReadAction(), back),
        "state": Back(ReadState(*StateTargets.of(evaluation.corpus).moments(evaluation.corpus.train)), back),
    }
    latents = View(evaluation.latents, see)
    return replace(evaluation, latents=latents, probes=probes, world_model=Model(back))


def mixed(evaluation: Subject, turn: Tensor | None = None, loud: float = 3.0) -> Subject:
    """The point's four channels and noise in others, louder than they are, rotated."""
    turn = torch.eye(4 + NOISE) if turn is None else turn

    def see(z: Tensor) -> Tensor:
        noise = loud * torch.sin(1e4 * z.sum(-1, keepdim=True) * torch.arange(1, NOISE + 1))
        return torch.cat([z, noise], -1) @ turn

    return seen(evaluation, see, lambda z: (z @ turn.T)[..., :4])


def curve(rows: list[Row], metric: str, kind: str) -> dict[int, float]:
    """The metric by the number of directions removed."""
    mine = [row for row in select(rows, metric) if row.dim == kind]
    return {k: summary([row for row in mine if row.k == k], metric) for k in sorted({row.k for row in mine})}


def test_removing_what_tells_actions_costs_them_and_noise_costs_nothing(evaluation: Subject) -> None:
    rows = measure(NAME, mixed(evaluation))
    actions, variance = (curve(rows, "directions_idm_r", kind) for kind in ("actions", "variance"))
    assert [*actions] == [0, 1, 2, 4, 8]
    assert actions[0] == variance[0] == pytest.approx(1, abs=0.01)
    assert actions[4] < 0.3  # four dimensions of the action, in as many channels
    assert variance[8] > 0.7  # the loudest channels are noise, up to chance in a hundred windows


def test_what_is_removed_is_lost_to_positions_and_pictures_too(evaluation: Subject) -> None:
    rows = measure(NAME, mixed(evaluation))
    errors, pictures = (curve(rows, f"directions_{name}", "actions") for name in ("state_error", "psnr"))
    assert errors[0] < 0.2 < 1 < errors[4]
    assert errors[4] == pytest.approx(summary(rows, "directions_state_error", "floor"), rel=0.5)
    assert curve(rows, "directions_state_error", "variance")[8] < 0.5 * errors[4]
    assert [*pictures] == [1, 2, 4, 8]
    assert pictures[4] == pytest.approx(summary(rows, "directions_psnr", "floor"), abs=4)
    assert curve(rows, "directions_psnr", "variance")[8] > pictures[4] + 3


def test_actions_in_one_channel_are_gone_with_one_direction(evaluation: Subject) -> None:
    """All that is read is how the first channel changes; of sixteen directions a random one holds little of it."""

    class First(nn.Module):
        def forward(self, pair: Tensor) -> Tensor:
            one = pair.mean((2, 3))[:, :, 0]
            return (one[:, 1] - one[:, 0])[:, None]

    noisy = mixed(evaluation, loud=0.2).latents.see  # type: ignore[attr-defined]

    def see(z: Tensor) -> Tensor:
        return torch.cat([z[..., :1], noisy(z)[..., 4:]], -1)

    subject = seen(evaluation, see, lambda z: torch.cat([z[..., :1]] * 4, -1))
    subject.probes["inverse-1"] = Repeated(First())
    rows = measure(NAME, subject)
    full = curve(rows, "directions_idm_r", "actions")[0]
    assert abs(curve(rows, "directions_idm_r", "actions")[1]) < 0.4 * full
    assert curve(rows, "directions_idm_r", "random")[1] > 0.7 * full


class Repeated(nn.Module):
    """One number for each of the four dimensions of the action."""

    def __init__(self, reader: nn.Module) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, z: Tensor) -> Tensor:
        return self.reader(z).expand(-1, 4)


def test_a_rotation_of_the_channels_changes_nothing(evaluation: Subject) -> None:
    """But random directions, by chance."""
    turn = random_directions(4 + NOISE, 4 + NOISE, generator(0, "turn")).reads
    plain, turned = measure(NAME, mixed(evaluation)), measure(NAME, mixed(evaluation, turn))
    for metric in ("directions_idm_r", "directions_state_error", "directions_psnr"):
        for kind in ("actions", "variance"):
            one, other = (curve(rows, metric, kind) for rows in (plain, turned))
            # Where all is removed, r is that of rounding errors.
            assert [*other.values()] == pytest.approx([*one.values()], rel=0.02, abs=0.1), (metric, kind)
    maps = [[row.value for row in select(rows, "attribution_map")] for rows in (plain, turned)]
    assert maps[0] == pytest.approx(maps[1], abs=0.01)


def test_no_more_directions_are_removed_than_there_are(evaluation: Subject) -> None:
    """Without any, nothing is left, whatever their kind."""
    rows = measure(NAME, evaluation)
    for kind in ("actions", "variance", "random"):
        found = curve(rows, "directions_idm_r", kind)
        assert [*found] == [0, 1, 2, 4]
        assert found[4] == pytest.approx(0, abs=0.05)


def test_actions_of_other_windows_are_told_by_no_direction() -> None:
    g = generator(0, "told")
    change, actions = torch.randn(300, 2, 2, 16, generator=g), torch.randn(300, 4, generator=g)
    change[..., 0] += 2 * actions[:, :1, None]
    right = telling(change, actions, 1).writes
    wrong = telling(change, actions[torch.randperm(300, generator=g)], 1).writes
    assert share(right) > 0.9
    assert share(wrong) < 0.5


def share(direction: Tensor) -> float:
    """Of the first channel."""
    return float(direction[0].square() / direction.square().sum())


def half_blind(evaluation: Subject) -> Subject:
    """An encoder that shows nothing in the left half of the picture."""

    def see(z: Tensor) -> Tensor:
        shown = z.clone()
        shown[..., :2, :] = 0.3
        return shown

    return seen(evaluation, see, lambda z: z)


def test_places_that_an_encoder_does_not_see_tell_nothing(evaluation: Subject) -> None:
    rows = select(measure(NAME, half_blind(evaluation)), "attribution_map")
    found = {dim: summary([row for row in rows if row.dim == dim], "attribution_map") for dim in {r.dim for r in rows}}
    assert {*found} == {f"{row},{column}" for row in range(4) for column in range(4)}
    for place, drop in found.items():
        assert (drop == pytest.approx(0, abs=1e-6)) == (place.split(",")[1] in "01")


def test_an_encoder_that_sees_half_is_read_worse(evaluation: Subject) -> None:
    whole, half = measure(NAME, evaluation), measure(NAME, half_blind(evaluation))
    error = "directions_state_error"
    assert curve(half, error, "actions")[0] > 3 * curve(whole, error, "actions")[0]


def test_the_map_is_the_drop_of_explained_variance(evaluation: Subject) -> None:
    """All blocks alike tell a 16th of the way each; what is lost is 1/16 of it, squared."""
    rows = select(measure("attribution[windows=200,blocks=1]", evaluation), "attribution_map")
    assert {row.dim for row in rows} == {"0,0"}
    assert summary(rows, "attribution_map") == pytest.approx(1, abs=0.3)  # all is hidden, none is explained
    small = select(measure("attribution[windows=200,blocks=4]", evaluation), "attribution_map")
    assert summary(small, "attribution_map") == pytest.approx(summary(rows, "attribution_map") / 16**2, rel=0.5)


def test_time_shifted_by_one_tells_nothing(evaluation: Subject) -> None:
    """Latents a frame late: the probe reads the actions before."""
    late = replace(evaluation, latents=Late(evaluation.latents))
    assert curve(measure(NAME, late), "directions_idm_r", "actions")[0] < 0.6


@dataclass
class Late:
    store: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def read(self, places: Any) -> Tensor:
        return self.store.read(
            [(key, range(t.start - min(2, t.start), t.stop - min(2, t.start), t.step)) for key, t in places]
        )


def test_blocks_cover_the_grid_and_are_square() -> None:
    assert [*blocks((2, 3), 8)] == ["0,0", "0,1", "0,2", "1,0", "1,1", "1,2"]
    covered = np.zeros((14, 28))
    for rows, columns in blocks((14, 28), 8).values():
        covered[rows, columns] += 1
    assert (covered == 1).all()
    assert len(blocks((14, 28), 8)) == 4 * 7


def test_varying_directions_are_principal_components() -> None:
    x = torch.randn(500, 6, generator=generator(0, "x")) * torch.tensor([1.0, 5, 2, 1, 1, 3])
    x = x - x.mean(0)
    components = torch.linalg.svd(x, full_matrices=False).Vh[:3].T
    torch.testing.assert_close((varying(x, 3).reads.T @ components).abs(), torch.eye(3), atol=1e-3, rtol=0)


def test_one_probe_is_enough(evaluation: Subject) -> None:
    evaluation.probes["state"] = TrainedProbe(None, "no positions")
    names = {row.metric for row in measure(NAME, evaluation)}
    assert names == {"directions_idm_r", "directions_psnr", "attribution_map"}
    evaluation.probes["inverse-1"] = TrainedProbe(None, "too short")
    with pytest.raises(NotAvailable, match="too short; no positions"):
        measure(NAME, evaluation)
