"""Every default of a study, each in exactly one dataclass, one dataclass a stage.

The command line is generated from these classes, a run dumps them next to its results, and the part of them that a
stage reads is hashed into that stage's key, but for fields that change no result: those are marked ``OPERATIONAL``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rslwm.serialisation import OPERATIONAL, known_by


@dataclass(frozen=True)
class ComputeConfig:
    """Where and in which precision a run computes. All of it can change the last digits of a result."""

    device: str = field(default="auto", metadata=known_by(lambda name: name.partition(":")[0]))
    """auto (cuda where there is one, else cpu), cpu, cuda, cuda:1, mps."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Precision of matrix products in training and rollouts; auto is bfloat16 where the hardware is faster at it."""
    compile: bool = False
    """Compile the transformer with torch.compile (pays off from minutes of training upwards)."""
    checkpoint_activations: bool = False
    """Recompute the transformer's activations in the backward pass: a third more time, memory for one layer only."""
    threads: int = 1
    """CPU threads of one stage; stages run side by side on the cores. Fixed, so that results repeat exactly."""


@dataclass(frozen=True)
class SimConfig:
    """Recording of the embedded tabletop simulator."""

    episodes: int = 320
    """Episodes to record."""
    families: tuple[str, ...] = ("push", "pick", "stack", "drawer")
    """Task families, in turn."""
    cameras: tuple[str, ...] = ("front",)
    """Cameras to record: front, side, wrist."""
    image_size: int = 64
    """Height and width of a frame in pixels."""
    noise: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3)
    """Action noise levels of the expert, as shares of the action bounds, in turn. Larger ones fail naturally, but what
    trembles is then known to fail."""
    mistakes: float = 0.35
    """Share of the episodes in which the expert misjudges where its goal is."""
    giving_up: float = 0.15
    """Share of the episodes in which it turns to something else before it is done."""
    distractors: int = 2
    """Objects beside those that the task needs."""
    min_steps: int = 34
    max_steps: int = 42
    """Shortest and longest episode in control steps; a length is drawn whatever happens."""
    shadows: bool = False
    """Draw shadows (four times the rendering time)."""
    appearance: float = 0.0
    """Strength of the random changes to light, table colour and camera places from episode to episode; 1 is a lot."""
    dynamics_noise: float = 0.0
    """Standard deviation, as a share of the action bounds, of what the robot does beside its action."""
    seed: int = 0


@dataclass(frozen=True)
class DataConfig:
    """Where episodes come from and how clips are cut from them."""

    uri: str = field(
        default="sim:tabletop",
        metadata=known_by(lambda uri: uri if uri.startswith("sim:") else uri.partition(":")[0]),
    )
    """sim:tabletop, lerobot:FOLDER, hf://datasets/OWNER/NAME, rlds:FOLDER or hdf5:FILE."""
    sim: SimConfig = field(default_factory=SimConfig)
    camera: str = ""
    """The camera to learn from, or several (front,side), whose views then lie side by side; empty takes the first."""
    image_size: int = 64
    """Frames are resized to this many pixels."""
    frame_skip: int = 2
    """Recorded steps between two frames of a clip."""
    actions: Literal["compose", "first"] = "compose"
    """With a frame skip: compose the skipped actions, or take the first one as the paper's code does."""
    features: tuple[str, ...] = ()
    """Features that the data call otherwise, each as OURS=THEIRS: action=actions,observation.images.front=image."""
    action_spec: str = field(default="", metadata=OPERATIONAL)
    """YAML or JSON file with the action spec of data that don't carry one; the error that asks for it holds a draft."""
    test_fraction: float = 0.2
    """Share of the episodes held out for every metric."""
    split_seed: int = 0

    @property
    def views(self) -> int:
        """V, the cameras side by side in a frame."""
        return self.camera.count(",") + 1


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with linear warm-up and cosine decay; the same loop trains everything."""

    steps: int = 400
    batch_size: int = 64
    lr: float = 1e-3
    final_lr: float = 0.05
    """Learning rate at the end, as a share of ``lr``."""
    warmup: int = 30
    """Warm-up steps."""
    weight_decay: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    ema: float = 0.0
    """Decay of the exponential moving average of the weights; 0 keeps none."""
    checkpoint_every: int = field(default=200, metadata=OPERATIONAL)
    """Steps between two checkpoints; a killed run loses at most these."""
    keep: int = field(default=1, metadata=OPERATIONAL)
    """Checkpoints to keep, the newest ones."""
    accumulate: int = 1
    """Batches whose gradients are added up before a step; the optimiser sees ``accumulate * batch_size`` clips."""
    log_every: int = field(default=20, metadata=OPERATIONAL)
    monitor_every: int = field(default=100, metadata=OPERATIONAL)
    """Steps between two looks at figures that cost a forward pass, such as the effective rank of an encoder; a
    multiple of ``log_every``."""


@dataclass(frozen=True)
class EncoderConfig:
    """The small encoders, one backbone, so that nothing but the objective differs; and what published ones share."""

    weights: str = field(default="", metadata=OPERATIONAL)
    """Folder of published weights, a subfolder for each encoder's name; what isn't there is looked for in the hub's
    cache."""
    input_size: int = 256
    """Side in pixels at which published encoders with patches of 8 or 16 px see a frame; those with 14 px see 14/16 of
    it, so that the grids are the same."""
    width: int = 128
    depth: int = 5
    heads: int = 4
    patch: int = 8
    channels: int = 16
    """Latent channels of the reconstruction encoders."""
    pair_gap: tuple[int, ...] = (2, 6)
    """Training frames come in pairs of one episode, this many recorded steps apart (from, to)."""
    min_rank: float = 4.0
    """Effective rank of the latents below which training counts as collapsed."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(steps=200, lr=1e-3, weight_decay=0.02))


@dataclass(frozen=True)
class AdapterConfig:
    """Adapter: a wide semantic space compressed to a few channels."""

    kind: Literal["svae", "mlp", "pca"] = "svae"
    """svae is the paper's (section 5); its baselines: mlp, on each token alone and without noise; pca, closed form."""
    blocks: int = 1
    """svae: transformer blocks of either half."""
    heads: int = 4
    """svae: attention heads; they divide the channels of the native space."""
    hidden: int = 0
    """svae, mlp: width of the hidden layers; 0 is that of the native space."""
    kl_weight: float = 1e-4
    cosine_weight: float = 1.0
    spectral_weight: float = 0.01
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(steps=150, lr=1e-3))


@dataclass(frozen=True)
class DecoderConfig:
    """Pixel decoder, trained on detached latents, the same for every space."""

    own: bool = False
    """Spaces whose encoder has a decoder of its own decode with that one; nothing is trained for them."""
    through: int = 0
    """Native semantic spaces decode through an adapter to this many channels and the pixel decoder of its latents,
    both the same as those of NAME+THROUGH (the paper: 96); 0 gives them a pixel decoder of their own."""
    kind: Literal["sub-pixel", "ldm"] = "sub-pixel"
    """sub-pixel is small and quick; ldm is the paper's, level by level to the frame's resolution."""
    width: int = 128
    """Channels at the latent grid (sub-pixel) or at the frame's resolution (ldm; the paper: 160)."""
    multipliers: tuple[int, ...] = (1, 1, 2, 4, 8)
    """ldm: widths of the levels, from the frame's resolution down to the latent grid; each step halves the side."""
    blocks: int = 2
    """ldm: residual blocks a level."""
    heads: int = 4
    """ldm: attention heads at the latent grid."""
    noise: float = 0.05
    """Standard deviation of the noise added to the (normalised) latents, so that generated ones decode well."""
    loss: Literal["absolute", "published"] = "absolute"
    """absolute + 8 squared error, or the paper's: squared error + ``structure_weight`` (1 - MS-SSIM)."""
    structure_weight: float = 0.5
    perceptual: Literal["none", "lpips-alex", "lpips-vgg", "effnet-lite0"] = "none"
    """Perceptual distance, added to either loss. LPIPS needs a download; effnet-lite0, a package's, isn't LPIPS."""
    perceptual_weight: float = 0.5
    perceptual_after: int = 0
    """Training frames seen before the perceptual distance counts."""
    perceptual_folder: str = field(default="", metadata=OPERATIONAL)
    """Folder of the networks that LPIPS compares with; empty is where torchvision keeps its downloads."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(steps=180, lr=2e-3))


@dataclass(frozen=True)
class DiTConfig:
    """Architecture of the action-conditioned diffusion transformer (paper section 4)."""

    width: int = 96
    depth: int = 3
    heads: int = 3
    patch: int = 2
    wide_head: int = 0
    """Width of the wide readout head for wide latents; 0 is the plain head."""
    max_frames: int = 4
    """Frames that temporal attention sees; the sampling window slides over them."""
    temporal: Literal["factorised", "joint"] = "factorised"
    """A token attends to its own position in earlier frames, or to all tokens of all earlier frames."""
    views: int = 1
    """Camera views side by side in a frame's width; more than one makes the spatial rotary embedding view-aware."""
    view_order: Literal["side-by-side", "interleaved"] = "side-by-side"
    """How a token's place in the width is read as (view, column). Views lie side by side, but the published function
    reads them as interleaved; its weights need the same reading."""
    action_inputs: int = 0
    """Inputs of the action embedding; 0 is the action's own dimensions. Further ones are zero, except that the last is
    1 for the null action (which dropped actions and guidance use)."""


@dataclass(frozen=True)
class FlowConfig:
    """Flow matching: linear path, target noise minus data, diffusion forcing over the future frames."""

    history: int = 2
    """Clean context frames of a training clip."""
    history_noise: float = 0.06
    """Spread of the standard deviation of the noise that augments them, drawn anew for every frame (the paper's code:
    0.3)."""
    context_level: float = 0.0
    """Noise level that context frames are declared to have when sampling."""
    time_shift: Literal["dimension", "none"] = "dimension"
    """Shift of the noise levels by the square root of tokens x channels (paper section 4), or none."""
    shift_base: float = 16.0
    """Tokens x channels at which the shift is 1 (the paper: 4096). Small grids are learned from nearly clean frames in
    no time, actions only from noisy ones: a strong shift is what makes a small model heed them."""


@dataclass(frozen=True)
class DDPMConfig:
    """Denoising diffusion with velocity targets, independent noise on all frames: what the paper's code defaults to."""

    timesteps: int = 1000
    schedule_start: float = -3.0
    schedule_end: float = 3.0
    schedule_tau: float = 1.0
    """Of the sigmoid noise schedule: the sigmoid's range and temperature."""
    context_step: int = 14
    """Diffusion step that context frames are declared to be at when sampling; they are scaled to it, without noise."""


@dataclass(frozen=True)
class SamplingConfig:
    """How a frame is sampled."""

    steps: int = 10
    """Denoising steps of a frame."""
    method: Literal["euler", "heun"] = "euler"
    """Euler, or Heun's second-order steps (two evaluations each but the last). A ddpm model takes DDIM steps."""
    guidance: float = 1.0
    """Classifier-free guidance on the action: 1 is off, above 1 exaggerates its effect. Needs a model trained with
    ``action_dropout``."""
    full_window: bool = False
    """Once the window slides, recompute all of it, as the published sampler does, instead of keeping what the frames
    left in it computed when they still saw those that dropped out."""


@dataclass(frozen=True)
class WorldModelConfig:
    """One world model, the same budget for every latent space."""

    init: str = field(default="", metadata=OPERATIONAL)
    """Folder of a world model whose weights the transformer starts from, for instance a single-view one's; empty draws
    them."""
    dit: DiTConfig = field(default_factory=DiTConfig)
    objective: Literal["flow", "ddpm"] = "flow"
    flow: FlowConfig = field(default_factory=FlowConfig)
    ddpm: DDPMConfig = field(default_factory=DDPMConfig)
    action_dropout: float = 0.0
    """Probability that a training frame gets the null action (the paper's code: 0.1)."""
    alignment: Literal["incoming", "outgoing"] = "incoming"
    """A frame is conditioned on the action that led to it, or on the one taken from it (the paper's code). Incoming
    lets K candidate actions share the whole context."""
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(steps=450, batch_size=30, lr=3e-3, final_lr=0.02, ema=0.995)
    )


@dataclass(frozen=True)
class PlanConfig:
    """Search for actions over the world model, started from standing still, inside the action bounds."""

    planner: str = field(default="cem", metadata=known_by(lambda name: name.rpartition("/")[2]))
    """cem, mppi, or path/to/file.py:function."""
    horizon: int = 1
    """Actions of a plan, one a frame."""
    candidates: int = 64
    iterations: int = 4
    elites: int = 8
    """cem: candidates that the next iteration is fitted to."""
    temperature: float = 0.5
    """mppi: of the candidates' weights, in standard deviations of their costs; less is greedier."""
    std: float = 0.4
    """Initial standard deviation in normalised action units (the bounds are at -1 and 1)."""
    min_std: float = 0.02
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(steps=1))
    """Of an imagined frame; one step is the model's mean prediction, whose distances carry no sampling noise."""
    windows: int = 48
    """Held-out windows that an evaluation plans for."""
    memory_mb: float = field(default=128.0, metadata=OPERATIONAL)
    """Memory for imagined futures; more than fit are rolled out in turn, which changes a result by rounding at most.
    Enough to keep a CPU busy; a GPU wants thousands."""


@dataclass(frozen=True)
class ProbeConfig:
    """Probes: trained on encoder latents of the training episodes, applied frozen to generated ones."""

    width: int = 48
    """Channels of its convolutions: the capacity of a probe, the same for every space."""
    grid: int = 8
    """Cells a side that a probe reads: finer latents are folded into channels, coarser ones are interpolated."""
    channels: int = 256
    """Channels of a cell that it reads; of more, as many random mixtures."""
    noise: float = 0.05
    """Standard deviation of the noise added to the (normalised) latents in training."""
    success_noise: float = 1.0
    """The same for the success probe: of labels there is one an episode, and it would learn these by heart."""
    success_frames: int = 10
    """Frames of the clip, at an episode's end, of which the success probe reads the first, the middle and the last.
    Shorter episodes are left out."""
    horizons: tuple[int, ...] = (1, 4)
    """Inverse dynamics over this many kept frames."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(steps=400, batch_size=96, lr=4e-3))


@dataclass(frozen=True)
class EvalConfig:
    """What is measured on the held-out episodes."""

    clips: int = 48
    context: int = 2
    """Real frames that a rollout starts from."""
    future: int = 8
    """Generated frames."""
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(steps=4))
    encoder_windows: int = 256
    """Held-out windows (or frames) for metrics on encoder latents."""
    one_step_windows: int = 512
    """Held-out windows for the one-step error and for telling the true action from others."""
    other_actions: int = 7
    """Actions of other episodes that the true one is told from."""
    plan: PlanConfig = field(default_factory=lambda: PlanConfig(candidates=24, iterations=3, elites=6, windows=160))
    """A coarser search than the planner's own default: more windows say more about a space than closer plans."""
    plan_horizons: tuple[int, ...] = ()
    """Lengths of the plans that are measured; empty: plan.horizon alone."""
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    seed: int = 1234


@dataclass(frozen=True)
class VerdictConfig:
    """When a difference counts."""

    resamples: int = 2000
    confidence: float = 0.95
    min_room: float = 4.0
    """A metric has a score if ceiling and floor are at least so many standard errors of their difference apart. At 4
    the scale distorts a score by about 1/16, and no draw comes near a room of zero."""
    training_noise: str = ""
    """Record of training noise for runs with a single seed, written by ``rslwm report RUN --training-noise FILE`` from
    a run with several; empty takes a shipped one of the same configuration. Of another configuration none is used."""
    seed: int = 99


@dataclass(frozen=True)
class ScalingConfig:
    """What of a world model follows from its latent space and its size, where a study has several of either."""

    tokens: int = 0
    """Tokens of a frame and view: dit.patch follows from the latent grid, so that every space has as many; 0 takes
    dit.patch as it is."""
    wide_from: int = 0
    """Latents of fewer channels do without dit.wide_head."""
    optim: dict[str, OptimConfig] = field(default_factory=dict)
    """Training of a size, by its name, where that isn't world_model.optim."""


@dataclass(frozen=True)
class DataSizeConfig:
    """How much there is of data that aren't at hand yet. Only ``--estimate`` reads it."""

    episodes: int = 0
    """0: as many as the simulator records."""
    steps: int = 0
    """Of an episode, on average; 0: as many as the simulator's longest."""


DEMO_LATENTS = ("small-vae", "small-vavae", "small-cosmos", "small-vjepa+16", "small-dino+16", "small-siglip+16")


@dataclass(frozen=True)
class StudyConfig:
    """A comparison of latent spaces, whole."""

    latents: tuple[str, ...] = DEMO_LATENTS
    """Latent spaces: NAME, NAME+D (behind an S-VAE adapter to D channels), path/to/file.py:Class, each optionally as
    ALIAS=... and with @SEED behind it."""
    seeds: int = 1
    """Trainings of every space; encoders, world models and probes all change with the seed."""
    stream_above_kb: float = 0.0
    """Latents of which a frame takes more aren't stored, but encoded anew whenever they are read; 0 stores all."""
    sizes: tuple[str, ...] = ()
    """Sizes of the transformer (S, B, L, XL), each a comparison of its own; empty: world_model.dit as it is."""
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    data_size: DataSizeConfig = field(default_factory=DataSizeConfig)
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    note: str = ""
    """A sentence that the report prints above the verdict."""
