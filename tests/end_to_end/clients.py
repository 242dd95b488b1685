"""Stock clients of a whole node."""

import ssl

import grpc

from lpnode.gateway.http2_post import gateway_tls
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


def http1_tls() -> ssl.SSLContext:
    """Takes any certificate and offers HTTP/1.1 alone."""
    context = gateway_tls()
    context.set_alpn_protocols(["http/1.1"])
    return context
