"""How to read the page."""

from rslwm.report.sections import Section

SECTION = Section("How to read it", 71, lambda run: {})
