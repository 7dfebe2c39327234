"""The generator as an ONNX model, for every runtime that reads ONNX; checked with onnxruntime before it is written."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from sparring.core.exportable import Exportable
from sparring.core.game import DataSpec
from sparring.domains import Domain
from sparring.errors import UserError, missing_extra
from sparring.exporting.agreement import SEED, Form, eager, latency, quality_loss, require_agreement
from sparring.exporting.program import trace
from sparring.exporting.quantize import QUANTIZERS

OPSET = 18
LARGEST = 2**31 - 1  # bytes of one protobuf message


def require_libraries() -> None:
    """Raise UserError where what writing and checking ONNX takes is not installed."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise missing_extra(package, "export", "exporting to ONNX") from error


def to_onnx(
    function: Exportable, description: Mapping[str, Any], quantize: str, domain: Domain, spec: DataSpec
) -> tuple[bytes, dict[str, Any]]:
    """The content of an `.onnx` file, with the description in its metadata, and what was measured of it.

    The facts: opset, agreement with PyTorch, milliseconds a batch in onnxruntime and in PyTorch; for a quantized model
    also its loss of quality, and the size and the speed of the model before. Raises UserError where the model (before
    it was quantized) does not agree.
    """
    content = _with_metadata(_translate(function), description)
    form = in_onnxruntime(content)
    facts: dict[str, Any] = {"opset": OPSET, "difference": require_agreement(function, form, "ONNX model")}
    facts["milliseconds"] = latency(function, form)
    facts["milliseconds_in_pytorch"] = latency(function, eager(function))
    if quantize == "none":
        return content, facts
    smaller = _with_metadata(QUANTIZERS[quantize](content, function), {**description, "quantize": quantize})
    form = in_onnxruntime(smaller)
    before = {"bytes": len(content), "milliseconds": facts["milliseconds"]}
    loss = quality_loss(function, form, domain, spec)
    return smaller, {**facts, "milliseconds": latency(function, form), "unquantized": before, "quality_loss": loss}


def in_onnxruntime(content: bytes) -> Form:
    """An ONNX model as onnxruntime runs it on the CPU, with as many threads as PyTorch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def call(inputs: Mapping[str, Tensor]) -> Tensor:
        (samples,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        return torch.from_numpy(samples)

    return call


def _translate(function: Exportable) -> bytes:
    import onnx

    inputs = function.draw(2, seed=SEED)
    program = trace(function)
    try:
        with torch.no_grad(), _quiet():
            translated = torch.onnx.export(
                program, (), kwargs=inputs, input_names=list(inputs), output_names=["samples"], opset_version=OPSET,
                dynamo=True, verbose=False,
            )  # fmt: skip
            assert translated is not None
            model: onnx.ModelProto = translated.model_proto
    except Exception as error:  # torch.onnx raises classes of its own private modules
        first = str(error).strip().partition("\n")[0]
        raise UserError(
            f"this generator cannot be written as ONNX ({type(error).__name__}: {first}); use --format pt2 or safetensors"
        ) from error
    if model.ByteSize() > LARGEST:
        raise UserError(
            "the generator is larger than the 2 GiB that an ONNX file holds; use --format pt2 or safetensors"
        )
    _name_batch(model)
    return model.SerializeToString()


def _name_batch(model: Any) -> None:
    """Call the batch's dimension `batch`, where the tracer has numbered it."""
    (own,) = {each.type.tensor_type.shape.dim[0].dim_param for each in model.graph.input}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param == own:
                size.dim_param = "batch"


def _with_metadata(content: bytes, description: Mapping[str, Any]) -> bytes:
    import onnx

    model = onnx.load_from_string(content)
    values = {"sparring": json.dumps(description)}
    for each in description["inputs"]:
        values[each["name"]] = each.get("distribution") or each.get("values") or "one of: " + ", ".join(each["names"])
    values["samples"] = description["output"]["values"]
    onnx.helper.set_model_props(model, values)
    return model.SerializeToString()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the translator's talk of its own progress, which is none of the user's business."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
