"""With the real s3fs against a server that speaks S3: a cache, a data set and a store of latents, whole and damaged."""

import io
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console

import toy_stages as toys
from rslwm.data.config import DataConfig
from rslwm.data.corpus import Corpus
from rslwm.data.sources.opening import open_source
from rslwm.data.store import TensorStore
from rslwm.run.runner import Runner
from rslwm.run.stage import StageRecord
from rslwm.serialisation import ConfigError
from rslwm.storage import Store, mirrored, upload
from rslwm.types import DataError

moto = pytest.importorskip("moto.server", reason="needs moto")
boto3 = pytest.importorskip("boto3", reason="needs moto")
pytest.importorskip("s3fs", reason="needs the extra s3")

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of a server's bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = moto.ThreadedMotoServer("127.0.0.1", port)
    server.start()
    known = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    known |= {"AWS_ACCESS_KEY_ID": "anyone", "AWS_SECRET_ACCESS_KEY": "anything"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in known.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="lab")
        yield "s3://lab"
    server.stop()


def run(folder: Path, cache: str, *stages: toys.Stage) -> str:
    """What a run says on its way."""
    console = Console(file=io.StringIO(), width=300)
    Runner(folder, 1, console=console, cache=cache).run(stages)
    return console.file.getvalue()


def chain(folder: Path) -> toys.Write:
    trace = str(folder / "trace")
    return toys.Write(label="top", text="top", trace=trace, after=(toys.Write(label="a", text="a", trace=trace),))


def test_a_second_machine_fetches_what_the_first_has_made(s3: str, tmp_path: Path) -> None:
    top, cache = chain(tmp_path), f"{s3}/round"
    assert "finished  write top" in run(tmp_path / "one", cache, top)
    ran = (tmp_path / "trace").read_text()
    assert "fetched   write top" in run(tmp_path / "two", cache, top)
    assert (tmp_path / "trace").read_text() == ran
    one, two = (tmp_path / name / "stages" / f"write-{top.key}" for name in ("one", "two"))
    assert (two / "result.txt").read_text() == (one / "result.txt").read_text() == "top(a())"
    assert StageRecord.read(two).fetched == cache
    assert StageRecord.read(two).files == StageRecord.read(one).files


def test_a_truncated_object_is_reported_made_anew_and_mended(s3: str, tmp_path: Path) -> None:
    top, cache = chain(tmp_path), f"{s3}/cut"
    run(tmp_path / "one", cache, top)
    files = StageRecord.read(tmp_path / "one" / "stages" / f"write-{top.key}").files
    assert files is not None
    digest = files["result.txt"].sha256
    Store(cache).write(f"objects/{digest[:2]}/{digest}", b"to")
    said = run(tmp_path / "two", cache, top)
    assert "has 2 of 8 bytes; made instead of fetched" in said
    assert "finished  write top" in said
    assert "fetched   write top" in run(tmp_path / "three", cache, top)


def test_a_bucket_that_is_not_there_is_said_before_anything_runs(s3: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--cache s3://nowhere/x: .* can't be written"):
        run(tmp_path / "one", "s3://nowhere/x", chain(tmp_path))
    assert not (tmp_path / "trace").exists()


def test_a_data_set_is_read_from_s3_and_checked(s3: str, tmp_path: Path, corpus: Corpus) -> None:
    there = f"{s3}/data/point"
    upload(corpus.dataset.root, there)
    source = open_source(DataConfig(f"lerobot:{there}"))
    assert source.key() == open_source(DataConfig(f"lerobot:{corpus.dataset.root}")).key()
    assert source.open(tmp_path).fingerprint == corpus.dataset.fingerprint
    assert (source.open(tmp_path).actions(3) == corpus.dataset.actions(3)).all()
    table = next(name for name in Store(there).sizes() if name.startswith("data/"))
    Store(there).write(table, (corpus.dataset.root / table).read_bytes()[::-1])
    with pytest.raises(DataError, match=rf"{there}/{table} is damaged: its SHA-256"):
        source.key()


def test_a_store_of_latents_is_written_to_s3_and_read_from_there(s3: str, point_latents: TensorStore) -> None:
    there = f"{s3}/latents/point"
    upload(point_latents.root, there)
    store = TensorStore(there)
    assert store.keys == point_latents.keys
    assert all(torch.equal(store[key], point_latents[key]) for key in store.keys)
    shard = next(name for name in Store(there).sizes() if name.startswith("shard"))
    Store(there).write(shard, b"short")
    with pytest.raises(DataError, match=f"{there}/{shard} is damaged"):
        TensorStore(there)


def test_what_changes_there_is_copied_anew(s3: str) -> None:
    there = Store(f"{s3}/changing")
    there.write("a.txt", b"one")
    first = mirrored(there.uri)
    there.write("a.txt", b"two")
    assert (mirrored(there.uri, anew=False) / "a.txt").read_text() == "one"
    assert (mirrored(there.uri) / "a.txt").read_text() == "two"
    assert (first / "a.txt").read_text() == "one"


def test_a_name_that_leads_out_of_the_folder_is_refused(s3: str) -> None:
    boto3.client("s3").put_object(Bucket="lab", Key="bad/../../escaped", Body=b"x")
    with pytest.raises(DataError, match="a name that leads elsewhere"):
        mirrored(f"{s3}/bad")
