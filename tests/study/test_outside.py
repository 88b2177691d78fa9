"""A metric, a planner, a data source, a stage and an executor, each one file of the user's own and no edit."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from safetensors.torch import load_file

from here import HERE
from rslwm.data.config import DataConfig
from rslwm.data.corpus import Corpus
from rslwm.evals.rows import Rows
from rslwm.run.runner import Runner
from rslwm.run.stage import closure
from rslwm.study.compare import compare
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Study
from rslwm.study.stages.base import DataStage
from studies import made, tiny

DECLARED = 'axis="fidelity", higher_is_better=True, unit="1", aggregate=MEAN, floor="", ceiling="", description=""'
FILES = {
    "metric": f"""
from dataclasses import dataclass

from rslwm.evals.aggregates import MEAN
from rslwm.evals.base import ROLLOUTS, Metric, MetricInfo


@dataclass(frozen=True)
class MovingConfig:
    scale: float = 1.0


class Moving(Metric):
    infos = (MetricInfo(name="moving", {DECLARED}),)
    Config = MovingConfig

    @property
    def needs(self):
        return {{"rollouts": ROLLOUTS}}

    def measure(self, evaluation, rollouts):
        step = (rollouts.generated[:, 0] - rollouts.context[:, -1]).abs().mean((1, 2, 3))
        yield evaluation.rows(self.infos[0], rollouts.windows, self.config.scale * step)
""",
    "stage": f"""
from dataclasses import dataclass

import torch
from safetensors.torch import load_file, save_file

from rslwm.evals.aggregates import MEAN
from rslwm.evals.base import Metric, MetricInfo
from rslwm.study.stages.base import OnEpisodes, on_episodes
from rslwm.study.stages.latents import LatentsStage


@dataclass(frozen=True, eq=False, kw_only=True)
class Centre(OnEpisodes[torch.Tensor]):
    kind = "centre"

    latents: LatentsStage

    @classmethod
    def of(cls, subject):
        return cls(**on_episodes(subject), label=subject.label, latents=subject.pull(LatentsStage))

    def run(self, work):
        corpus, store = self.corpus(work), work.open(self.latents)
        frames = torch.cat([store[corpus.dataset.ids[episode]].float() for episode in corpus.train])
        save_file({{"centre": frames.mean(0)}}, work.out / "centre.safetensors")

    def open(self, work):
        return load_file(work.out / "centre.safetensors")["centre"]


class Spread(Metric):
    infos = (MetricInfo(name="spread", {DECLARED}),)

    @property
    def needs(self):
        return {{"centre": Centre}}

    def measure(self, evaluation, centre):
        windows = evaluation.windows(1, 5, "spread")
        latents = evaluation.clips(1).batch(windows).x[:, 0].float()
        yield evaluation.rows(self.infos[0], windows, (latents - centre).square().mean((1, 2, 3)))
""",
    "planner": """
import torch

from rslwm.plan.base import PlanResult


def still(evaluate, start, config, generator, searched=None):
    return PlanResult(start, evaluate(start[:, None]), torch.zeros_like(start))
""",
    "source": """
import numpy as np

from rslwm.data.lerobot import write_lerobot
from rslwm.data.sources.base import Source
from rslwm.types import ActionSpec, Episode

SPEC = ActionSpec(
    names=("x", "y", "z"), kinds=("translation",) * 3, units=("m",) * 3, low=(-1.0,) * 3, high=(1.0,) * 3
)


class Walk(Source):
    def write(self, folder, progress):
        return write_lerobot((self._walk(number) for number in range(int(self.place))), folder, SPEC)

    def _walk(self, number):
        rng = np.random.default_rng(number)
        actions = rng.uniform(-1, 1, (12, 3)).astype(np.float32)
        colours = np.cumsum(np.roll(actions, 1, 0), 0).clip(-3, 3)[:, None, None] * 40 + 127
        frames = colours + rng.uniform(-5, 5, (12, 32, 32, 1))
        return Episode(id=f"walk-{number}", frames={"front": frames.astype(np.uint8)}, actions=actions)
""",
    "executor": """
import os
import pickle
import subprocess
import sys

from rslwm.run.executors.base import Executor
from rslwm.run.perform import Job, perform


class Elsewhere(Executor):
    def __init__(self, jobs):
        super().__init__(jobs)
        self.stage = None
        self.process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def room(self, job):
        return self.stage is None

    def start(self, job):
        self.stage = job.stage
        pickle.dump(job.pack(), self.process.stdin)
        self.process.stdin.flush()

    def poll(self, seconds):
        stage, self.stage = self.stage, None
        return [(stage, pickle.load(self.process.stdout))]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


if __name__ == "__main__":
    answers, performed = os.fdopen(os.dup(1), "wb"), open(f"{__file__}.log", "a")
    while packed := sys.stdin.buffer.peek(1) and pickle.load(sys.stdin.buffer):
        job = Job.unpack(packed)
        print(job.folder.name, file=performed, flush=True)
        pickle.dump(perform(job), answers)
        answers.flush()
""",
}


class Outside(NamedTuple):
    files: dict[str, Path]
    config: StudyConfig
    out: Path


@pytest.fixture(scope="module")
def outside(plugin: Path, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Outside:
    """A finished study of them all."""
    folder, out = tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("run")
    files = {name: folder / f"my_{name}.py" for name in FILES}
    for name, text in FILES.items():
        files[name].write_text(text)
    planning = f"planning[plan.planner={files['planner']}:still]"
    config = replace(
        tiny(corpus, f"own={plugin}:PatchMean"),
        metrics=(f"{files['metric']}:Moving", f"{files['stage']}:Spread", planning),
        data=DataConfig(f"{files['source']}:Walk:9", image_size=32, test_fraction=0.4),
    )
    compare(config, out, executor=f"{files['executor']}:Elsewhere")
    return Outside(files, config, out)


def rows(outside: Outside, metric: str, role: str = "value") -> Rows:
    found = Rows.load(outside.out / "rows.parquet")
    return found.where((found["metric"] == metric) & (found["role"] == role))


def test_a_data_source_gives_the_episodes(outside: Outside) -> None:
    data = Study(outside.config).variants[0].pull(DataStage)
    assert Runner(outside.out).workspace.facts(data)["episodes"] == 9
    assert set(rows(outside, "moving")["unit"]) <= {f"walk-{number}" for number in range(9)}


def test_a_metric_is_measured_decided_and_reported_like_any_other(outside: Outside) -> None:
    assert (rows(outside, "moving")["value"] > 0).all()
    study, verdict = (json.loads((outside.out / name).read_text()) for name in ("study.json", "verdict.json"))
    assert {"moving", "spread", "cem_error"} <= {info["name"] for info in study["metrics"]}
    assert {"moving", "spread"} <= {entry["info"]["name"] for entry in verdict["metrics"]}
    assert study["failed"] == []


def test_a_stage_is_made_for_the_metric_that_needs_it(outside: Outside) -> None:
    (folder,) = outside.out.glob("stages/centre-*")
    assert load_file(folder / "centre.safetensors")["centre"].shape == (4, 4, 3)
    assert len(rows(outside, "spread")) == 5


def test_a_planner_plans(outside: Outside) -> None:
    """This one leaves the robot where it is."""
    planned, still = (rows(outside, name)["value"] for name in ("cem_error", "cem_error_still"))
    np.testing.assert_array_equal(planned, still)


def test_an_executor_has_run_every_stage_elsewhere(outside: Outside) -> None:
    log = outside.files["executor"].with_suffix(".py.log").read_text().split()
    assert sorted(log) == sorted(made(outside.out))


Change = Callable[[tuple[str, ...]], tuple[str, ...]]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda metrics: (*metrics, "one_step"), "one_step"),
        (lambda metrics: (f"{metrics[0]}[scale=2.0]", *metrics[1:]), "Moving"),
    ],
    ids=["one more metric", "another setting of one"],
)
def test_only_what_is_new_is_measured(outside: Outside, change: Change, name: str) -> None:
    before, old = made(outside.out), Rows.load(outside.out / "rows.parquet")
    compare(replace(outside.config, metrics=change(outside.config.metrics)), outside.out, executor=HERE)
    after, new = made(outside.out), Rows.load(outside.out / "rows.parquet")
    (added,) = set(after) - set(before)
    assert added.startswith("metric-")
    assert json.loads((outside.out / f"stages/{added}/stage.json").read_text())["label"].endswith(name)
    assert {folder: after[folder] for folder in before} == before
    for metric in ("spread", "cem_error"):
        assert new["value"][new["metric"] == metric].tolist() == old["value"][old["metric"] == metric].tolist()
    compare(outside.config, outside.out, executor=HERE)  # as it was
    assert made(outside.out) == after


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("metric", {"metric"}),
        ("stage", {"metric", "centre"}),
        ("planner", {"metric"}),
        ("executor", set()),
    ],
)
def test_an_edited_file_makes_anew_what_it_is_in(
    outside: Outside, name: str, kinds: set[str], request: pytest.FixtureRequest
) -> None:
    file = outside.files[name]
    before = set(closure(Study(outside.config).targets))
    request.addfinalizer(lambda: file.write_text(FILES[name]))  # type: ignore[arg-type,return-value]
    file.write_text(f"{FILES[name]}# edited\n")
    after = set(closure(Study(outside.config).targets))
    assert sorted(stage.kind for stage in after - before) == sorted(kinds)
