"""What is recorded in the embedded simulator."""

from __future__ import annotations

from dataclasses import dataclass


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
