"""ONNX models with fewer bits, for edge devices."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from sparring.core.exportable import Exportable

if TYPE_CHECKING:
    import onnx

CALIBRATION, CALIBRATION_BATCH, SEED = 64, 8, 7


def to_int8(content: bytes, function: Exportable) -> bytes:
    """Weights (a scale for each channel) and activations as 8-bit integers.

    Static quantisation: the range of every activation is measured on samples drawn as the recipe draws them. Dynamic
    quantisation, which measures it at every call, has no fast convolutions and no transposed ones at all.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    logger = logging.getLogger()
    level = logger.level
    with tempfile.TemporaryDirectory() as folder:  # its functions take paths only
        before, after = Path(folder, "before.onnx"), Path(folder, "after.onnx")
        before.write_bytes(content)
        logger.setLevel(logging.ERROR)  # it recommends a preparation that has been made
        try:
            quantize_static(
                str(before), str(after), _Calibration(function), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
            )  # fmt: skip
        finally:
            logger.setLevel(level)
        return after.read_bytes()


def to_bf16(content: bytes, function: Exportable) -> bytes:
    """Weights stored with 16 bits, rounded to the nearest bfloat16; arithmetic stays 32-bit.

    Runtimes widen the weights once, when they load the model: half the size at the same speed, on devices without
    bfloat16 arithmetic too. Biases and the statistics of norms, which are small, keep 32 bits.
    """
    import onnx

    model = onnx.load_from_string(content)
    casts: list[onnx.NodeProto] = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        values = torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()).bfloat16()
        name = tensor.name
        tensor.CopyFrom(
            onnx.TensorProto(
                name=f"{name}.bf16", dims=tensor.dims, data_type=onnx.TensorProto.BFLOAT16,
                raw_data=values.view(torch.int16).numpy().astype("<i2").tobytes(),
            )
        )  # fmt: skip
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model.SerializeToString()


class _Calibration:
    """Inputs for the calibration, a batch at a time, as onnxruntime asks for them."""

    def __init__(self, function: Exportable) -> None:
        self.batches = iter(
            function.draw(CALIBRATION_BATCH, seed=SEED + index) for index in range(CALIBRATION // CALIBRATION_BATCH)
        )

    def get_next(self) -> Mapping[str, NDArray[Any]] | None:
        inputs = next(self.batches, None)
        return None if inputs is None else {name: np.asarray(value) for name, value in inputs.items()}


QUANTIZERS: dict[str, Callable[[bytes, Exportable], bytes]] = {"int8": to_int8, "bf16": to_bf16}
