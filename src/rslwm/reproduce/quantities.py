"""What the paper's columns are, which number of ours measures each, and what of the definitions differs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from rslwm.evals.base import METRICS


@dataclass(frozen=True)
class Reading:
    """Where a number of ours is in a verdict: a metric's value, at one horizon or over all, of one dimension or over
    all; or how far it is from its own ceiling (``gap``), or how much more than another metric (``above``)."""

    metric: str
    k: int | None = None
    dim: str = ""
    gap: bool = False
    above: str = ""


@dataclass(frozen=True)
class Quantity:
    """A column of the paper.

    ``measured`` reads the number of ours that has the same definition, ``nearest`` one that asks the same question by
    another; ``computed`` says that it follows from sizes alone, ``kept`` names the file of a run that holds it where no
    metric does, ``lacks`` what would have to exist. ``rounding`` and ``relative`` are the tolerance of computed ones.
    """

    label: str
    higher_is_better: bool | None = True
    measured: Reading | None = None
    nearest: Reading | None = None
    computed: bool = False
    kept: str = ""
    lacks: str = ""
    differs: str = ""
    needs: str = ""
    """A network that the metric looks with."""
    data: Literal["bridge", "soar"] = "bridge"
    rounding: float = 0.0
    relative: float = 0.0

    @property
    def reading(self) -> Reading | None:
        return self.measured or self.nearest


def gathered(told: Iterable[tuple[Quantity, str]]) -> list[str]:
    """Every note once, behind the labels of the quantities that it is about."""
    found: dict[str, list[str]] = {}
    for quantity, note in told:
        if note and quantity.label not in found.setdefault(note, []):
            found[note].append(quantity.label)
    return [f"{'; '.join(labels)}: {note}" for note, labels in found.items() if labels]


def measuring(reading: Reading) -> str:
    """The registered metric that yields a reading; empty if there is none any more."""
    declared = {info.name: name for name in METRICS for info in METRICS.get(name).infos}
    wanted = [reading.metric, *([reading.above] if reading.above else [])]
    found = {declared.get(name, "") for name in wanted}
    return found.pop() if len(found) == 1 else ""


_TRIALS = (
    "trials of OpenVLA-7B inside the world model from recorded first frames, judged by InternVL3.5-14B and "
    "Qwen3.6-27B; our policies are tried where the data come from a simulator"
)
_PROBE = (
    "the paper doesn't say how its probe is trained, nor whether it reads the frames between; it reads native latents, "
    "ours those of the space, behind its adapter if it has one"
)
_SUCCESS = (
    "our probe reads three frames of an episode's end and no instruction; the paper's also sees SigLIP 2's text tokens "
    "and instructions of other tasks, and reads native latents"
)
_CEM = (
    "our search begins at standing still, theirs at the true action, where 0 is what doing nothing gives; ours is the "
    "error of the translation with the bounds at ±1, theirs of dimensions that it doesn't name"
)
_LENGTH = "the paper doesn't say how long these rollouts are"
_WORLD_ARENA = "the networks of WorldArena, {}"

SR = Quantity("success by both judges", lacks=_TRIALS)
PSNR = Quantity("PSNR, dB", measured=Reading("psnr"), differs=_LENGTH)
SSIM = Quantity("SSIM", measured=Reading("ssim"), differs=f"luminance, where the paper's code takes RGB; {_LENGTH}")
LPIPS = Quantity("LPIPS, AlexNet", False, measured=Reading("lpips"), needs="lpips-alex", differs=_LENGTH)
IDM = Quantity("inverse dynamics, encoder latents, r", measured=Reading("idm_r", 1), differs=_PROBE)
GENERATED = replace(IDM, label="inverse dynamics, generated latents, r", measured=Reading("idm_r_generated", 1))
ACCURACY = Quantity(
    "success probe, encoder latents, balanced accuracy", measured=Reading("success_accuracy"), data="soar",
    differs=_SUCCESS,
)  # fmt: skip
CEM = Quantity(
    "CEM, error of the action, k = 1", False, nearest=Reading("cem_error", 1), differs=_CEM,
    lacks="a search that begins at the true action",
)  # fmt: skip
PCK = Quantity(
    "points still visible", nearest=Reading("pck"), lacks="CoTracker, which follows a grid of points",
    differs="the paper counts CoTracker's points that stay visible, we gripper and objects found at most 3 px (of 64) "
    "from their true place; its two tables print two different measurements under this name",
)  # fmt: skip
PARAMETERS = Quantity("parameters, M", None, computed=True, rounding=0.06)
GFLOP = Quantity(
    "GFLOP a frame", None, computed=True, rounding=0.06, relative=0.01,
    differs="counted as the table does, without attention's products in published encoders and decoders (2 to 4 % of a "
    "vision transformer) and without the adapter that native latents are decoded through; `rslwm compare bridge "
    "--estimate` counts both",
)  # fmt: skip
_PARTS = ("encoder", "adapter", "transformer", "decoder")

QUANTITIES: dict[str, Quantity] = {
    "consensus_sr": SR,
    "vla_sr": replace(SR, label="success of a policy"),
    "ood_sr": replace(SR, label="success out of distribution, pooled"),
    "id_sr": replace(SR, label="success by InternVL"),
    "ood_distractor_sr": replace(SR, label="success by InternVL, distractors painted in"),
    "ood_instruction_sr": replace(SR, label="success by InternVL, another instruction"),
    "successes_qwen": replace(SR, label="successes of 8 by Qwen"),
    "successes_internvl": replace(SR, label="successes of 8 by InternVL"),
    "borda": replace(SR, label="Borda count", higher_is_better=False),
    "judged_quality": replace(SR, label="image quality, 1 to 5, by InternVL"),
    "judged_following": replace(SR, label="instruction following, 1 to 5, by InternVL"),
    "kappa": replace(SR, label="kappa of two judges"),
    "cem_k1": CEM,
    "cem_k4": replace(CEM, label="CEM, error of the action, k = 4", nearest=Reading("cem_error", 4)),
    **{
        f"{name}_contrast": Quantity(f"{name}, native semantic minus reconstruction", None, lacks=lacks)
        for name, lacks in (("consensus_sr", SR.lacks), ("ood_sr", SR.lacks), ("cem_k1", CEM.lacks))
    },
    "psnr": PSNR,
    "ssim": SSIM,
    "lpips": LPIPS,
    "psnr_gap": replace(PSNR, label="PSNR below encoding and decoding", higher_is_better=False,
                        measured=Reading("psnr", gap=True)),
    "ssim_gap": replace(SSIM, label="SSIM below encoding and decoding", higher_is_better=False,
                        measured=Reading("ssim", gap=True)),
    "lpips_gap": replace(LPIPS, label="LPIPS above encoding and decoding", measured=Reading("lpips", gap=True)),
    "fid": Quantity(
        "FID", False, nearest=Reading("fd_effl0"), lacks="InceptionV3's features",
        differs="sliced Fréchet distance of EfficientNet-Lite0's features; other features, another scale",
    ),
    "fvd": Quantity(
        "FVD, R3D-18", False, nearest=Reading("fd_effl0_change"), lacks="the video network R3D-18",
        differs="sliced Fréchet distance of how much EfficientNet-Lite0's features change; no video network",
    ),
    "fid_gap": Quantity("FID above encoding and decoding", False, lacks="InceptionV3's features"),
    "fvd_gap": Quantity("FVD above encoding and decoding", False, lacks="the video network R3D-18"),
    "tlpips": Quantity("t-LPIPS", False, lacks="RAFT, whose flow warps both videos"),
    "tlpips_gap": Quantity("t-LPIPS above encoding and decoding", False, lacks="RAFT, whose flow warps both videos"),
    "pck_short": PCK,
    "pck_long": replace(PCK, label="points still visible, long rollouts"),
    "musiq": Quantity("image quality, MUSIQ", lacks=_WORLD_ARENA.format("MUSIQ")),
    "aesthetic": Quantity("aesthetic score", lacks=_WORLD_ARENA.format("CLIP with LAION's predictor")),
    "jepa_similarity": Quantity("JEPA similarity", lacks=_WORLD_ARENA.format("V-JEPA under an MMD")),
    "subject_consistency": Quantity("subject consistency", lacks=_WORLD_ARENA.format("DINO")),
    "background_consistency": Quantity("background consistency", lacks=_WORLD_ARENA.format("CLIP")),
    "photometric_aepe": Quantity("photometric consistency", False, lacks=_WORLD_ARENA.format("SEA-RAFT")),
    "dynamic_degree": Quantity(
        "dynamic degree", None, nearest=Reading("dynamic_degree"), lacks=_WORLD_ARENA.format("RAFT"),
        differs="the paper's is a share of frame pairs by RAFT's flow, ours the flow's length over the true one",
    ),
    "flow_score": Quantity("flow score", None, lacks=_WORLD_ARENA.format("RAFT")),
    "depth_absrel": Quantity("depth, AbsRel", False, lacks=_WORLD_ARENA.format("a network for depth")),
    "idm_r_k1": IDM,
    "idm_r_k4": replace(IDM, label=f"{IDM.label}, k = 4", measured=Reading("idm_r", 4)),
    "idm_r_generated_k1": GENERATED,
    "idm_r_generated_k4": replace(GENERATED, label=f"{GENERATED.label}, k = 4", measured=Reading("idm_r_generated", 4)),
    "success_accuracy": ACCURACY,
    "success_auc": replace(ACCURACY, label="success probe, encoder latents, AUC", measured=Reading("success_auc")),
    "success_accuracy_generated": replace(ACCURACY, label="success probe, generated latents, balanced accuracy",
                                          measured=Reading("success_accuracy_generated")),
    "success_accuracy_drop": replace(ACCURACY, label="success probe, lost by generating", higher_is_better=False,
                                     measured=Reading("success_accuracy", above="success_accuracy_generated")),
    **{
        f"cca_{name}": Quantity(
            f"canonical correlation, {name}", nearest=Reading("cca", 1, dim) if dim else None,
            lacks="the correlation of the inverse dynamics probe's features",
            differs="the paper's is of its probe's features, ours of differences of pooled latents",
        )
        for name, dim in (("rho1", "1"), ("rho2", "2"), ("eta", ""))
    },
    **{f"parameters_{part}": replace(PARAMETERS, label=f"parameters of the {part}, M") for part in _PARTS},
    **{f"gflop_{part}": replace(GFLOP, label=f"GFLOP of the {part}") for part in _PARTS},
    "gflop_total": replace(GFLOP, label="GFLOP in all"),
    "gamma": Quantity("time shift", None, computed=True, rounding=6e-4),
    "hours": Quantity(
        "hours of training", None, kept="study.json, timings",
        differs="one process here adds up the gradients of the paper's four GPUs",
    ),
}  # fmt: skip
"""By the name that ``paper.json`` calls a column."""
