"""The command line; thin: flags are generated from the configuration's dataclasses."""
