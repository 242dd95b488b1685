"""gRPC methods of the public port, from message bytes to message bytes."""
