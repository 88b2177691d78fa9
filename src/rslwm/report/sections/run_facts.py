"""The run: its command, data, spaces, versions and exact configuration."""

from rslwm.report.sections import Section

SECTION = Section("The run", 80, lambda run: {})
