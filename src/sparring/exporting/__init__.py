"""Trained generators for other programs: ONNX, torch.export programs, weights; each checked against PyTorch."""
