"""Compiled modules. Only the wrappers in ``media``, ``pipeline`` and ``protocol`` import them."""
