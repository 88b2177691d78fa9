"""How it was measured, told from the resolved configuration, with what it builds on."""

from __future__ import annotations

import inspect
import re
from typing import Any

from rslwm.latents.base import ENCODERS
from rslwm.report.run import Run
from rslwm.report.sections import Section
from rslwm.study.config import StudyConfig

WORKS = {
    "2605.06388": "Nilaksh et al., Reconstruction or Semantics? What Makes a Latent Space Useful for Robotic World "
    "Models",
    "2210.02747": "Lipman et al., Flow Matching for Generative Modeling",
    "2212.09748": "Peebles and Xie, Scalable Diffusion Models with Transformers",
    "2405.05941": "Li et al., Evaluating Real-World Robot Manipulation Policies in Simulation (SIMPLER)",
    "1411.5279": "Hesterberg, What Teachers Should Know about the Bootstrap",
    "2606.15032": "Yu et al., How Should World Models Be Evaluated",
    "2501.01423": "Yao et al., Reconstruction vs. Generation (VA-VAE)",
    "2105.04906": "Bardes et al., VICReg",
}
"""What is cited, by its number on arXiv; others are listed by their number alone."""


def build(run: Run) -> dict[str, Any] | None:
    if run.study is None:
        return None
    told = [*_paragraphs(run, run.study), *_spaces(run.study)]
    cited = dict.fromkeys(re.findall(r"arXiv (\d{4}\.\d{4,5})", " ".join(text for _, text in told)))
    return {"told": told, "cited": [(number, WORKS.get(number, "")) for number in cited]}


def _paragraphs(run: Run, config: StudyConfig) -> list[tuple[str, str]]:
    return [
        ("Protocol", "As of arXiv 2605.06388: data, transition model, budget and planner are held fixed, and only the "
         "latent space is swapped."),
        ("Data", _data(run, config)),
        ("World model", _world_model(config)),
        ("Rollouts and planning", _rollouts(config)),
        ("Statistics", _statistics(run, config)),
    ]  # fmt: skip


def _data(run: Run, config: StudyConfig) -> str:
    data, known = config.data, run.record.data
    count = f"{known['episodes']:,} episodes" if "episodes" in known else "The episodes"
    skipped = (
        f" A clip shows every {_nth(data.frame_skip)} frame; the actions in between are "
        f"{'composed' if data.actions == 'compose' else 'represented by the first of them'}."
        if data.frame_skip > 1
        else ""
    )
    seen = f", {data.views} cameras side by side" if data.views > 1 else ""
    return (
        f"{count} of {data.uri}; {100 * data.test_fraction:.0f} % are held out, nothing is trained on them, and every "
        f"metric is measured on them alone. Frames are {data.image_size} x {data.image_size} pixels{seen}.{skipped}"
    )


def _world_model(config: StudyConfig) -> str:
    model, dit = config.world_model, config.world_model.dit
    objective = (
        f"trained by flow matching (arXiv 2210.02747) to predict {model.flow.prediction}, with {model.flow.history} "
        "clean frames of history"
        if model.objective == "flow"
        else f"trained with the objective {model.objective}"
    )
    start = f" It starts from {model.init}." if model.init else ""
    return (
        f"A diffusion transformer (arXiv 2212.09748) of width {dit.width}, depth {dit.depth} and {dit.heads} heads "
        f"over patches of {dit.patch}, {dit.temporal} in space and time, {objective}: {model.optim.steps:,} steps of "
        f"{model.optim.batch_size} clips at a learning rate of {model.optim.lr:g}. Every space was trained "
        f"{_times(config.seeds)}.{start}"
    )


def _rollouts(config: StudyConfig) -> str:
    rollouts, plan = config.evaluation.rollouts, config.evaluation.planning.plan
    return (
        f"{rollouts.clips} held-out clips are continued for {rollouts.future} frames from {rollouts.context} real "
        f"ones, with the recorded actions and {rollouts.sampling.steps} {rollouts.sampling.method.capitalize()} steps "
        f"a frame. Plans are searched by {plan.planner.upper()}: {plan.candidates} candidates, {plan.iterations} "
        f"iterations, {plan.elites} elites, {plan.horizon} step{'s' if plan.horizon > 1 else ''} ahead. Rungs of "
        "metrics are those of arXiv 2606.15032."
    )


def _statistics(run: Run, config: StudyConfig) -> str:
    verdict = config.verdict
    policies = " Policies are ranked as in SIMPLER (arXiv 2405.05941)." if run.verdict.policies else ""
    return (
        f"Every metric is measured between a floor that knows nothing and a ceiling that loses nothing. Intervals are "
        f"{100 * verdict.confidence:.0f} % expanded percentile intervals (arXiv 1411.5279) of {verdict.resamples:,} "
        "bootstrap draws of whole episodes, the same for every space. A space wins only if it beats every rival in the "
        f"paired two-sided test, noise of training included.{policies}"
    )


def _spaces(config: StudyConfig) -> list[tuple[str, str]]:
    """What the code says of every encoder that is built in."""
    found = []
    for name in config.latents:
        encoder = re.split(r"[\[+@]", name.rpartition("=")[2])[0]
        if encoder in ENCODERS:
            told = inspect.getdoc(ENCODERS.get(encoder)) or ""
            found.append((name, told.split("\n\n")[0].replace("\n", " ").replace("``", "")))
    if any("+" in name for name in config.latents):
        optim = config.adapter.optim
        kind = "an S-VAE" if config.adapter.kind == "svae" else f"a {config.adapter.kind}"
        trained = f"trained for {optim.steps:,} steps of {optim.batch_size} frames"
        text = f"Spaces with +D are behind {kind} adapter to D channels (arXiv 2605.06388), {trained}."
        found.append(("adapter", text))
    return found


def _nth(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")


def _times(number: int) -> str:
    again = ", each time with other seeds of encoder, world model and probes"
    return "once" if number == 1 else ("twice" if number == 2 else f"{number} times") + again


SECTION = Section("Methods", 70, build)
