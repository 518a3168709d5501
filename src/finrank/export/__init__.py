"""Trained models as folders that other libraries load: adapters merged, weights in float32."""

from typing import Literal

Format = Literal["sentence-transformers", "sequence-classification", "onnx", "finrank"]
