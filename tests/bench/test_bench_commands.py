import pytest

from rslwm.bench.config import ModelBenchConfig
from rslwm.bench.result import load
from rslwm.cli.main import FAILED, main
from rslwm.compute import generator
from rslwm.data.seen import SeenEpisodes
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.space import LatentSpace, SpaceConfig
from rslwm.model.dit import DiTConfig
from rslwm.model.world_model import WorldModel, WorldModelConfig

TINY = ["--size", "demo", "--grid", "2", "--channels", "3", "--threads", "1", "--device", "cpu"]


def test_rollout_compares_every_length_and_the_few_steps(tmp_path, capsys):
    asked = ["--frames", "1,3", "--dtype", "float32", "--rounds", "2", "--steps", "3", "--few-steps", "2"]
    assert main(["bench", "rollout", *TINY, *asked, "--out", str(tmp_path)]) == 0
    comparisons = load(tmp_path / "rollout.json")
    titles = ["1 frames, float32", "1 frames, float32, 2 steps", "3 frames, float32", "3 frames, float32, 2 steps"]
    assert [c.title for c in comparisons] == titles
    assert all(len(c.ours.seconds) == len(c.baseline.seconds) == 2 for c in comparisons)
    assert comparisons[2].bound == pytest.approx(3 * (3 + 4 + 4) / (2 + 3 * 3 + 2))
    assert comparisons[2].quality is not None
    assert comparisons[2].quality["largest relative difference over 2 frames"] < 1e-5
    assert "--checkpoint" in capsys.readouterr().out


@pytest.mark.slow
def test_plan_reports_time_memory_and_agreement(tmp_path, capsys):
    asked = ["--candidates", "40", "--elites", "4", "--iterations", "2", "--horizon", "2", "--steps", "2"]
    assert main(["bench", "plan", *TINY, *asked, "--dtype", "float32", "--out", str(tmp_path)]) == 0
    (comparison,) = load(tmp_path / "plan.json")
    assert comparison.bound == pytest.approx(2 * (3 + 4) / (2 * 2 + 1), rel=0.01)
    assert comparison.quality is not None
    assert comparison.quality["largest difference of the plans"] < 1e-5
    assert comparison.ours.peak_bytes is not None
    assert "context for every candidate" in capsys.readouterr().out


def test_both_precisions_are_asked_for_by_one_word():
    assert [c.dtype for c in ModelBenchConfig(dtype="both").precisions("cpu")] == ["float32", "bfloat16"]
    assert [c.dtype for c in ModelBenchConfig().precisions("cpu")] == ["auto"]


def test_a_context_that_fills_the_window_is_named(capsys):
    assert main(["bench", "rollout", *TINY, "--context", "4"]) == FAILED
    assert "context is 4; size demo takes 1 to 3 frames" in capsys.readouterr().err


@pytest.mark.slow
def test_a_checkpoint_says_what_few_steps_cost(corpus, plugin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    decoder = DecoderConfig(width=16)
    space = LatentSpace(SpaceConfig(f"{plugin}:PatchMean", corpus.image_size, decode=True, decoder=decoder))
    config = WorldModelConfig(dit=DiTConfig(width=24, depth=1, heads=1, patch=1))
    drawn = generator(0, "weights")
    model = WorldModel(space, corpus.action_spec, config, drawn, corpus.dataset.fingerprint, corpus.config)
    model.seen = SeenEpisodes.of(corpus)
    model.save(tmp_path / "trained")
    asked = ["--frames", "2", "--dtype", "float32", "--rounds", "1", "--steps", "3", "--few-steps", "1", "--clips", "2"]
    assert main(["bench", "rollout", *TINY, *asked, "--checkpoint", "trained", "--out", "out"]) == 0
    full, few = load(tmp_path / "out/rollout.json")
    assert few.quality is not None
    error = few.quality["latent error of trained"]
    assert error["clips"] == 2
    assert error["difference"] == pytest.approx(error["1 steps"] - error["3 steps"], abs=1e-6)
    assert "latent error of trained" not in (full.quality or {})
