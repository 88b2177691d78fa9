import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from rslwm.data.store import TensorStore
from rslwm.types import DataError


def latents(n: int, length: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {f"task/{i}": torch.randn(length + i, 2, 3, 4, generator=generator) for i in range(n)}


def test_round_trip_is_exact_in_bfloat16(tmp_path: Path) -> None:
    values = latents(5)
    store = TensorStore.write(tmp_path / "s", values.items(), {"encoder": "x"})
    again = TensorStore(tmp_path / "s")
    assert again.keys == store.keys == [*values]
    assert again.meta == {"encoder": "x"}
    assert again.nbytes == sum(2 * v.numel() for v in values.values())
    for key, value in values.items():
        assert again[key].dtype == torch.bfloat16
        assert again.shape(key) == tuple(value.shape)
        torch.testing.assert_close(again[key], value.bfloat16(), rtol=0, atol=0)


def test_frames_stay_uint8(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), np.uint8)
    store = TensorStore.write(tmp_path, [("a", frames)], {})
    assert store["a"].dtype == torch.uint8
    np.testing.assert_array_equal(store["a"].numpy(), frames)


def test_views_share_the_mapping_and_never_write_to_the_file(tmp_path: Path) -> None:
    store = TensorStore.write(tmp_path, [("a", torch.zeros(4, 2))], {})
    assert store["a"].data_ptr() == store["a"].data_ptr()
    store["a"].fill_(1)
    assert TensorStore(tmp_path)["a"].sum() == 0


def test_read_copies_the_asked_rows(tmp_path: Path) -> None:
    value = torch.arange(20.0).reshape(10, 2)
    store = TensorStore.write(tmp_path, [("a", value), ("b", value + 100)], {})
    rows = store.read([("a", range(1, 8, 3)), ("b", range(2, 5))])
    assert rows[..., 0].tolist() == [[2, 8, 14], [104, 106, 108]]
    rows.zero_()
    assert store["a"][1, 0] == 2


def test_shards_split_by_size_and_keep_the_order(tmp_path: Path) -> None:
    values = {name: torch.full((8, 2), float(i)) for i, name in enumerate("zebra")}
    store = TensorStore.write(tmp_path, values.items(), {}, shard_bytes=40)
    assert len(list(tmp_path.glob("shard-*.safetensors"))) == 3
    assert store.keys == list("zebra")
    assert [store[key][0, 0].item() for key in store.keys] == [0, 1, 2, 3, 4]


def test_a_killed_write_resumes_without_computing_finished_shards(tmp_path: Path) -> None:
    computed: list[str] = []

    def lazily(key: str, fail: bool = False) -> tuple[str, Callable[[], torch.Tensor]]:
        def compute() -> torch.Tensor:
            if fail:
                raise KeyboardInterrupt
            computed.append(key)
            return torch.ones(8, 2)

        return key, compute

    with pytest.raises(KeyboardInterrupt):
        TensorStore.write(tmp_path, [lazily("a"), lazily("b"), lazily("c", fail=True)], {}, shard_bytes=32)
    with pytest.raises(DataError, match="never finished"):
        TensorStore(tmp_path)
    store = TensorStore.write(tmp_path, map(lazily, "abc"), {}, shard_bytes=32)
    assert computed == ["a", "b", "c"]
    assert store.keys == ["a", "b", "c"]


def test_a_complete_store_is_not_computed_again(tmp_path: Path) -> None:
    TensorStore.write(tmp_path, [("a", torch.ones(2))], {"v": 1})

    def never() -> torch.Tensor:
        raise AssertionError("computed again")

    assert TensorStore.write(tmp_path, [("a", never)], {"v": 1}).keys == ["a"]


def test_another_meta_is_refused(tmp_path: Path) -> None:
    TensorStore.write(tmp_path, [("a", torch.ones(2))], {"encoder": "small-vae"})
    with pytest.raises(DataError, match=r"'encoder' is 'small-vae' there and 'small-dino' here"):
        TensorStore.write(tmp_path, [("a", torch.ones(2))], {"encoder": "small-dino"})


def test_a_duplicate_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'a' comes twice"):
        TensorStore.write(tmp_path, [("a", torch.ones(2)), ("a", torch.ones(2))], {})


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    TensorStore.write(tmp_path, [("a", torch.ones(200))], {})
    os.truncate(tmp_path / "shard-00000.safetensors", 300)
    with pytest.raises(DataError, match=r"shard-00000.safetensors can't be read"):
        TensorStore(tmp_path)


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no episode 'b'"):
        TensorStore.write(tmp_path, [("a", torch.ones(2))], {})["b"]


def test_a_killed_write_loses_seconds_of_a_shard_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rslwm.data.store.PIECE_SECONDS", 0.0)
    computed: list[str] = []

    def lazily(key: str) -> tuple[str, Callable[[], torch.Tensor]]:
        def compute() -> torch.Tensor:
            computed.append(key)
            if computed == [*"abc"]:
                raise KeyboardInterrupt
            return torch.full((8, 2), float(ord(key)))

        return key, compute

    with pytest.raises(KeyboardInterrupt):
        TensorStore.write(tmp_path / "killed", map(lazily, "abcd"), {})
    with pytest.raises(DataError, match="tensors of something else"):
        TensorStore.write(tmp_path / "killed", map(lazily, "abcd"), {"v": 2})
    TensorStore.write(tmp_path / "killed", map(lazily, "abcd"), {})
    assert computed == ["a", "b", "c", "c", "d"]
    TensorStore.write(tmp_path / "whole", map(lazily, "abcd"), {})
    killed, whole = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("killed", "whole"))
    assert killed == whole


def test_a_flipped_byte_is_found_when_its_row_is_read(tmp_path: Path) -> None:
    values = {name: torch.arange(40.0).view(10, 4) for name in "ab"}
    TensorStore.write(tmp_path, values.items(), {})
    shard = tmp_path / "shard-00000.safetensors"
    content = bytearray(shard.read_bytes())
    content[-5] ^= 4  # of the last row of b
    shard.write_bytes(content)
    store = TensorStore(tmp_path)
    assert torch.equal(store["a"].float(), values["a"])
    assert torch.equal(store.read([("b", range(9))]).float()[0], values["b"][:9])
    for read in (lambda: store["b"], lambda: store.read([("a", range(8, 10)), ("b", range(8, 10))])):
        with pytest.raises(DataError, match=r"shard-00000.safetensors is damaged: row 9 of episode 'b'. Delete .*"):
            read()


def test_a_store_without_checksums_is_read(tmp_path: Path) -> None:
    TensorStore.write(tmp_path, [("a", torch.ones(3, 2))], {})
    index = pq.read_table(tmp_path / "index.parquet")
    pq.write_table(index.drop_columns("crc32"), tmp_path / "index.parquet")
    assert TensorStore(tmp_path)["a"].sum() == 6
