"""Which action a frame is conditioned on, and what a model learns about not knowing it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rslwm.model.sampler import SamplingConfig
from rslwm.model.world_model import WorldModel
from rslwm.serialisation import ConfigError
from tiny import TINY, draw, same, tiny_world_model

SAMPLING = SamplingConfig(steps=2)
WITH_NULL = replace(TINY, action_inputs=10)
NULL = torch.tensor([0.0] * 9 + [1.0])
ALIGNMENTS = ("incoming", "outgoing")


def clip(frames: int = 6, batch: int = 2) -> tuple[Tensor, Tensor]:
    return draw(batch, frames, 4, 4, 3), draw(batch, frames - 1, 7, seed=2).tanh()


def moved_frames(model: WorldModel, action: int) -> list[int]:
    """Which of four generated frames change with an action; frame 0 comes after action 1."""
    (latents, actions), noise = clip(), draw(2, 4, 4, 4, 3, seed=3)
    before = model.rollout(latents[:, :2], actions, SAMPLING, noise=noise)
    actions[:, action] += 1
    after = model.rollout(latents[:, :2], actions, SAMPLING, noise=noise)
    return [t for t in range(4) if not same(after[:, t], before[:, t], 1e-4)]


def conditioning(model: WorldModel, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What the transformer is shown of the actions from now on, one entry a call."""
    seen: list[Tensor] = []
    conditions = model.dit.conditions
    monkeypatch.setattr(model.dit, "conditions", lambda t, a: seen.append(a) or conditions(t, a))
    return seen


def test_incoming_actions_move_the_frame_that_they_lead_to_and_later_ones(plugin: Path) -> None:
    model = tiny_world_model(plugin)
    assert moved_frames(model, 1) == [0, 1, 2, 3]
    assert moved_frames(model, 3) == [2, 3]
    assert moved_frames(model, 4) == [3]


def test_outgoing_actions_move_the_frame_that_they_are_taken_from_too(plugin: Path) -> None:
    """As in the paper's code: a frame whose following action is known is conditioned on it."""
    model = tiny_world_model(plugin, alignment="outgoing")
    assert moved_frames(model, 1) == [0, 1, 2, 3]
    assert moved_frames(model, 3) == [1, 2, 3]
    assert moved_frames(model, 4) == [2, 3]


def test_an_outgoing_action_that_is_not_known_yet_moves_the_next_frame_only(plugin: Path) -> None:
    model = tiny_world_model(plugin, alignment="outgoing")
    (latents, actions), noise = clip(), draw(2, 4, 4, 3, seed=3)
    state = model.start(latents[:, :2], actions[:, :1])
    state, first = model.step(state, actions[:, 1], SAMPLING, noise=noise)
    _, other = model.step(model.start(latents[:, :2], actions[:, :1]), actions[:, 1] + 1, SAMPLING, noise=noise)
    assert not same(other, first, 1e-3)
    (_, second), (_, otherwise) = (model.step(state, actions[:, 2] + d, SAMPLING, noise=noise) for d in (0, 1))
    assert not same(otherwise, second, 1e-3)


@pytest.mark.parametrize("full_window", [False, True])
def test_stepping_with_the_following_action_equals_an_outgoing_rollout(plugin: Path, full_window: bool) -> None:
    model, sampling = tiny_world_model(plugin, alignment="outgoing"), replace(SAMPLING, full_window=full_window)
    (latents, actions), noise = clip(7), draw(2, 5, 4, 4, 3, seed=3)
    whole = model.rollout(latents[:, :2], actions, sampling, noise=noise)
    state = model.start(latents[:, :2], actions[:, :1], full_window)
    for f in range(5):
        following = actions[:, 2 + f] if f < 4 else None
        state, frame = model.step(state, actions[:, 1 + f], sampling, noise=noise[:, f], following=following)
        assert torch.equal(frame, whole[:, f])


@pytest.mark.parametrize("full_window", [False, True])
def test_an_outgoing_window_that_slides_holds_the_actions_taken(
    plugin: Path, full_window: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they were known in advance or not, every context frame is computed with its own action."""
    model, sampling = tiny_world_model(plugin, alignment="outgoing"), replace(SAMPLING, full_window=full_window)
    (latents, actions), seen = clip(7), conditioning(model, monkeypatch)
    state = model.start(latents[:, :2], actions[:, :1], full_window)
    for f in range(5):
        state, _ = model.step(state, actions[:, 1 + f], sampling, noise=draw(2, 4, 4, 3, seed=f))
    taken = actions[:, 3:6] if full_window else actions[:, 5:6]
    assert torch.equal(seen[-1][:, : taken.shape[1]], taken)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_training_and_sampling_show_the_network_the_same_actions(
    plugin: Path, alignment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_world_model(plugin, alignment=alignment)
    (latents, actions), seen = clip(4), conditioning(model, monkeypatch)
    model.loss(latents, actions, torch.Generator().manual_seed(0))
    trained = seen.pop()
    assert not trained[:, 0 if alignment == "incoming" else -1].any()
    model.rollout(latents[:, :3], actions, replace(SAMPLING, steps=1), torch.Generator().manual_seed(0))
    assert torch.equal(torch.cat(seen, 1), trained)


def test_dropped_actions_are_null_actions_and_the_others_are_untouched(
    plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_world_model(plugin, WITH_NULL, action_dropout=0.3)
    (latents, actions), seen = clip(4, batch=500), conditioning(model, monkeypatch)
    with torch.no_grad():
        model.loss(latents, actions, torch.Generator().manual_seed(0))
    (inputs,) = seen
    dropped = inputs[..., -1] == 1
    assert torch.equal(inputs[dropped], NULL.expand(int(dropped.sum()), -1))
    assert torch.equal(inputs[:, 1:, :7][~dropped[:, 1:]], actions[~dropped[:, 1:]])
    assert not inputs[..., 7:9].any()
    assert dropped.float().mean() == pytest.approx(0.3, abs=0.03)
    assert torch.corrcoef(dropped.float().T).triu(1).abs().max() < 0.15


@pytest.mark.parametrize("objective", ["flow", "ddpm"])
def test_dropout_follows_the_generator_and_draws_nothing_where_it_is_off(plugin: Path, objective: str) -> None:
    dropping, not_dropping = (
        tiny_world_model(plugin, WITH_NULL, objective=objective, action_dropout=p) for p in (0.5, 0.0)
    )
    first, again, other = (dropping.loss(*clip(4), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    ours, expected = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    assert not_dropping.loss(*clip(4), ours) != first
    not_dropping.objective.corrupt(clip(4)[0], expected)
    assert torch.equal(ours.get_state(), expected.get_state())


def test_inputs_beyond_the_actions_change_nothing_until_they_are_used(plugin: Path) -> None:
    wide = tiny_world_model(plugin, WITH_NULL)
    narrow = tiny_world_model(plugin)
    weights = wide.dit.state_dict()
    narrow.dit.load_state_dict(weights | {"action_embedder.weight": weights["action_embedder.weight"][:, :7]})
    losses = [model.loss(*clip(4), torch.Generator().manual_seed(0)).item() for model in (wide, narrow)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_dropout_without_an_input_for_the_null_action_is_refused(plugin: Path) -> None:
    with pytest.raises(ConfigError, match=r"set dit\.action_inputs to 8"):
        tiny_world_model(plugin, action_dropout=0.1)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_guidance_asks_what_would_come_without_the_action(plugin: Path, alignment: str) -> None:
    """By hand for one step, with the null action in the place of the one that the new frame comes from."""
    model = tiny_world_model(plugin, WITH_NULL, action_dropout=0.1, alignment=alignment)
    (latents, actions), noise = clip(3), draw(2, 1, 4, 4, 3, seed=3)
    guided = model.rollout(latents[:, :2], actions, SamplingConfig(steps=1, guidance=2.5), noise=noise)

    zeros, padded = torch.zeros(2, 1, 10), torch.cat([actions, torch.zeros(2, 2, 3)], -1)
    null = NULL.expand(2, 1, 10)
    if alignment == "incoming":
        known, without = torch.cat([zeros, padded], 1), torch.cat([zeros, padded[:, :1], null], 1)
    else:
        known, without = torch.cat([padded, zeros], 1), torch.cat([padded[:, :1], null, null], 1)
    frames, levels = torch.cat([latents[:, :2], noise], 1), torch.tensor([0.0, 0, 1]).expand(2, 3)
    with torch.no_grad():
        v, v_null = (model.dit(frames, levels, inputs)[:, -1:] for inputs in (known, without))
    assert same(guided, noise - (v_null + 2.5 * (v - v_null)))


def test_guidance_of_a_model_without_a_null_action_is_refused(plugin: Path) -> None:
    latents, actions = clip(3)
    with pytest.raises(ConfigError, match=r"sampling\.guidance is 2\.0"):
        tiny_world_model(plugin).rollout(latents[:, :2], actions, SamplingConfig(guidance=2.0), torch.Generator())
