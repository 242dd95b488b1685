"""What runs a model's networks: torch, ONNX Runtime, OpenVINO, TensorRT."""
