import json
import re
from html.parser import HTMLParser

import pytest

from rslwm.cli.report import Report
from rslwm.evals.rows import Rows
from rslwm.report.formats import format_cost, prose
from rslwm.report.page import build_report
from rslwm.report.run import Run
from rslwm.study.record import RunRecord, judge
from rslwm.types import DataError
from synthetic import METRICS, SPACES, measurements, write_run

VOID = {"meta", "link", "img", "br", "input", "line", "path", "circle", "rect", "polygon"}


class Balance(HTMLParser):
    """Fails at a tag that is closed out of order."""

    def __init__(self):
        super().__init__()
        self.open, self.references, self.labels = [], [], 0

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        values = dict(attrs)
        self.references += [values[key] for key in ("src", "href") if values.get(key)]
        self.labels += bool(values.get("alt") or values.get("aria-label"))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"


def parse(page):
    parser = Balance()
    parser.feed(page)
    assert not parser.open
    return parser


def judged(path):
    """The page, from the rows on."""
    judge(path)
    return build_report(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = write_run(tmp_path_factory.mktemp("runs") / "demo")
    judged(path)
    return path


@pytest.fixture
def page(run):
    return (run / "report" / "index.html").read_text()


def test_the_page_needs_nothing_else(page):
    references = parse(page).references
    assert references
    assert all(reference.startswith(("#", "data:")) for reference in references)
    assert "http" not in re.sub(r"data:[^\"]*", "", page)
    assert "@import" not in page
    assert "url(" not in page.replace('url("${', "")


def test_the_page_shows_every_space_metric_and_sentence(run, page):
    verdict = json.loads((run / "verdict.json").read_text())
    assert verdict["spaces"] == list(SPACES)
    for name in SPACES:
        assert page.count(name) > 10
    for metric in verdict["metrics"]:
        assert f"<h4>{metric['info']['name']} " in page
    assert "With one training each nothing is ruled out" in page
    assert "needs the extra <code>metrics</code> and a download" in page
    assert "rslwm compare demo --out runs/demo" in page
    assert "Rollouts have 8 generated frames instead of 12." in page
    assert "resamples: 2000" in page  # the exact configuration


def test_scores_stand_in_the_table_with_their_intervals(run, page):
    best = json.loads((run / "verdict.json").read_text())["axes"]["planning"]["standings"][0]
    assert f'<span class="value">{best["score"]:.2f}</span>' in page
    assert f"[{best['low']:.2f}, {best['high']:.2f}]" in page


def test_clips_are_embedded_once_each(page):
    assert page.count("data:image/png;base64,") == 3
    assert 'data-rows="7" data-columns="10" data-context="2"' in page


def test_every_figure_is_written_as_svg_and_png(run):
    names = {path.name for path in (run / "report" / "figures").iterdir()}
    assert names == {f"{n}.{s}" for n in ("pareto", "fidelity", "tradeoff", "summary") for s in ("svg", "png")}


def test_the_same_run_gives_the_same_files(run, tmp_path):
    again = judged(write_run(tmp_path / "again"))
    assert again.read_text() == (run / "report" / "index.html").read_text()
    for name in ("summary.svg", "tradeoff.svg"):
        assert (again.parent / "figures" / name).read_bytes() == (run / "report" / "figures" / name).read_bytes()


def test_rows_and_metrics_alone_make_a_page(tmp_path):
    path = write_run(tmp_path / "bare", with_clips=False)
    RunRecord(metrics=tuple(METRICS)).save(path)
    (path / "config.yaml").unlink()
    text = judged(path).read_text()
    parse(text)
    for sentence in ("kept no clips", "recorded no costs", "holds no config.yaml"):
        assert sentence in text


def test_one_space_and_one_axis_make_a_page(tmp_path):
    path = write_run(tmp_path / "single", with_clips=False)
    rows = Rows.load(path / "rows.parquet")
    rows.where((rows["latent"] == "small-vae") & (rows["axis"] == "fidelity")).save(path / "rows.parquet")
    text = judged(path).read_text()
    parse(text)
    assert "nothing to decide" in text
    assert "No metric of this axis was measured" in text


def test_several_trainings_are_shown_one_by_one(tmp_path):
    path = write_run(tmp_path / "seeds", seeds=3, with_clips=False)
    text = judged(path).read_text()
    assert json.loads((path / "verdict.json").read_text())["axes"]["planning"]["winner"] == "small-vjepa+16"
    assert "ahead of small-dino+16 by" in text
    assert "3 trainings each" in text
    assert 'class="seed"' in text
    assert "was measured with 3 seeds a space" in text


def test_a_run_with_seeds_tells_its_training_noise_to_one_without(tmp_path):
    Report(write_run(tmp_path / "seeds", seeds=3, with_clips=False), training_noise=tmp_path / "noise.json").run()
    path = write_run(tmp_path / "once", with_clips=False)
    config = path / "config.yaml"
    config.write_text(config.read_text().replace("training_noise: ''", f"training_noise: '{tmp_path / 'noise.json'}'"))
    text = judged(path).read_text()
    parse(text)
    axis = json.loads((path / "verdict.json").read_text())["axes"]["planning"]
    assert (axis["winner"], axis["contenders"], axis["noise"]["freedom"]) == ("", ["small-vjepa+16"], 12)
    assert "taken from the record noise, made by 6 spaces under this configuration" in text
    assert text.count('title="ahead, with one training each"') == 4
    assert "rslwm join .,more --out joined" in text
    assert 'title="ruled out as the best"' in text
    (tmp_path / "noise.json").unlink()
    assert "taken from the record noise" in judged(path).read_text()  # the run keeps a copy
    config.write_text(config.read_text().replace("episodes: 200", "episodes: 60"))
    assert "data.sim.episodes 200 there, 60 here" in judged(path).read_text()


def test_one_training_records_no_noise(tmp_path):
    with pytest.raises(DataError, match="every space was trained once"):
        Report(write_run(tmp_path / "once", with_clips=False), training_noise=tmp_path / "noise.json").run()


def test_weights_and_shares_stand_under_the_scores(run, page):
    axis = json.loads((run / "verdict.json").read_text())["axes"]["planning"]
    assert sum(part["weight"] for part in axis["parts"]) == pytest.approx(1)
    for part in axis["parts"]:
        assert f'<td>{part["name"]}</td><td class="figure">{part["weight"]:.2f}</td>' in page
        assert part["share"] <= 0.5 + 1e-6
        assert f"episodes · weight {part['weight']:.2f}</p>" in page


def test_names_are_escaped(tmp_path):
    path = write_run(tmp_path / "hostile", with_clips=False)
    name = "<b>\"&'</b>"
    measurements(episodes=8, skills={name: ("semantic", 0.4, 0.4, 0.4), "x": SPACES["small-vae"]}).save(
        path / "rows.parquet"
    )
    text = judged(path).read_text()
    parse(text)
    assert '<b>"' not in text
    assert "&lt;b&gt;" in text


def test_the_report_command_decides_again_from_the_rows(tmp_path):
    path = write_run(tmp_path / "stale", with_clips=False)
    (path / "verdict.json").write_text('{"spaces": ["stale"]}')
    with pytest.raises(DataError, match="`rslwm report` writes it anew"):
        build_report(path)
    Report(path).run()
    assert Run.load(path).verdict.spaces == tuple(SPACES)
    (path / "rows.parquet").unlink()
    build_report(path)  # the verdict is kept, and enough by itself


def test_another_configuration_gives_another_verdict(tmp_path):
    path = write_run(tmp_path / "edited", with_clips=False)
    assert judge(path).confidence == 0.95
    text = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(text.replace("confidence: 0.95", "confidence: 0.8"))
    assert judge(path).confidence == 0.8


def test_a_record_survives_its_file(run, tmp_path):
    record = RunRecord.load(run)
    record.save(tmp_path)
    assert RunRecord.load(tmp_path) == record


def test_a_folder_without_measurements_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"rows\.parquet does not exist; `rslwm compare` writes it"):
        judge(tmp_path)
    measurements(episodes=2).save(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"study\.json does not exist"):
        judge(tmp_path)
    for text in ("{", '{"metrics": [], "spaces": [{"name": "a", "family": "semantic"}]}'):
        (tmp_path / "study.json").write_text(text)
        with pytest.raises(DataError, match=r"no description of a run of this version .* again writes it anew"):
            judge(tmp_path)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (1_020_000, "count", "1.02 M"),
        (2048, "bytes", "2.05 kB"),
        (0.031, "seconds", "31 ms"),
        (61.0, "seconds", "61.0 s"),
        (200.0, "seconds", "3 min 20 s"),
        (0, "count", "0"),
        (None, "seconds", "–"),
    ],
)
def test_costs_are_readable(value, kind, text):
    assert format_cost(value, kind) == text


def test_backticks_set_code_and_nothing_else_is_markup():
    assert prose("use `rslwm <x>` now") == "use <code>rslwm &lt;x&gt;</code> now"
    assert prose("a ` alone") == "a ` alone"
