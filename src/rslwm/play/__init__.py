"""Driving world models by hand, the true simulator beside them: a session, the server that offers it, and its page."""
