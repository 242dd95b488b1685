"""lpnode: a performance-first Livepeer AI orchestrator node in one process."""

from importlib.metadata import version

__version__ = version("lpnode")
