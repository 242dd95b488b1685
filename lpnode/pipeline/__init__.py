"""Pipelines: frames in, frames out."""
