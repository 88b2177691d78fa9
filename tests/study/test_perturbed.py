"""A study that measures its held-out episodes perturbed, too."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from here import HERE
from rslwm.cli.report import Report
from rslwm.data.corpus import Corpus
from rslwm.evals.rows import DTYPES, TEST, Rows
from rslwm.run.stage import closure
from rslwm.serialisation import ConfigError
from rslwm.study.compare import compare
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Study
from studies import made, tiny

METRICS = ("visual", "action_identification", "gripper_readout", "one_step")
NOTHING = "camera[shift=0,zoom=0]"
FOG = """
from dataclasses import dataclass

import numpy as np

from rslwm.evals.perturbations import Perturbation


@dataclass(frozen=True)
class Fog(Perturbation):
    thick: float = 0.9

    def picture(self, frames, draw):
        return (frames * (1 - self.thick) + 255 * self.thick).astype(np.uint8)
"""
Finished = tuple[StudyConfig, Path, dict[str, int], Rows, dict]


@pytest.fixture(scope="module")
def finished(corpus: Corpus, plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A study without any: its configuration and folder, and what was made, measured and decided."""
    config, out = replace(tiny(corpus, f"own={plugin}:PatchMean"), metrics=METRICS), tmp_path_factory.mktemp("usual")
    compare(config, out, executor=HERE)
    return config, out, made(out), Rows.load(out / "rows.parquet"), json.loads((out / "verdict.json").read_text())


@pytest.fixture(scope="module")
def perturbed(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The same with them, in a copy of its folder."""
    config, usual, *_ = finished
    folder = tmp_path_factory.mktemp("perturbed")
    fog, out = folder / "fog.py", shutil.copytree(usual, folder / "out")
    fog.write_text(FOG)
    config = replace(config, robustness=("light", NOTHING, f"{fog}:Fog[thick=0.8]"))
    compare(config, out, executor=HERE)
    return config, out, made(out), Rows.load(out / "rows.parquet"), json.loads((out / "verdict.json").read_text())


def columns(rows: Rows) -> dict[str, bytes | list]:
    return {name: rows[name].tobytes() if name in ("value", "target") else rows[name].tolist() for name in DTYPES}


def test_what_is_measured_on_episodes_as_they_are_stays_as_it_is(finished: Finished, perturbed: Finished) -> None:
    rows, verdict = perturbed[3:]
    assert columns(rows.where(rows["split"] == TEST)) == columns(finished[3])
    assert verdict["robustness"]
    assert {name: part for name, part in verdict.items() if name != "robustness"} == finished[4]
    assert "robustness" not in finished[4]


def test_nothing_is_trained_or_measured_again(finished: Finished, perturbed: Finished) -> None:
    before, after = finished[2], perturbed[2]
    assert {name: after[name] for name in before} == before
    kinds = {name.rsplit("-", 1)[0] for name in set(after) - set(before)}
    assert kinds == {"perturbed", "frames", "latents", "rollouts", "metric"}


def test_rows_say_under_which_perturbation_and_are_on_the_same_windows(perturbed: Finished) -> None:
    rows = perturbed[3]
    assert set(rows["split"]) == {TEST, "light", NOTHING, "fog.py:Fog[thick=0.8]"}

    def places(split: str) -> list:
        found = rows.where((rows["split"] == split) & (rows["metric"] != "one_step_error"))
        return sorted(zip(*(found[name].tolist() for name in ("metric", "role", "unit", "window", "k")), strict=True))

    assert places("light") == places(NOTHING) == places(TEST)
    assert set(rows["metric"][rows["split"] == "light"]) == set(rows["metric"]) - {"one_step_error"}


def test_no_perturbation_is_no_drop_at_all(perturbed: Finished) -> None:
    drops = [drop for drop in perturbed[4]["robustness"] if drop["perturbation"] == NOTHING]
    assert {drop["metric"] for drop in drops} >= {"psnr", "ssim", "gripper_error", "action_identification"}
    assert {drop["value"][end] for drop in drops for end in ("value", "low", "high")} == {0.0}


def test_one_of_ones_own_is_one_file_and_moves_what_it_changes(perturbed: Finished) -> None:
    found = {d["metric"]: d for d in perturbed[4]["robustness"] if d["perturbation"] == "fog.py:Fog[thick=0.8]"}
    assert found["gripper_error"]["value"]["value"] != 0
    assert found["psnr"]["floor"]["value"] < -1  # the decoder never saw fog, so standing still looks worse, too


def test_editing_it_makes_its_own_episodes_anew_and_nothing_else(perturbed: Finished) -> None:
    config, out, *_ = perturbed
    file = out.parent / "fog.py"
    before = set(closure(Study(config).targets))
    file.write_text(FOG + "# edited\n")
    after = set(closure(Study(config).targets))
    file.write_text(FOG)
    assert {stage.kind for stage in after - before} == {"perturbed", "frames", "latents", "rollouts", "metric"}
    assert all("Fog" in stage.label for stage in after - before)


def test_the_report_shows_them(perturbed: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    Report(perturbed[1]).run()
    page = (perturbed[1] / "report/index.html").read_text()
    assert "Out of distribution" in page
    assert all(name in page for name in ("light", "fog.py:Fog[thick=0.8]"))
    assert "out of distribution" in capsys.readouterr().out


def test_a_report_without_any_does_not_speak_of_them(finished: Finished) -> None:
    Report(finished[1]).run()
    assert "Out of distribution" not in (finished[1] / "report/index.html").read_text()


def keys(config: StudyConfig) -> set[str]:
    return {stage.key for stage in closure(Study(config).targets)}


Change = Callable[[StudyConfig], StudyConfig]


@pytest.mark.parametrize(
    "change",
    [
        lambda config: replace(config, robustness=("light",)),
        lambda config: replace(config, robustness_metrics=("all",)),
    ],
)
def test_asking_for_more_moves_no_key(finished: Finished, change: Change) -> None:
    assert keys(change(finished[0])) >= keys(finished[0])


def test_strengths_are_different_episodes_of_one_study(finished: Finished) -> None:
    study = Study(replace(finished[0], robustness=("light", "light[strength=0.5]")))
    one, two = study.variants[0].perturbed
    assert not {s.key for s in one.metrics.values()} & {s.key for s in two.metrics.values()}


def test_an_adapted_space_encodes_through_the_encoder_and_adapter_that_it_has(finished: Finished) -> None:
    (variant,) = Study(replace(finished[0], latents=("small-dino+4",), robustness=("light",))).variants
    trained = {s for s in closure(variant.targets) if s.kind in ("encoder", "adapter", "space", "world-model", "probe")}
    assert {s for s in closure([*variant.metrics.values()]) if s in trained} == trained
    (features,) = (s for s in closure(variant.out_there) if s.kind == "features" and "light" in str(s.needs["frames"]))
    assert features.needs["encoder"] in trained


def test_what_the_data_can_not_show_is_refused_before_anything_runs(finished: Finished) -> None:
    with pytest.raises(ConfigError, match="distractors: the data are a recording"):
        Study(replace(finished[0], robustness=("distractors",)))


def test_nobody_is_asked_what_else_would_have_happened_there(finished: Finished) -> None:
    """It would answer for the world as it was."""
    (subject,) = Study(replace(finished[0], robustness=("light",))).variants[0].perturbed
    assert {stage.data.world for stage in subject.metrics.values()} == {None}
