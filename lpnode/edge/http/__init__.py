"""Handlers of ordinary HTTP routes."""
