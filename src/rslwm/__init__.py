"""rslwm measures in which latent space a robot's world model should live."""

__version__ = "0.1.0"
