"""What docs/encoders.md says: its examples keep the contract, its table is that of the encoders."""

import re
from pathlib import Path

import pytest

from rslwm.compute import seeded
from rslwm.data.config import DataConfig
from rslwm.data.sources.opening import open_source
from rslwm.evals.inspection import inspect
from rslwm.latents.base import ENCODERS, EncoderConfig
from rslwm.latents.check import check_encoder
from rslwm.latents.published.base import PublishedEncoder
from rslwm.latents.space import open_encoder
from rslwm.latents.views import to_float
from rslwm.study.config import StudyConfig
from rslwm.study.entry import Entry

PAGE = (Path(__file__).parents[2] / "docs/encoders.md").read_text()
EXAMPLES = {name: code for name, code in re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", PAGE, re.M | re.S)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    for name, code in EXAMPLES.items():
        (folder / name).write_text(code)
    return folder


@pytest.mark.parametrize(
    "reference",
    ["my_encoder.py:Cosines", "my_encoder.py:Cosines[keep=4]", "my_trained_encoder.py:LinearAutoencoder"],
)
def test_its_examples_keep_the_contract(reference: str, folder: Path):
    space = Entry.parse(f"{folder}/{reference}").space(StudyConfig())
    with seeded(0, "example"):
        assert check_encoder(open_encoder(space)).findings == ()


def test_the_worked_example_decodes_what_it_keeps(folder: Path):
    frames = to_float(open_source(DataConfig()).preview(8))
    quality = []
    for keep in (1, 3, 8):
        space = Entry.parse(f"{folder}/my_encoder.py:Cosines[keep={keep}]").space(StudyConfig())
        quality.append(inspect(open_encoder(space), frames, 8).psnr or 0.0)
    assert quality[0] + 3 < quality[1] < quality[2] - 3
    assert quality[2] == pytest.approx(60)


def test_its_table_is_that_of_the_published_encoders():
    rows = dict(re.findall(r"^\| `([\w.-]+)` \| (\d.*) \|$", PAGE, re.M))
    assert {*rows} == {name for name in ENCODERS if issubclass(ENCODERS.get(name), PublishedEncoder)}
    for name, row in rows.items():
        encoder = ENCODERS.get(name)(EncoderConfig(), 256)
        assert isinstance(encoder, PublishedEncoder)
        grid = "x".join(map(str, (*encoder.spec.grid, encoder.published.channels)))
        latents, parameters, _, stored, licence, weights = row.split(" | ")
        assert (latents, parameters, licence) == (
            grid,
            f"{encoder.published.parameters / 1e6:.1f} M",
            encoder.source.licence,
        )
        assert stored == f"{encoder.spec.bytes_per_frame:,}"
        assert f"{encoder.source.megabytes} MB" in weights
        assert (encoder.source.repository or encoder.source.files[0]) in weights or encoder.source.extra in weights
