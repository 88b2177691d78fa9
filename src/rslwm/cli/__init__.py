"""The command line; thin: flags are generated from dataclasses, the work is done by the packages below."""

from rslwm.cli.main import main as main
