from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rslwm.model.dit import DiTConfig
from rslwm.model.layers import rotary_table, rotary_tables, rotate, spatial_table, temporal_table
from tiny import draw

CPU = torch.device("cpu")
ONE_HEAD = DiTConfig(width=64, heads=1, patch=1)
THREE_VIEWS = replace(ONE_HEAD, views=3)


def line(positions: Tensor, width: int = 64) -> Tensor:
    return rotary_table(positions[:, None], (width,), width)


def turned(table: Tensor) -> int:
    """How many leading channels the table turns; none behind them."""
    still = (table == 1).all(0)
    count = int((~still).sum())
    assert still[count:].all()
    return 2 * count


def test_frequencies_are_powers_of_ten_thousand() -> None:
    angles = line(torch.tensor([1.0]), 8).angle()[0]
    assert angles.tolist() == pytest.approx([1, 0.1, 0.01, 0.001])


def test_adjacent_channels_turn_together() -> None:
    quarter = torch.polar(torch.ones(2), torch.tensor([torch.pi / 2, 0.0]))
    assert torch.allclose(rotate(torch.tensor([1.0, 2, 3, 4]), quarter), torch.tensor([-2.0, 1, 3, 4]), atol=1e-6)


def test_turning_keeps_lengths_and_the_dtype() -> None:
    x, table = draw(5, 64), line(torch.arange(5))
    assert torch.allclose(rotate(x, table).norm(dim=-1), x.norm(dim=-1))
    assert rotate(x.bfloat16(), table).dtype == torch.bfloat16


@pytest.mark.parametrize("offset", [1, 100, 1000])
def test_products_depend_on_differences_of_positions_only(offset: int) -> None:
    q, k = draw(6, 64), draw(6, 64, seed=2)

    def products(start: int) -> Tensor:
        table = line(torch.arange(start, start + 6))
        return rotate(q, table) @ rotate(k, table).mT

    assert torch.allclose(products(0), products(offset), atol=1e-3)
    assert not torch.allclose(products(0), q @ k.mT, atol=0.1)


def test_queries_are_scaled_and_keys_are_not() -> None:
    space, time = rotary_tables(ONE_HEAD, (2, 3), 5, 4, CPU)
    assert (space.shape, time.shape) == ((6, 2, 1, 32), (4, 1, 2, 1, 32))
    for table in (space, time):
        assert torch.allclose(table[..., 0, :, :].abs(), torch.tensor(64**-0.5))
        assert torch.allclose(table[..., 1, :, :].abs(), torch.tensor(1.0))
    assert torch.equal(time[:, 0, 1, 0], line(torch.arange(5, 9)).to(time))


def test_space_shares_a_head_equally_between_row_and_column() -> None:
    table = spatial_table(ONE_HEAD, (2, 3))
    half = line(torch.arange(3), 32)
    for row in range(2):
        for column in range(3):
            assert torch.equal(table[3 * row + column], torch.cat([half[row], half[column]]))


def test_three_views_share_a_head_of_64_channels_as_22_22_20() -> None:
    """Three axes, of which only one is away from zero: row 1, column 1 of the first view, the second view."""
    table = spatial_table(THREE_VIEWS, (2, 6))
    moved = [int((table[token] != 1).sum()) * 2 for token in (6, 1, 2)]
    assert moved == [22, 22, 20]
    row, column, view = table[6], table[1], table[2]
    assert torch.equal(row[:11], line(torch.tensor([1]), 22)[0])
    assert torch.equal(column[11:22], line(torch.tensor([1]), 22)[0])
    assert torch.equal(view[22:], line(torch.tensor([1]), 20)[0])


def test_the_two_readings_of_the_width_hold_the_same_places_in_another_order() -> None:
    """Side by side, view 1 of column 0 is at place ``columns``; interleaved, at place 1."""
    ours = spatial_table(THREE_VIEWS, (1, 6)).unflatten(0, (3, 2))
    published = spatial_table(replace(THREE_VIEWS, view_order="interleaved"), (1, 6)).unflatten(0, (2, 3))
    assert torch.equal(ours, published.transpose(0, 1))
    assert not torch.equal(ours.flatten(0, 1), published.flatten(0, 1))


def test_the_two_readings_agree_on_one_column_a_view() -> None:
    readings = (spatial_table(replace(THREE_VIEWS, view_order=order), (4, 3)) for order in _ORDERS)
    assert torch.equal(*readings)


_ORDERS = ("side-by-side", "interleaved")


def test_factorised_time_turns_the_whole_head_by_the_frame() -> None:
    table = temporal_table(ONE_HEAD, torch.arange(4, 7), (2, 3))
    assert torch.equal(table, line(torch.arange(4, 7))[:, None])


def test_joint_time_turns_frame_row_and_column_by_a_third_each_and_leaves_the_rest() -> None:
    table = temporal_table(replace(ONE_HEAD, temporal="joint"), torch.arange(1, 3), (2, 3))
    assert table.shape == (2, 6, 32)
    assert turned(table.flatten(0, 1)) == 60
    third = line(torch.arange(3), 20)
    assert torch.equal(table[1, 5, :30], torch.cat([third[2], third[1], third[2]]))
