"""Diffusion models: their files, their networks and what must be known of them."""
