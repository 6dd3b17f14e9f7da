"""Records of runs: MLflow, TensorBoard, heartbeats."""
