"""Trickle over HTTP: the data plane on HTTP/1.1, and the same operations for HTTP/2."""

from lpnode.edge.trickle.connection import TrickleConnection
from lpnode.edge.trickle.routes import TrickleRoutes

__all__ = ["TrickleConnection", "TrickleRoutes"]
