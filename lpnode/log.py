"""Logging set-up, and the context that says which session a line belongs to."""

from contextvars import ContextVar

session_id: ContextVar[str] = ContextVar("session_id", default="")
"""Manifest id of the session whose task is running; set once when the session's tasks start."""
