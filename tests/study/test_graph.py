"""What a change of configuration makes anew, and what it leaves alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rslwm.compute import ComputeConfig
from rslwm.data.config import DataConfig
from rslwm.evals.base import METRICS, Metric
from rslwm.latents.base import EncoderConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.published.weights import MissingWeights
from rslwm.model.dit import DiTConfig
from rslwm.run.stage import closure
from rslwm.serialisation import ConfigError
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Study
from rslwm.study.stages.decoder import DecoderStage
from rslwm.study.stages.encoder import EncoderStage
from rslwm.study.stages.latents import AdapterStage, LatentsStage
from rslwm.study.subjects import Variant
from tiny_checkpoints import vjepa

CONFIG = StudyConfig(
    latents=("small-vae",),
    data=DataConfig(image_size=32),
    encoder=EncoderConfig(width=16, depth=1, heads=2, channels=4),
)
METRIC = {f"metric {name}" for name in METRICS if METRICS.get(name).core}
ROLLED = {"visual", "rollout_error", "inverse_dynamics", "gripper_readout", "object_readout", "success"}
PROBES = {"probe inverse-1", "probe inverse-4", "probe state", "probe success"}
MEASURED = {"rollouts", *METRIC, *PROBES}
Change = Callable[[StudyConfig], StudyConfig]


def variants(*latents: str, config: StudyConfig = CONFIG) -> tuple[Variant, ...]:
    return Study(replace(config, latents=latents or config.latents)).variants


def keys(variant: Variant) -> dict[str, str]:
    """Of all stages, by kind; of metrics, probes and recordings, of which a space has several, by their names, too."""
    stages = closure(variant.targets)
    several = ("metric", "probe", "recording")
    return {f"{s.kind} {s.label.split()[-1]}" if s.kind in several else s.kind: s.key for s in stages}


def changed(change: Change, *latents: str) -> set[str]:
    """Names of the stages whose keys a change moves."""
    before, after = keys(variants(*latents)[0]), keys(variants(*latents, config=change(CONFIG))[0])
    return {name for name, key in before.items() if after[name] != key}


def test_a_twin_of_the_same_seed_shares_everything_but_its_rows() -> None:
    first, twin = variants("small-vae", "twin=small-vae")
    assert {name for name, key in keys(first).items() if keys(twin)[name] != key} == {"rollouts", *METRIC}
    assert twin.row.latent == "twin"


def test_another_seed_shares_nothing_but_the_data() -> None:
    first, twin = variants("small-vae", "twin=small-vae@1")
    shared = set(keys(first).items()) & set(keys(twin).items())
    assert {name for name, _ in shared} == {"data", "frames"}


def test_a_piece_of_a_study_has_the_very_stages_of_the_whole() -> None:
    whole = variants("small-vae", config=replace(CONFIG, seeds=2))
    piece = variants("small-vae", config=replace(CONFIG, first_seed=1))
    assert [variant.seed for variant in piece] == [1]
    assert keys(piece[0]) == keys(whole[1])


def test_seeds_of_a_study_count_from_the_entrys_own() -> None:
    found = variants("small-vae@5", "small-cosmos", config=replace(CONFIG, seeds=2))
    assert [(variant.entry.name, variant.seed) for variant in found] == [
        ("small-vae", 5),
        ("small-vae", 6),
        ("small-cosmos", 0),
        ("small-cosmos", 1),
    ]


def test_a_native_space_and_its_adapted_one_share_the_encoder() -> None:
    native, adapted = variants("small-dino", "small-dino+4")
    assert native.pull(EncoderStage) == adapted.pull(EncoderStage)
    assert native.pull(LatentsStage) != adapted.pull(LatentsStage)
    assert "adapter" not in keys(native)
    assert "adapter" in keys(adapted)


def test_the_teacher_is_the_studys_own_of_the_same_seed() -> None:
    dino, aligned = variants("small-dino", "small-vavae")
    assert dino.pull(EncoderStage) in closure([aligned.pull(EncoderStage)])
    other = variants("small-dino", "small-vavae@1")[1]
    assert dino.pull(EncoderStage) not in closure([other.pull(EncoderStage)])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda c: replace(c, world_model=replace(c.world_model, optim=replace(c.world_model.optim, steps=7))),
            {"world-model", "rollouts", *METRIC},
        ),
        (
            lambda c: replace(c, world_model=replace(c.world_model, dit=DiTConfig(depth=9))),
            {"world-model", "rollouts", *METRIC},
        ),
        (
            lambda c: replace(c, evaluation=replace(c.evaluation, rollouts=replace(c.evaluation.rollouts, clips=7))),
            {"rollouts", *(f"metric {name}" for name in ROLLED)},
        ),
        (
            lambda c: replace(c, evaluation=replace(c.evaluation, one_step=replace(c.evaluation.one_step, windows=7))),
            {"metric one_step"},
        ),
        (
            lambda c: replace(c, evaluation=replace(c.evaluation, probe=replace(c.evaluation.probe, width=8))),
            {*PROBES, *(f"metric {name}" for name in ROLLED - {"visual", "rollout_error"})},
        ),
        (lambda c: replace(c, evaluation=replace(c.evaluation, seed=5)), {"rollouts", *METRIC}),
        (
            lambda c: replace(c, decoder=replace(c.decoder, noise=0.5)),
            {"decoder", "world-model", "rollouts", *METRIC},
        ),
        (lambda c: replace(c, data=replace(c.data, frame_skip=3)), {"world-model", *MEASURED}),
        (lambda c: replace(c, verdict=replace(c.verdict, resamples=9), note="other"), set()),
        (lambda c: replace(c, adapter=replace(c.adapter, kl_weight=0.5)), set()),
    ],
)
def test_a_change_moves_what_depends_on_it_and_nothing_else(change: Change, expected: set[str]) -> None:
    assert changed(change) == expected


def test_the_adapters_settings_move_adapted_spaces_but_no_encoder() -> None:
    moved = changed(lambda c: replace(c, adapter=replace(c.adapter, kl_weight=0.5)), "small-dino+4")
    assert moved == {"adapter", "space", "latents", "decoder", "world-model", *MEASURED}


def test_the_encoders_settings_move_all_but_the_data() -> None:
    moved = changed(lambda c: replace(c, encoder=replace(c.encoder, depth=2)))
    assert moved == {"encoder", "space", "latents", "decoder", "world-model", *MEASURED}


def test_another_recording_moves_everything() -> None:
    change: Change = lambda c: replace(c, data=replace(c.data, sim=replace(c.data.sim, seed=9)))  # noqa: E731
    assert changed(change) == set(keys(variants()[0]))


def test_a_new_metric_is_measured_and_nothing_else_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(variants()[0])
    monkeypatch.setitem(METRICS._entries, "mine", type("Mine", (Metric,), {"infos": ()}))
    after = keys(variants()[0])
    assert set(after) - set(before) == {"metric mine"}
    assert {name: after[name] for name in before} == before


def test_an_edited_plugin_is_trained_anew(tmp_path: Path, plugin: Path) -> None:
    file = tmp_path / "edited.py"
    file.write_text(plugin.read_text())
    before = keys(variants(f"{file}:PatchMean")[0])
    file.write_text(plugin.read_text() + "# edited\n")
    after = keys(variants(f"{file}:PatchMean")[0])
    assert {name for name in before if before[name] == after[name]} == {"data", "frames"}


def test_what_results_are_put_together_from_is_made_again_where_it_was_deleted() -> None:
    (first, second) = variants("small-dino+4", "small-vavae")
    targets = {*first.targets, *second.targets}
    only_passed_on = {"frames", "features", "latents", "probe", "recording"}
    assert {s for s in closure(targets) if s not in targets and s.kind not in only_passed_on} == {
        second.teacher.pull(EncoderStage)
    } - targets


def test_a_uri_without_a_scheme_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.uri: 'bridge' has no scheme"):
        variants(config=replace(CONFIG, data=replace(CONFIG.data, uri="bridge")))


def test_rows_say_whose_they_are() -> None:
    row = variants("small-dino+4@2")[0].row
    assert (row.latent, row.family, row.size, row.seed) == ("small-dino+4", "semantic", "96x3", 2)


def test_a_decoder_of_the_encoders_own_is_taken_and_no_setting_of_ours_moves_it() -> None:
    def decoder(name: str, config: DecoderConfig) -> DecoderStage:
        return variants(name, config=replace(CONFIG, decoder=config))[0].pull(DecoderStage)

    taken = decoder("sd3-vae", DecoderConfig(own=True))
    assert taken.latents is None
    assert taken.twin is None
    assert decoder("sd3-vae", DecoderConfig(own=True, width=64)) == taken
    assert decoder("small-vae", DecoderConfig(own=True)).latents
    assert decoder("sd3-vae", DecoderConfig()).latents


def test_a_native_semantic_space_decodes_through_its_compressed_twin() -> None:
    config = replace(CONFIG, decoder=DecoderConfig(through=4))
    twin, native, reconstruction = variants("small-dino+4", "small-dino", "small-vae", config=config)
    assert native.pull(DecoderStage).twin == twin.pull(DecoderStage)
    assert native.pull(DecoderStage).latents is None
    assert twin.pull(AdapterStage) in native.costly
    assert reconstruction.pull(DecoderStage).latents
    alone = closure([variants("small-dino", config=config)[0].pull(DecoderStage)])
    assert {twin.pull(AdapterStage), twin.pull(DecoderStage)} <= set(alone)


@pytest.fixture
def published(tmp_path: Path) -> StudyConfig:
    vjepa.write(tmp_path)
    encoder = replace(CONFIG.encoder, weights=str(tmp_path), input_size=64)
    return replace(CONFIG, latents=("vjepa2.1+8",), encoder=encoder)


def test_seeds_share_what_a_published_encoder_encodes(published: StudyConfig) -> None:
    one, two = variants(config=replace(published, seeds=2))
    assert one.pull(EncoderStage) == two.pull(EncoderStage)
    assert one.pull(AdapterStage).features == two.pull(AdapterStage).features
    assert one.pull(AdapterStage) != two.pull(AdapterStage)


def test_other_published_weights_are_encoded_anew(published: StudyConfig) -> None:
    before = keys(variants(config=published)[0])
    small = replace(published.encoder, width=999, depth=9, optim=replace(published.encoder.optim, steps=9))
    assert keys(variants(config=replace(published, encoder=small))[0]) == before
    (file,) = Path(published.encoder.weights).glob("*/*.pt")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    after = keys(variants(config=published)[0])
    assert {name for name in before if before[name] == after[name]} == {"data", "frames"}


def test_a_graph_needs_no_weights_but_a_run_does() -> None:
    study = Study(replace(CONFIG, latents=("web-dino",), encoder=EncoderConfig(weights="/nowhere", input_size=64)))
    assert study.variants[0].row.family == "semantic"
    with pytest.raises(MissingWeights, match=r"web-dino: .*not on this machine"):
        study.check(lambda stage: False)
    study.check(lambda stage: stage.kind == "encoder")


def test_a_study_without_data_is_refused_before_it_runs() -> None:
    study = Study(replace(CONFIG, data=replace(CONFIG.data, uri="")))
    with pytest.raises(ConfigError, match=r"data\.uri is empty: this study brings no data; .*hdf5:FILE"):
        study.check(lambda stage: False)


def test_a_perceptual_loss_without_its_network_is_refused_before_it_runs(tmp_path: Path) -> None:
    decoder = DecoderConfig(perceptual="lpips-vgg", perceptual_folder=str(tmp_path))
    study = Study(replace(CONFIG, decoder=decoder))
    with pytest.raises(MissingWeights, match=r"decoder\.perceptual lpips-vgg: .*vgg16-397923af\.pth does not exist"):
        study.check(lambda stage: stage.kind == "encoder")
    study.check(lambda stage: stage.kind in ("encoder", "decoder"))


def test_two_metrics_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS._entries, "mine", type("Mine", (Metric,), {"infos": METRICS.get("visual").infos}))
    with pytest.raises(ConfigError, match="declares 'psnr' as another one does"):
        _ = Study(CONFIG).infos


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"world_size": 2}, r"compute.world_size is 2, but a step of the world model has 3 batch\(es\)"),
        ({"world_size": 3, "device": "cuda:1", "dtype": "bfloat16"}, r"compute.device is 'cuda:1' for 3 processes"),
        ({"world_size": 3, "shard": True, "compile": True}, r"compute.shard and compute.compile don't go together"),
    ],
)
def test_processes_that_could_not_share_a_training_are_refused(changes: dict[str, Any], message: str) -> None:
    config = replace(CONFIG, compute=replace(ComputeConfig(device="cpu"), **changes))
    model = replace(config.world_model, optim=replace(config.world_model.optim, accumulate=3))
    study = Study(replace(config, world_model=model))
    with pytest.raises(ConfigError, match=message):
        study.check(lambda stage: True)


def test_a_training_has_processes_of_equally_many_batches_of_a_step() -> None:
    config = replace(CONFIG, compute=ComputeConfig(device="cpu", world_size=4))
    model = replace(config.world_model, optim=replace(config.world_model.optim, accumulate=8))
    decoder = replace(config.decoder, optim=replace(config.decoder.optim, accumulate=6))
    (variant,) = Study(replace(config, world_model=model, decoder=decoder)).variants
    processes = {stage.kind: stage.processes for stage in closure(variant.targets)}
    assert {kind: count for kind, count in processes.items() if count > 1} == {"world-model": 4, "decoder": 2}
