"""The point world as a corpus, built once a session."""

import os
import tempfile
from pathlib import Path

import rslwm  # isort: skip  # noqa: F401  # before NumPy, whose BLAS it makes the same everywhere

import pytest
import torch

from here import HERE
from point_world import write_corpus, write_latents
from rslwm.compute import ComputeConfig
from rslwm.data.corpus import Corpus
from rslwm.data.store import TensorStore
from rslwm.run.executors.base import EXECUTORS

os.environ["RSLWM_CACHE"] = tempfile.mkdtemp(prefix="rslwm-cache-")  # nobody's own, and that of all workers of this one
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    # A core each: a study that a test starts then has one worker process instead of one a core, which would have to
    # share it with those of the other tests, and take seconds to import everything.
    _cores, _worker = sorted(os.sched_getaffinity(0)), int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    os.sched_setaffinity(0, {_cores[_worker % len(_cores)]})
torch.set_num_threads(1)  # tensors this small are slower on two threads, much slower on a busy machine


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """12 episodes of 14 to 18 steps with 32 px frames, four of them held out, both outcomes on both sides."""
    corpus = write_corpus(tmp_path_factory.mktemp("point"), [bool(i % 2) for i in range(12)])
    for side in (corpus.train, corpus.test):
        assert {corpus.dataset.success[e] for e in side} == {True, False}
    return corpus


@pytest.fixture(scope="session")
def point_latents(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> TensorStore:
    return write_latents(corpus, tmp_path_factory.mktemp("latents") / "store")


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs don't start worker processes, which take seconds to import everything."""
    monkeypatch.setitem(EXECUTORS._entries, "local", EXECUTORS.get(HERE))


@pytest.fixture
def compute() -> ComputeConfig:
    return ComputeConfig(device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with an encoder of its own: mean colour of 8 px patches, nothing to train."""
    path = tmp_path_factory.mktemp("plugin") / "patch_mean.py"
    path.write_text(
        "from einops import reduce\n"
        "from rslwm.latents.base import Encoder\n"
        "from rslwm.types import LatentSpec\n\n\n"
        "class PatchMean(Encoder):\n"
        "    def __init__(self, config, image_size):\n"
        "        super().__init__(config, image_size)\n"
        "        self.spec = LatentSpec('patch-mean', 'floor', (image_size // 8,) * 2, 3)\n\n"
        "    def encode(self, frames):\n"
        "        return reduce(frames, 'B T (h p) (w q) C -> B T h w C', 'mean', p=8, q=8)\n\n\n"
        "class WrongGrid(PatchMean):\n"
        "    def __init__(self, config, image_size):\n"
        "        super().__init__(config, image_size)\n"
        "        self.spec = LatentSpec('wrong', 'floor', (5, 5), 3)\n\n\n"
        "def not_an_encoder():\n"
        "    pass\n"
    )
    return path
