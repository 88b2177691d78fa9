"""Every fact about the published transformer is pinned by the golden vectors: changing one of them breaks one."""

from collections.abc import Callable
from functools import partial
from inspect import unwrap
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from mutations import Mutation, both, change, rebuilt, torch_functions, weights
from published import Golden, load, velocity_error
from rslwm.attention import attend, causal_bias
from rslwm.model import dit, layers, rotary
from rslwm.model.dit import Conditions, DiT, Layer
from rslwm.model.layers import QK_EPS, sinusoidal_embedding

TOLERANCE = 1e-5

Norm = Callable[[Tensor, float], Tensor]


def temporal_first(forward: Any) -> Any:
    def mutated(self: Layer, x: Tensor, modulations: Any, space: Tensor, time: Tensor, past: Any) -> Any:
        x, kept = self.t_block(x, modulations[1], time, past)
        return self.s_block(x, modulations[0], space)[0], kept

    return mutated


def without_bias(original: Any) -> Any:
    return lambda frames, tokens, like: None


def causal_over_tokens(original: Any) -> Any:
    return lambda frames, tokens, like: causal_bias(frames * tokens, 1, like)


def causal_in_space(original: Any) -> Any:
    """The temporal attention brings a bias, the spatial one gets it here."""
    return lambda q, k, v, bias=None: attend(q, k, v, causal_bias(q.shape[-2], 1, q) if bias is None else bias)


def parts(*order: int) -> Callable[[Tensor], Tensor]:
    """The equal parts of a weight's rows in another order."""
    return lambda w: torch.cat([w.chunk(len(order))[i] for i in order])


def modulations(*order: int) -> Mutation:
    """Of both blocks of a layer."""
    return both(*(weights(f"block.adaLN_modulation.1.{kind}", parts(*order)) for kind in ("weight", "bias")))


def final_modulations(*order: int) -> Mutation:
    return both(*(weights(f"final_layer.adaLN_modulation.1.{kind}", parts(*order)) for kind in ("weight", "bias")))


def norm(token: Norm | None = None, head: Norm | None = None) -> Mutation:
    """Another norm of tokens, or of queries and keys."""

    def to(rms_norm: Any) -> Norm:
        def mutated(x: Tensor, eps: float = 1e-6) -> Tensor:
            return ((head if eps == QK_EPS else token) or rms_norm)(x, eps)

        return mutated

    return change(layers, "rms_norm", to)


def layer_norm(x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def across_heads(x: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, x.shape[-2:], eps=eps)


def with_eps(eps: float) -> Callable[[Tensor, float], Tensor]:
    return lambda x, _: F.rms_norm(x, x.shape[-1:], eps=eps)


def rotary_with(base: float = 10_000.0, fewer: int = 0) -> Mutation:
    """Frequencies base^(-i / (n - fewer))."""

    def table(positions: Tensor, shares: tuple[int, ...], width: int) -> Tensor:
        pairs = [share // 2 for share in shares]
        angles = [
            axis[:, None] * base ** -(torch.arange(n) / (n - fewer))
            for axis, n in zip(positions.unbind(1), pairs, strict=True)
        ]
        return torch.polar(torch.ones(len(positions), width // 2), torch.cat(angles, 1))

    return change(rotary, "rotary_table", lambda _: table)


def axes(order: tuple[int, ...] = (), shares: tuple[int, ...] = ()) -> Mutation:
    """Another order or other shares of the axes, of the table that has so many."""

    def to(rotary_table: Any) -> Any:
        def mutated(positions: Tensor, own: tuple[int, ...], width: int) -> Tensor:
            if len(own) != len(order or shares):
                return rotary_table(positions, own, width)
            return rotary_table(positions[:, list(order)] if order else positions, shares or own, width)

        return mutated

    return change(rotary, "rotary_table", to)


def by_halves(original: Any) -> Any:
    """Channel i turned with channel i + d/2, not with its neighbour."""

    def rotate(x: Tensor, table: Tensor) -> Tensor:
        pairs = torch.complex(*x.chunk(2, -1)) * table
        return torch.cat([pairs.real, pairs.imag], -1)

    return rotate


def frames_at(positions: Callable[[Tensor], Tensor]) -> Mutation:
    return change(rotary, "temporal_table", lambda table: lambda config, t, grid: table(config, positions(t), grid))


def head(
    add: Callable[[Conditions], Tensor] = lambda conditions: conditions.level,
    project: Callable[[DiT, Tensor], Tensor] = lambda dit, x: dit.s_projector(F.silu(x)),
    mean: Callable[[Tensor], Tensor] = lambda wide: wide.mean(2),
) -> Mutation:
    """Another wide head."""

    def mutated(self: DiT, tokens: Tensor, conditions: Conditions) -> Tensor:
        wide = project(self, tokens + add(conditions)[:, :, None])
        return self.head_final_layer(wide, mean(wide))

    return change(DiT, "_head", lambda _: mutated)


def condition(combine: Callable[[Tensor, Tensor], Tensor]) -> Mutation:
    """Another combination of a frame's embedded level and action."""

    def conditions(self: DiT, levels: Tensor, actions: Tensor) -> Conditions:
        level = self.timestep_mlp(sinusoidal_embedding(levels))
        combined = combine(level, self.action_embedder(actions))
        return Conditions(level, combined, tuple(layer.modulations(combined) for layer in self._layers))

    return change(DiT, "conditions", lambda _: conditions)


def qkv_bias(golden: Golden, patch: pytest.MonkeyPatch) -> None:
    for module in golden.dit.modules():
        if isinstance(module, layers.Attention):
            module.qkv_proj.bias = nn.Parameter(0.1 * torch.ones(len(module.qkv_proj.weight)))


def unpatchified(pattern: str) -> Mutation:
    """Rows of the last projection in another order than (p1 p2 C)."""
    rows = partial(rearrange, pattern=f"(p1 p2 C) ... -> ({pattern}) ...", p1=2, p2=2)
    return both(*(weights(f"final_layer.linear.{kind}", rows) for kind in ("weight", "bias")))


BLOCKS: dict[str, Mutation] = {
    "spatial block, then temporal block": change(Layer, "forward", temporal_first),
    "space: full attention": change(layers, "attend", causal_in_space),
    "time: causal": change(layers, "causal_bias", without_bias),
    "time: own position only": rebuilt(temporal="joint"),
    "modulations: shift, scale": modulations(1, 0, 2, 4, 3, 5),
    "modulations: scale, gate": modulations(0, 2, 1, 3, 5, 4),
    "modulations: attention, feed-forward": modulations(3, 4, 5, 0, 1, 2),
    "tokens: norm without centring": norm(token=layer_norm),
    "tokens: eps 1e-6": norm(token=with_eps(1e-5)),
    "queries and keys: norm": norm(head=lambda x, eps: x),
    "queries and keys: norm without centring": norm(head=layer_norm),
    "queries and keys: norm per head": norm(head=across_heads),
    "queries and keys: eps": norm(head=with_eps(1e-3)),
    "queries, keys, values": weights("qkv_proj.weight", parts(0, 2, 1)),
    "queries, keys, values: no bias": qkv_bias,
    "SwiGLU: gate first": both(weights("w12.weight", parts(1, 0)), weights("w12.bias", parts(1, 0))),
    "SwiGLU: SiLU": torch_functions(layers, silu=F.gelu),
}
ROTARY: dict[str, Mutation] = {
    "base 10000": rotary_with(base=9000),
    "exponent -i/n": rotary_with(fewer=1),
    "adjacent pairs": change(layers, "rotate", by_halves),
    "row, column": axes(order=(1, 0)),
    "equal shares": axes(shares=(4, 12)),
    "frames turned": frames_at(torch.zeros_like),
    "frames one apart": frames_at(lambda t: 2 * t),
}
CONDITION: dict[str, Mutation] = {
    "256 channels, cosines first": weights("timestep_mlp.0.weight", lambda w: w.roll(128, 1)),
    "1000 t": change(dit, "sinusoidal_embedding", lambda embed: lambda t, channels: embed(t / 1000, channels)),
    "sum of time and action": condition(lambda level, action: level * action),
}
WIDE_HEAD: dict[str, Mutation] = {
    "time, not action": head(add=lambda conditions: conditions.both),
    "SiLU": head(project=lambda dit, x: dit.s_projector(x)),
    "SiLU, then projection": head(project=lambda dit, x: F.silu(dit.s_projector(x))),
    "condition: a mean": head(mean=lambda wide: wide[:, :, 0]),
    "condition: over a frame's own positions": head(mean=lambda wide: wide.mean((1, 2))[:, None]),
    "shift, scale": final_modulations(1, 0),
}
PLAIN_HEAD: dict[str, Mutation] = {
    "conditioned like the blocks": change(DiT, "_head", lambda _: lambda self, x, c: self.final_layer(x, c.level)),
    "shift, scale": final_modulations(1, 0),
    "patch of a convolution": weights("x_proj.weight", lambda w: w.mT),
    "unpatchify: rows before columns": unpatchified("p2 p1 C"),
    "unpatchify: channels last": unpatchified("C p1 p2"),
}
MULTIVIEW: dict[str, Mutation] = {
    "views aren't columns": rebuilt(views=1),
    "view: floor(d/3) made even": axes(shares=(20, 22, 22)),
    "row: half of the rest": axes(shares=(20, 24, 20)),
    "row, column, view: row first": axes(order=(1, 0, 2)),
    "row, column, view: view last": axes(order=(0, 2, 1)),
    "width read as column * V + view": rebuilt(view_order="side-by-side"),
}
JOINT: dict[str, Mutation] = {
    "earlier frames' tokens": rebuilt(temporal="factorised"),
    "mask over frames": change(layers, "causal_bias", without_bias),
    "mask in blocks": change(layers, "causal_bias", causal_over_tokens),
    "rotary: frame first": axes(order=(1, 0, 2)),
    "rotary: row, column": axes(order=(0, 2, 1)),
    "rotary: the rest unrotated": axes(shares=(22, 22, 20)),
}
FACTS = {
    f"{name} {fact}": (name, mutate)
    for name, facts in (
        ("dit_wide_p1", BLOCKS | ROTARY | CONDITION | WIDE_HEAD),
        ("dit_plain_p2", PLAIN_HEAD),
        ("dit_multiview", MULTIVIEW),
        ("dit_joint", JOINT),
    )
    for fact, mutate in facts.items()
}


@pytest.fixture(autouse=True)
def tables_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables kept from before would hide a changed one, and a changed one would be kept for later."""
    monkeypatch.setattr(dit, "rotary_tables", unwrap(rotary.rotary_tables))


NOTHING = (norm(with_eps(1e-6), with_eps(QK_EPS)), rotary_with(), frames_at(torch.clone), condition(torch.add), head())


@pytest.mark.parametrize("mutate", NOTHING, ids=["norm", "rotary", "frames", "condition", "head"])
def test_what_is_written_anew_here_differs_in_nothing_but_the_fact(
    mutate: Mutation, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = load("dit_wide_p1")
    mutate(golden, monkeypatch)
    assert velocity_error(golden) < TOLERANCE


@pytest.mark.parametrize(("name", "mutate"), FACTS.values(), ids=FACTS)
def test_changing_a_fact_changes_the_velocity(name: str, mutate: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = load(name)
    assert velocity_error(golden) < TOLERANCE
    mutate(golden, monkeypatch)
    assert velocity_error(golden) > 10 * TOLERANCE


def test_the_hidden_width_of_the_feed_forward_is_cut_to_an_integer(monkeypatch: pytest.MonkeyPatch) -> None:
    """170.67 at a width of 64."""
    monkeypatch.setattr(layers, "int", round, raising=False)
    with pytest.raises(RuntimeError, match=r"ffwd\.w12\.weight"):
        load("dit_plain_p2")
