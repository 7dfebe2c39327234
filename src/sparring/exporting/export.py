"""The verb: a run's generator as a file for other programs, with a description and a model card beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparring.errors import UserError, nearest
from sparring.exporting.card import model_card
from sparring.exporting.function import describe, generator_function, with_plain_weights
from sparring.exporting.onnx_model import require_libraries, to_onnx
from sparring.exporting.program import settle_sizes, to_program
from sparring.exporting.quantize import QUANTIZERS
from sparring.exporting.weights import to_safetensors
from sparring.files import write_json, write_whole
from sparring.run import Run
from sparring.trained import guarantee_of, load

FORMATS = ("onnx", "safetensors", "pt2")
QUANTIZE = ("none", *QUANTIZERS)


@dataclass
class ExportResult:
    """What an export wrote, and what was measured of it.

    files: the generator, its description (JSON), the model card. step: of the checkpoint.
    facts: `bytes`; `difference` from PyTorch's samples, in units of max(1, largest |sample|); for ONNX also `opset`,
    `milliseconds` by batch size in onnxruntime and in PyTorch, and for a quantized one `unquantized` and `quality_loss`.
    """

    run: str
    format: str
    quantize: str
    step: int
    files: list[str]
    facts: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {**{key: value for key, value in vars(self).items() if key != "facts"}, **self.facts}


def export(
    run: str | Path,
    *,
    format: str = "onnx",
    out: str | Path | None = None,
    quantize: str = "none",
    checkpoint: str | int = "best",
    trust: bool = False,
) -> ExportResult:
    """Write the averaged generator of a run for other programs; nothing that does not agree with PyTorch is left behind.

    format: `onnx`, `pt2` (a torch.export program) or `safetensors` (weights, for this package).
    out: a folder; None: `RUN/export`. It gets `generator.FORMAT`, `generator.FORMAT.json` and `MODEL_CARD.md`.
    quantize: of an ONNX model: `int8` or `bf16`, with its loss of quality measured.
    checkpoint, trust: as in `load`. Raises UserError for what the user can mend, libraries that are missing among it.
    """
    for option, value, known in (("--format", format, FORMATS), ("--quantize", quantize, QUANTIZE)):
        if value not in known:
            raise UserError(f"unknown {option} {value!r}{nearest(value, known)}; there are {', '.join(known)}")
    if quantize != "none" and format != "onnx":
        raise UserError(f"--quantize {quantize} is for ONNX models: leave it out, or use --format onnx")
    if format == "onnx":
        require_libraries()
    opened = Run.open(run)
    # On the CPU, where the forms can be compared whatever the run was trained on.
    trained = load(run, checkpoint=checkpoint, device="cpu", trust=trust)
    function = generator_function(trained)
    if format != "safetensors":
        function = with_plain_weights(function)
        settle_sizes(function)
    description = describe(trained, function, opened.read_spec()[1]) | {"privacy": guarantee_of(run, checkpoint)}
    if format == "safetensors":
        content, facts = to_safetensors(function, description)
    elif format == "pt2":
        content, facts = to_program(function, description)
    else:
        content, facts = to_onnx(function, description, quantize, trained.domain, trained.spec)
    facts = {"bytes": len(content), **facts}

    name = f"generator.{format}" if quantize == "none" else f"generator.{quantize}.{format}"
    file = (Path(out) if out else opened.folder / "export") / name
    beside, card = file.with_name(f"{name}.json"), file.with_name("MODEL_CARD.md")
    text = model_card(opened, description, name, format, quantize, facts)
    write_whole(file, content)
    write_json(beside, {**description, "file": name, "format": format, "quantize": quantize, "measured": facts})
    write_whole(card, text)
    return ExportResult(str(run), format, quantize, trained.step, [str(file), str(beside), str(card)], facts)
