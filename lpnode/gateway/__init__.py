"""The other side of the wire: what a gateway asks a node, and how."""
