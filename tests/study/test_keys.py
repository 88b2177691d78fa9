"""What a stage's key holds: everything that determines its result, and nothing else."""

import os
import shutil
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rslwm.cli.compare import estimate
from rslwm.compute import ComputeConfig
from rslwm.data.config import DataConfig
from rslwm.data.corpus import Corpus
from rslwm.data.sources.opening import SOURCES
from rslwm.evals.base import METRICS
from rslwm.latents.base import EncoderConfig
from rslwm.registry import import_file
from rslwm.run.runner import Runner
from rslwm.run.stage import closure
from rslwm.serialisation import ConfigError, determining, to_dict
from rslwm.study.config import StudyConfig
from rslwm.study.graph import Study

CONFIG = StudyConfig(
    latents=("small-vavae", "small-dino+4"),
    data=DataConfig(image_size=32),
    encoder=EncoderConfig(width=16, depth=1, heads=2, channels=4),
    compute=ComputeConfig(device="cpu", dtype="float32"),
)
KNOBS = {
    "checkpoint_every": 7, "keep": 3, "log_every": 1, "monitor_every": 5, "memory_mb": 9.0, "world_size": 2,
    "shard": True, "stage_minutes": 9.0,
}  # fmt: skip


def keys(config: StudyConfig) -> dict[str, str]:
    return {str(stage): stage.key for stage in closure(Study(config).targets)}


def turned(config: Any, values: dict[str, Any]) -> Any:
    """The configuration with every field of these names, however deep, at these values."""
    if not is_dataclass(config):
        return config
    found = {f.name: values.get(f.name, turned(getattr(config, f.name), values)) for f in fields(config)}
    return type(config)(**found)


@pytest.mark.parametrize("knob", KNOBS)
def test_operational_knobs_move_no_key(knob: str) -> None:
    changed = turned(CONFIG, {knob: KNOBS[knob]})
    assert to_dict(changed) != to_dict(CONFIG)
    assert keys(changed) == keys(CONFIG)


def test_what_is_left_out_of_keys_is_this_and_nothing_else() -> None:
    """So that nobody leaves out by mistake what determines a result."""

    def differing(whole: Any, part: Any, where: str = "") -> set[str]:
        if isinstance(whole, dict):
            return set().union(*(differing(whole[name], part.get(name, "absent"), name) for name in whole))
        return {where} if whole != part else set()

    filled = turned(CONFIG, {"uri": "lerobot:/a", "planner": "a/b.py:c", "device": "cuda:1"})
    strings = {name: "given" for name in ("action_spec", "weights", "perceptual_folder", "init")}
    filled = turned(filled, strings)
    paths = {"uri", "planner", "device", *strings}  # these are known by their content
    assert differing(to_dict(filled), determining(filled)) == {*KNOBS, *paths}


def test_the_order_of_imports_moves_no_key() -> None:
    """In another process, whose imports come in another order."""
    program = (
        "import rslwm.evals.success, rslwm.evals.prediction, rslwm.evals.visual\n"
        "from rslwm.study.graph import Study\nfrom rslwm.study.config import StudyConfig\n"
        "print(*(s.key for s in Study(StudyConfig(latents=('raw-pixels',))).targets))"
    )
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert printed.split() == [stage.key for stage in Study(StudyConfig(latents=("raw-pixels",))).targets]


def test_estimate_finds_finished_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = replace(CONFIG, latents=("raw-pixels",))
    made = Runner(tmp_path).folder(Study(config).variants[0].metrics["visual"])
    made.mkdir(parents=True)
    (made / "stage.json").touch()
    estimate(config, tmp_path, jobs=1, gpu="H100", utilisation=0.2)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("metric"))
    assert line.split()[2:4] == [str(sum(METRICS.get(name).core for name in METRICS)), "1"]  # jobs, finished


def test_the_order_in_which_metrics_were_registered_moves_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(CONFIG)
    monkeypatch.setattr(METRICS, "_entries", dict(reversed(METRICS._entries.items())))
    assert keys(CONFIG) == before


def test_float32_and_bfloat16_never_share_a_stage_but_data() -> None:
    whole, half = (keys(replace(CONFIG, compute=ComputeConfig(device="cpu", dtype=d))) for d in ("float32", "bfloat16"))
    assert {name.split()[0] for name in whole if whole[name] == half[name]} == {"data", "frames"}


def test_auto_is_in_keys_as_what_it_means_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same folder on a machine of another kind must not mix the two."""
    monkeypatch.setattr("rslwm.compute.torch.ops.mkldnn._is_mkldnn_bf16_supported", lambda: False)
    plain = keys(replace(CONFIG, compute=ComputeConfig()))
    assert plain == keys(CONFIG)
    monkeypatch.setattr("rslwm.compute.torch.ops.mkldnn._is_mkldnn_bf16_supported", lambda: True)
    assert keys(replace(CONFIG, compute=ComputeConfig())) != plain


def test_which_of_several_gpus_computes_moves_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rslwm.compute.torch.cuda.device_count", lambda: 2)
    first, second = (ComputeConfig(device=name, dtype="bfloat16") for name in ("cuda", "cuda:1"))
    assert keys(replace(CONFIG, compute=first)) == keys(replace(CONFIG, compute=second))


# ------------------------------------------------------------------------------------------- data and code by content


def on(root: Path, **more: Any) -> StudyConfig:
    return replace(CONFIG, data=replace(CONFIG.data, uri=f"lerobot:{root}", **more))


def test_data_that_were_moved_copied_or_touched_keep_every_key(corpus: Corpus, tmp_path: Path) -> None:
    copy = shutil.copytree(corpus.dataset.root, tmp_path / "copy")
    before = keys(on(corpus.dataset.root))
    for path in copy.rglob("*.*"):
        os.utime(path)
    after = keys(on(copy))
    assert [*after.values()] == [*before.values()]
    moved = copy.rename(tmp_path / "moved")
    assert [*keys(on(moved)).values()] == [*before.values()]


def test_a_byte_of_the_data_moves_every_key(corpus: Corpus, tmp_path: Path) -> None:
    copy = shutil.copytree(corpus.dataset.root, tmp_path / "copy")
    before = keys(on(copy))
    with next(copy.rglob("*.mp4")).open("r+b") as file:
        file.seek(100)
        file.write(b"x")
    after = keys(on(copy))
    assert not set(before.values()) & set(after.values())


def test_an_action_spec_is_known_by_its_content(corpus: Corpus, tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("names: [x]")
    two.write_text("names: [x]")
    before, plain = keys(on(corpus.dataset.root, action_spec=str(one))), keys(on(corpus.dataset.root))
    assert keys(on(corpus.dataset.root, action_spec=str(two))) == before
    assert not set(plain.values()) & set(before.values())
    one.write_text("names: [y]")
    assert not set(keys(on(corpus.dataset.root, action_spec=str(one))).values()) & set(before.values())
    with pytest.raises(ConfigError, match=r"data\.action_spec: .*missing\.yaml does not exist"):
        keys(on(corpus.dataset.root, action_spec=str(tmp_path / "missing.yaml")))


def test_a_spec_beside_an_hdf5_file_moves_every_key(tmp_path: Path) -> None:
    (tmp_path / "demo.hdf5").write_bytes(b"whatever it holds")
    config = replace(CONFIG, data=replace(CONFIG.data, uri=f"hdf5:{tmp_path / 'demo.hdf5'}"))
    without = keys(config)
    (tmp_path / "notes.yaml").write_text("nothing about actions")
    assert keys(config) == without
    (tmp_path / "rslwm.yaml").write_text("action_spec: one")
    first = keys(config)
    (tmp_path / "rslwm.yaml").write_text("action_spec: another")
    second = keys(config)
    assert all(len({without[name], first[name], second[name]}) == 3 for name in without)


def test_features_under_other_names_are_another_recording(corpus: Corpus) -> None:
    renamed = keys(on(corpus.dataset.root, features=("action=actions",)))
    assert not set(renamed.values()) & set(keys(on(corpus.dataset.root)).values())


def place(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.mark.parametrize("kind", ["encoder", "planner"])
def test_code_of_the_users_own_is_known_by_its_content_wherever_it_lies(
    kind: str, plugin: Path, tmp_path: Path
) -> None:
    code = plugin.read_text() + "\ndef search(evaluate, fixed, config, generator, searched): ...\n"

    def found(file: Path) -> list[str]:
        if kind == "encoder":
            return [*keys(replace(CONFIG, latents=(f"{file}:PatchMean",))).values()]
        planning = CONFIG.evaluation.planning
        planning = replace(planning, plan=replace(planning.plan, planner=f"{file}:search"))
        return [*keys(replace(CONFIG, evaluation=replace(CONFIG.evaluation, planning=planning))).values()]

    before = found(place(tmp_path / "a/own.py", code))
    assert found(place(tmp_path / "b/own.py", code)) == before
    assert found(place(tmp_path / "c/own.py", code + "# edited\n")) != before


def test_a_data_source_of_the_users_own_is_known_by_its_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "from rslwm.data.sources.base import Source\nclass Mine(Source):\n    open = None\n"
    file = place(tmp_path / "source.py", code)
    monkeypatch.setitem(SOURCES._entries, "mine", import_file(file).Mine)
    config = replace(CONFIG, data=replace(CONFIG.data, uri="mine:robot"))
    before = keys(config)
    assert not set(keys(replace(config, data=replace(config.data, uri="mine:other"))).values()) & set(before.values())
    file.write_text(file.read_text() + "# edited\n")
    assert not set(keys(config).values()) & set(before.values())


def test_a_metrics_version_moves_its_rows_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(CONFIG)
    monkeypatch.setattr(METRICS.get("visual"), "version", 7)
    after = keys(CONFIG)
    moved = {name for name in before if before[name] != after[name]}
    assert {(name.split()[0], name.split()[-1]) for name in moved} == {("metric", "visual")}


def test_an_encoders_version_moves_all_that_is_made_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, latents=("small-vae", "small-cosmos"))
    before = keys(config)
    monkeypatch.setattr(Study(config).variants[0].entry.encoder, "version", 7)
    after = keys(config)
    moved = {name for name in before if before[name] != after[name]}
    assert all("small-vae" in name for name in moved)
    assert {name.split()[0] for name in moved} == {name.split()[0] for name in before} - {"data", "frames", "recording"}
