"""Stock clients of a whole node."""

import grpc

from lpnode.node import Node


def stock_channel(node: Node) -> grpc.aio.Channel:
    address = f"127.0.0.1:{node.listener.port}"
    if not node.config.is_tls:
        return grpc.aio.insecure_channel(address)
    root = (node.config.data_dir / "cert.pem").read_bytes()
    return grpc.aio.secure_channel(
        address,
        grpc.ssl_channel_credentials(root),
        [("grpc.ssl_target_name_override", "127.0.0.1")],
    )
