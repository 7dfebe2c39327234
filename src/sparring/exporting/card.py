"""The model card: what is known of an exported generator, and room for what only its author knows (Mitchell et al. 2019)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sparring.recipe import Recipe
from sparring.run import Run
from sparring.training.checkpoint import Damaged, list_checkpoints
from sparring.training.privacy import guarantee

DRAWN = 16  # samples that the snippet draws
LISTED = 20  # names of classes that a table has room for


def model_card(
    run: Run, description: Mapping[str, Any], file: str, format: str, quantize: str, facts: Mapping[str, Any]
) -> str:
    """Markdown: what it is, how to load it, data, training, figures; nothing that was not recorded or measured."""
    recipe = Recipe.parse(description["recipe"])
    data, train = description["data"], recipe.train
    parts = [
        f"# A generator, trained by `{recipe.name}`",
        f"`{recipe.name}`: {recipe.summary or 'a generative adversarial network'}. Exported from `{run.folder.name}` by `sparring export`; "
        "everything but the sections for its author was recorded in training or measured at export.",
        "## The model",
        _table(("", ""), [
            ("recipe", f"`{recipe.name}`" + (f" ({recipe.paper})" if recipe.paper else "")),
            ("kind of data", recipe.domain),
            ("file", f"`{file}`, {facts['bytes']:,} bytes"),
            ("parameters", f"{description['parameters']:,}"),
            ("checkpoint", f"step {description['step']:,}" + _planned(train.steps)),
            ("seed", train.seed),
            *([("privacy", guarantee(description["privacy"]))] if description.get("privacy") else []),
            *([("ONNX opset", facts["opset"])] if "opset" in facts else []),
            *([("quantized", quantize)] if quantize != "none" else []),
        ]),
        _table(("", "name", "type", "shape", "values"), [
            *(("input", *_port(each)) for each in description["inputs"]), ("output", *_port(description["output"])),
        ]),
        "## How to load it",
        f"```python\n{SNIPPETS[format](file, description)}```",
        "## Intended use",
        "_To be filled in by the author: what it is for, what it must not be used for, its licence._",
        "## The data",
        _table(("", ""), [
            ("source", f"`{_names([str(data['source'])])}`"), ("fingerprint", f"`{data['fingerprint']}`"), ("samples", f"{data['count']:,}"),
            ("shape of one", _shape(data["shape"])), ("classes", _names(data["classes"]) or "none"),
        ]),
        "_To be filled in by the author: where the data is from, whom or what it shows, what it lacks._",
        "## Agreement with PyTorch",
        *_measured(facts, quantize),
        "## Figures",
        *_figures(run, description["step"]),
        "## The recipe",
        f"```yaml\n{recipe.to_yaml()}```",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _measured(facts: Mapping[str, Any], quantize: str) -> list[str]:
    form = "it" if quantize == "none" else "the model that was quantized"
    lines = [
        f"Largest difference between the samples of {form} and PyTorch's, in units of max(1, largest |sample|): "
        f"{facts['difference']:.2g}."
    ]
    if "milliseconds" in facts:
        rows = [
            (each, f"{value:g}", f"{facts['milliseconds_in_pytorch'][each]:g}")
            for each, value in facts["milliseconds"].items()
        ]
        lines.append(_table(("batch size", "ms in onnxruntime", "ms in PyTorch"), rows))
        lines.append("Times are medians on the exporting machine's processor, and another machine has others.")
    if "quality_loss" in facts:
        loss, before = facts["quality_loss"], facts["unquantized"]
        lines.append(_table(("what quantizing changed", ""), [
            ("bytes", f"{before['bytes']:,} before, {facts['bytes']:,} after"),
            *((f"ms for a batch of {each}", f"{value:g} before, {facts['milliseconds'][each]:g} after")
              for each, value in before["milliseconds"].items()),
            ("mean absolute difference of samples", f"{loss['mean_absolute_difference']:.3g}"),
            (f"Fréchet distance in {loss['features']} to the samples before",
             f"{loss['frechet_distance']:.4g}; two draws of the model before differ by {loss['frechet_of_two_draws']:.4g}"),
        ]))  # fmt: skip
        lines.append(f"Measured on {loss['samples']} samples of the same latents.")
    return lines


def _figures(run: Run, step: int) -> list[str]:
    """What the training found of its best checkpoint, and what the last evaluation did."""
    lines = []
    try:
        best = list_checkpoints(run.checkpoints)[-1].state()["state"]["best"]
    except Damaged:  # only the newest knows which was best; another one is being exported
        best = {}
    if "metric" in best:
        lines.append(f"In training, `{best['metric']}` was {best['value']:.4g} at step {best['step']:,}, its best.")
    try:
        found = json.loads((run.folder / "evaluation" / "figures.json").read_text())
        rows = [
            (f"`{name}`", f"{each['value']:.4g}", _interval(each.get("interval")),
             "higher" if each["higher_is_better"] else "lower", each["features"], f"{each['fake']:,} / {each['real']:,}")
            for name, each in found["metrics"].items()
            if each["value"] is not None
        ]  # fmt: skip
        measured = f"By `sparring evaluate` against `{found['data']}`, at step {found['checkpoint']:,}"
        other = "" if found["checkpoint"] == step else f" (this file is of step {step:,})"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # not evaluated yet, or not by this version: the card claims nothing then
    else:
        lines.append(f"{measured}{other}:")
        lines.append(_table(("figure", "value", "95 % interval", "better", "features", "fake / real"), rows))
    return lines or ["None were measured: `sparring evaluate` measures them, and exporting again writes them here."]


def _onnx(file: str, description: Mapping[str, Any]) -> str:
    draw = {"float32": "rng.standard_normal(({n}, {size}), dtype=np.float32)", "int64": "rng.integers(0, {size}, {n})"}
    uniform = "rng.uniform(-1, 1, ({n}, {size})).astype(np.float32)"
    return (
        "import numpy as np\nimport onnxruntime\n\n"
        f'session = onnxruntime.InferenceSession("{file}")\n'
        f"rng = np.random.default_rng(0)\n{_inputs(description, draw, uniform)}"
        f"(samples,) = session.run(None, inputs)  # {_result(description)}\n"
    )


def _pt2(file: str, description: Mapping[str, Any]) -> str:
    return (
        "import torch\n\n"
        f'generator = torch.export.load("{file}").module()\n{_inputs(description, *TORCH)}'
        f"with torch.no_grad():\n    samples = generator(**inputs)  # {_result(description)}\n"
    )


def _safetensors(file: str, description: Mapping[str, Any]) -> str:
    return (
        "import torch\n\nfrom sparring.exporting.weights import load_generator\n\n"
        f'generator = load_generator("{file}")\n{_inputs(description, *TORCH)}'
        f"samples = generator(**inputs)  # {_result(description)}\n"
    )


TORCH = (
    {"float32": "torch.randn({n}, {size})", "int64": "torch.randint({size}, ({n},))"},
    "torch.rand({n}, {size}) * 2 - 1",
)
SNIPPETS: dict[str, Callable[[str, Mapping[str, Any]], str]] = {
    "onnx": _onnx, "pt2": _pt2, "safetensors": _safetensors,
}  # fmt: skip


def _inputs(description: Mapping[str, Any], draw: Mapping[str, str], uniform: str) -> str:
    lines = []
    for each in description["inputs"]:
        if "trained_on" in each:
            shape = f"({DRAWN}, {each['shape'][1]}, {', '.join(map(str, each['trained_on']))})"
            zeros = "torch.zeros({})" if "torch" in uniform else "np.zeros({}, np.float32)"
            lines.append(f'    "{each["name"]}": {zeros.format(shape)},  # in their place: {each["values"]}\n')
            continue
        if len(each["shape"]) == 3:
            shape = ", ".join(map(str, [DRAWN, *each["shape"][1:]]))
            zeros = f"torch.zeros({shape})" if "torch" in uniform else f"np.zeros(({shape}), np.float32)"
            lines.append(f'    "{each["name"]}": {zeros},  # in their place: {each["values"]}\n')
            continue
        template = uniform if "uniform" in each.get("distribution", "") else draw[each["dtype"]]
        size = len(each["names"]) if "names" in each else each["shape"][1]
        comment = f"  # {_names(each['names'])}" if "names" in each else ""
        lines.append(f'    "{each["name"]}": {template.format(n=DRAWN, size=size)},{comment}\n')
    return "inputs = {\n" + "".join(lines) + "}\n"


def _result(description: Mapping[str, Any]) -> str:
    shape = ", ".join(str(each) for each in [DRAWN, *description["output"]["shape"][1:]])
    return f"float32 ({shape})"


def _port(port: Mapping[str, Any]) -> tuple[str, str, str, str]:
    values = port.get("distribution") or port.get("values") or f"0 … {len(port['names']) - 1}: {_names(port['names'])}"
    return f"`{port['name']}`", port["dtype"], _shape(port["shape"]), values


def _names(names: Sequence[str]) -> str:
    """Names in one line; a name may hold anything, so what would end the line, the cell or the code goes."""
    clean = [" ".join(name.replace("|", "/").replace("`", "'").split()) for name in names[:LISTED]]
    return ", ".join(clean) + (f", … ({len(names):,} in all)" if len(names) > LISTED else "")


def _shape(shape: Iterable[object]) -> str:
    return " × ".join(str(each) for each in shape)


def _planned(steps: int | None) -> str:
    return f" of {steps:,} planned" if steps else ""


def _interval(interval: Sequence[float] | None) -> str:
    return f"[{interval[0]:.4g}, {interval[1]:.4g}]" if interval else "—"


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
