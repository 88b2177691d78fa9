"""What is recorded in the embedded simulator."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SimConfig:
    """What the embedded tabletop simulator records."""

    episodes: int = 320
    """How many episodes are recorded."""
    families: tuple[str, ...] = ("push", "pick", "stack", "drawer")
    """Kinds of task that the episodes show in turn: push to a zone, pick and place on a plate, stack, move a drawer."""
    cameras: tuple[str, ...] = ("front",)
    """Cameras that are recorded, of front, side and wrist."""
    image_size: int = 64
    """Height and width in pixels of a recorded frame."""
    noise: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3)
    """How much noise is added to the expert's actions, as a share of their bounds: one level an episode, in turn. Much
    noise makes it fail naturally, but what trembles is then known to fail."""
    mistakes: float = 0.35
    """In this share of the episodes the expert misjudges where its goal is."""
    giving_up: float = 0.15
    """In this share of the episodes the expert turns to something else before it is done."""
    distractors: int = 2
    """How many objects lie on the table that the task doesn't need."""
    min_steps: int = 34
    """The shortest episode in control steps. A length is drawn for each before it starts, whatever happens in it."""
    max_steps: int = 42
    """The longest episode in control steps."""
    shadows: bool = False
    """Whether shadows are drawn, which takes four times as long."""
    appearance: float = 0.0
    """How much light, colour of the table and places of the cameras differ from episode to episode; 1 is a lot."""
    dynamics_noise: float = 0.0
    """Standard deviation of what the robot does beside its action, as a share of the action's bounds."""
    seed: int = 0
    """Another number records other episodes."""
