"""What a change of configuration makes anew, and what it leaves alone."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest

from rslwm.data.config import DataConfig
from rslwm.evals.base import METRICS, Metric
from rslwm.latents.base import EncoderConfig
from rslwm.latents.decoder import DecoderConfig
from rslwm.latents.published.weights import MissingWeights
from rslwm.model.dit import DiTConfig
from rslwm.run.stage import Stage, closure
from rslwm.serialisation import ConfigError
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Builder, SpaceStages, Study
from rslwm.study.stages import make_decoder, share_decoder, take_own_decoder
from tiny_checkpoints import vjepa

CONFIG = StudyConfig(
    latents=("small-vae",),
    data=DataConfig(image_size=32),
    encoder=EncoderConfig(width=16, depth=1, heads=2, channels=4),
)
Change = Callable[[StudyConfig], StudyConfig]


def build(*latents: str, config: StudyConfig = CONFIG) -> Study:
    return Builder(replace(config, latents=latents or config.latents)).build()


def keys(space: SpaceStages) -> dict[str, str]:
    stages = {f.name: getattr(space, f.name) for f in fields(space)}
    return {name: stage.key for name, stage in stages.items() if isinstance(stage, Stage)}


def changed(change: Change, *latents: str) -> set[str]:
    """Names of the stages whose keys a change moves."""
    before, after = build(*latents), build(*latents, config=change(CONFIG))
    moved = {name for name, key in keys(before.spaces[0]).items() if keys(after.spaces[0])[name] != key}
    shared = {name for name in ("data", "frames") if getattr(before, name).key != getattr(after, name).key}
    return moved | shared


def test_a_twin_of_the_same_seed_shares_everything_but_its_rows() -> None:
    first, twin = build("small-vae", "twin=small-vae").spaces
    assert {name for name, key in keys(first).items() if keys(twin)[name] != key} == {"rows"}
    assert twin.rows.config.label.latent == "twin"


def test_another_seed_shares_nothing_but_the_data() -> None:
    study = build("small-vae", "twin=small-vae@1")
    first, twin = study.spaces
    assert not set(keys(first).values()) & set(keys(twin).values())
    assert study.data in closure([twin.rows])


def test_seeds_of_a_study_count_from_the_entrys_own() -> None:
    study = build("small-vae@5", "small-cosmos", config=replace(CONFIG, seeds=2))
    assert [(space.entry.name, space.seed) for space in study.spaces] == [
        ("small-vae", 5),
        ("small-vae", 6),
        ("small-cosmos", 0),
        ("small-cosmos", 1),
    ]


def test_a_native_space_and_its_adapted_one_share_the_encoder() -> None:
    native, adapted = build("small-dino", "small-dino+4").spaces
    assert native.encoder == adapted.encoder
    assert native.latents != adapted.latents
    assert native.adapter is None
    assert adapted.adapter is not None


def test_the_teacher_is_the_studys_own_of_the_same_seed() -> None:
    dino, aligned = build("small-dino", "small-vavae").spaces
    assert dino.encoder in closure([aligned.encoder])
    other = build("small-dino", "small-vavae@1").spaces[1]
    assert dino.encoder not in closure([other.encoder])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda c: replace(c, world_model=replace(c.world_model, optim=replace(c.world_model.optim, steps=7))),
            {"world_model", "rows"},
        ),
        (lambda c: replace(c, world_model=replace(c.world_model, dit=DiTConfig(depth=9))), {"world_model", "rows"}),
        (lambda c: replace(c, evaluation=replace(c.evaluation, clips=7)), {"rows"}),
        (
            lambda c: replace(c, evaluation=replace(c.evaluation, probe=replace(c.evaluation.probe, width=8))),
            {"probes", "rows"},
        ),
        (lambda c: replace(c, decoder=replace(c.decoder, noise=0.5)), {"decoder", "world_model", "rows"}),
        (lambda c: replace(c, data=replace(c.data, frame_skip=3)), {"probes", "world_model", "rows"}),
        (lambda c: replace(c, verdict=replace(c.verdict, resamples=9), note="other"), set()),
        (lambda c: replace(c, adapter=replace(c.adapter, kl_weight=0.5)), set()),
    ],
)
def test_a_change_moves_what_depends_on_it_and_nothing_else(change: Change, expected: set[str]) -> None:
    assert changed(change) == expected


def test_the_adapters_settings_move_adapted_spaces_but_no_encoder() -> None:
    moved = changed(lambda c: replace(c, adapter=replace(c.adapter, kl_weight=0.5)), "small-dino+4")
    assert moved == {"adapter", "latents", "decoder", "probes", "world_model", "rows"}


def test_the_encoders_settings_move_all_but_the_data() -> None:
    moved = changed(lambda c: replace(c, encoder=replace(c.encoder, depth=2)))
    assert moved == {"encoder", "latents", "decoder", "probes", "world_model", "rows"}


def test_another_recording_moves_everything() -> None:
    moved = changed(lambda c: replace(c, data=replace(c.data, sim=replace(c.data.sim, seed=9))))
    assert {"data", "frames", "encoder", "rows"} <= moved


def test_a_new_metric_is_measured_and_nothing_is_trained_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(build().spaces[0])
    monkeypatch.setitem(METRICS._entries, "mine", type("Mine", (Metric,), {"infos": ()}))
    after = keys(build().spaces[0])
    assert {name for name, key in before.items() if after[name] != key} == {"rows"}


def test_an_edited_plugin_is_trained_anew(tmp_path: Path, plugin: Path) -> None:
    file = tmp_path / "edited.py"
    file.write_text(plugin.read_text())
    before = build(f"{file}:PatchMean").spaces[0]
    file.write_text(plugin.read_text() + "# edited\n")
    after = build(f"{file}:PatchMean").spaces[0]
    assert not set(keys(before).values()) & set(keys(after).values())


def test_what_results_are_put_together_from_is_made_again_where_it_was_deleted() -> None:
    study = build("small-dino+4", "small-vavae")
    only_passed_on = {stage for stage in closure(study.targets) if stage.kind in ("frames", "features")}
    assert set(study.targets) == set(closure(study.targets)) - only_passed_on


def test_a_uri_without_a_scheme_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.uri: 'bridge' has no scheme"):
        build(config=replace(CONFIG, data=replace(CONFIG.data, uri="bridge")))


def test_rows_say_whose_they_are() -> None:
    label = build("small-dino+4@2").spaces[0].rows.config.label
    assert (label.latent, label.family, label.size, label.seed) == ("small-dino+4", "semantic", "96x3", 2)


def test_a_decoder_of_the_encoders_own_is_taken_and_no_setting_of_ours_moves_it() -> None:
    own = replace(CONFIG, decoder=DecoderConfig(own=True))
    taken = build("sd3-vae", config=own).spaces[0].decoder
    assert taken.run is take_own_decoder
    assert build("sd3-vae", config=replace(own, decoder=DecoderConfig(own=True, width=64))).spaces[0].decoder == taken
    assert build("small-vae", config=own).spaces[0].decoder.run is make_decoder
    assert build("sd3-vae").spaces[0].decoder.run is make_decoder


def test_a_native_semantic_space_decodes_through_its_compressed_twin() -> None:
    config = replace(CONFIG, decoder=DecoderConfig(through=4))
    twin, native, reconstruction = build("small-dino+4", "small-dino", "small-vae", config=config).spaces
    assert native.decoder.run is share_decoder
    assert native.decoder.inputs == (native.latents, twin.decoder)
    assert native.adapter == twin.adapter
    assert reconstruction.decoder.run is make_decoder
    assert set(closure([build("small-dino", config=config).spaces[0].decoder])) >= {twin.adapter, twin.decoder}


@pytest.fixture
def published(tmp_path: Path) -> StudyConfig:
    vjepa.write(tmp_path)
    encoder = replace(CONFIG.encoder, weights=str(tmp_path), input_size=64)
    return replace(CONFIG, latents=("vjepa2.1+8",), encoder=encoder)


def test_seeds_share_what_a_published_encoder_encodes(published: StudyConfig) -> None:
    one, two = build(config=replace(published, seeds=2)).spaces
    assert one.encoder == two.encoder
    assert one.adapter is not None
    assert two.adapter is not None
    assert one.adapter.inputs == two.adapter.inputs  # the features
    assert one.adapter != two.adapter


def test_other_published_weights_are_encoded_anew(published: StudyConfig) -> None:
    before = keys(build(config=published).spaces[0])
    small = replace(published.encoder, width=999, depth=9, optim=replace(published.encoder.optim, steps=9))
    assert keys(build(config=replace(published, encoder=small)).spaces[0]) == before
    (file,) = Path(published.encoder.weights).glob("*/*.pt")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert not set(before.values()) & set(keys(build(config=published).spaces[0]).values())


def test_a_graph_needs_no_weights_but_a_run_does() -> None:
    study = build("web-dino", config=replace(CONFIG, encoder=EncoderConfig(weights="/nowhere", input_size=64)))
    assert study.spaces[0].rows.config.label.family == "semantic"
    with pytest.raises(MissingWeights, match=r"web-dino: .*not on this machine"):
        study.check(lambda stage: False)
    study.check(lambda stage: stage.kind == "encoder")


def test_a_study_without_data_is_refused_before_it_runs() -> None:
    study = build(config=replace(CONFIG, data=replace(CONFIG.data, uri="")))
    with pytest.raises(ConfigError, match=r"data\.uri is empty: this study brings no data; .*hdf5:FILE"):
        study.check(lambda stage: False)


def test_a_perceptual_loss_without_its_network_is_refused_before_it_runs(tmp_path: Path) -> None:
    decoder = DecoderConfig(perceptual="lpips-vgg", perceptual_folder=str(tmp_path))
    study = build(config=replace(CONFIG, decoder=decoder))
    with pytest.raises(MissingWeights, match="LPIPS compares activations"):
        study.check(lambda stage: stage.kind == "encoder")
    study.check(lambda stage: stage.kind in ("encoder", "decoder"))
