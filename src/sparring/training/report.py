"""Report: one page that shows a run, `report.html`, without a script and without anything from elsewhere.

Class names, file names and notes come from users, so every word goes through `_text` before it is part of the page.
"""

from __future__ import annotations

import base64
import html
import io
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from PIL import Image

from sparring.errors import UserError
from sparring.files import write_whole
from sparring.run import Run
from sparring.training.curves import draw_curves
from sparring.training.privacy import guarantee

STRIP = 8  # sheets in the strip over time
STRIP_SIDE, LARGE_SIDE = 260, 2000  # pixels
LISTED = 1000  # broken files that are named
LARGEST_PNG = 2_000_000  # bytes; a sheet beyond it is embedded as JPEG


def write_report(run: Run, summary: Mapping[str, Any]) -> None:
    """Draw the curves anew and write the page, in one atomic step. Raises OSError where the disk cannot take them.

    summary: what the trainer knows; every key is optional. steps, seconds, samples_per_second, device, precision,
        parameters {player: count}, seed, data {source, count, shape, classes, broken [[name, reason]]},
        losses {name: value}, metrics {name: value}, evaluation {features, share of the time}, best (a step), incidents [text], notes [text].
    """
    name = _recipe_name(run)
    data: Mapping[str, Any] = summary.get("data") or {}
    title = " · ".join(str(part) for part in (name, data.get("source")) if part)
    lines = run.read_metrics()
    draw_curves(lines, run.curves, title)
    sheets = sorted(run.samples.glob("step-*.png"))
    sections = [
        _header(name, data.get("source"), summary),
        _tiles(summary),
        _messages("Incidents", "alarm", summary.get("incidents") or []),
        _messages("Notes", "note", summary.get("notes") or []),
        _latest_sheet(sheets),
        _strip(sheets),
        _picture_section("Curves", run.curves, "Losses, logits, gradients and figures over the steps") if lines else "",
        _columns(
            _table("Last losses", _figures(summary.get("losses"))),
            _table("Figures", _evaluation(summary)),
            _table("Parameters", _figures(summary.get("parameters"))),
            _table("Data", _data_rows(data)),
            _table("Privacy", _privacy(summary.get("privacy"))),
        ),
        _classes(data.get("classes") or []),
        _broken(data.get("broken") or []),
        _recipe(run),
        _footer(),
    ]
    page = PAGE.format(title=_text(title or "Sparring"), style=STYLE, body="\n".join(filter(None, sections)))
    # File names that are not UTF-8 reach Python as lone surrogates, which cannot be encoded.
    write_whole(run.report, page.encode("utf-8", "backslashreplace"))


def _header(name: str, source: object, summary: Mapping[str, Any]) -> str:
    best = summary.get("best")
    facts = [
        f"trained on {source}" if source else "",
        f"best checkpoint: step {_figure(best)}" if best is not None else "",
    ]
    line = " · ".join(_text(fact) for fact in facts if fact)
    return f"<header><h1>{_text(name)}</h1><p>{line}</p></header>"


def _tiles(summary: Mapping[str, Any]) -> str:
    show: dict[str, tuple[str, Callable[[Any], str]]] = {
        "steps": ("steps", lambda value: f"{value:,}"),
        "seconds": ("time", _duration),
        "samples_per_second": ("samples / s", lambda value: f"{value:,.0f}" if value >= 10 else f"{value:.2f}"),
        "device": ("device", str),
        "precision": ("precision", str),
        "seed": ("seed", str),
    }
    tiles = [(label, form(summary[key])) for key, (label, form) in show.items() if summary.get(key) is not None]
    if summary.get("parameters"):
        tiles.append(("parameters", _short(sum(summary["parameters"].values()))))
    cells = "".join(f"<div><dt>{_text(label)}</dt><dd>{_text(value)}</dd></div>" for label, value in tiles)
    return f'<dl class="tiles">{cells}</dl>' if cells else ""


def _messages(heading: str, kind: str, messages: Sequence[object]) -> str:
    items = "".join(f"<li>{_text(message)}</li>" for message in messages)
    return f'<section class="{kind}"><h2>{heading}</h2><ul>{items}</ul></section>' if items else ""


def _latest_sheet(sheets: Sequence[Path]) -> str:
    for sheet in reversed(sheets):
        section = _picture_section(f"Samples at step {_step(sheet)}", sheet, "Generated samples", LARGE_SIDE, "sheet")
        if section:
            return section
    return ""


def _strip(sheets: Sequence[Path]) -> str:
    """Sheets at even distances, the first and the last among them."""
    if len(sheets) < 2:
        return ""
    count = min(STRIP, len(sheets))
    places = [round(index * (len(sheets) - 1) / (count - 1)) for index in range(count)]
    figures = []
    for sheet in (sheets[place] for place in places):
        source = _embedded(sheet, STRIP_SIDE)
        if source:
            caption = f"step {_step(sheet)}"
            figures.append(f'<figure><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>')
    return f'<section><h2>Over time</h2><div class="strip">{"".join(figures)}</div></section>' if figures else ""


def _picture_section(heading: str, path: Path, alt: str, side: int = LARGE_SIDE, kind: str = "curves") -> str:
    source = _embedded(path, side)
    if not source:
        return ""
    image = f'<img class="{kind}" src="{source}" alt="{_text(alt)}">'
    return f'<section><h2>{_text(heading)}</h2><div class="scroll">{image}</div></section>'


def _embedded(path: Path, side: int) -> str:
    """A picture as a data URL, no larger than `side`; empty where the file is missing or damaged."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as file:
            picture = file.convert("L" if file.mode == "L" else "RGB")
    except (OSError, SyntaxError):  # PIL's word for a damaged PNG is SyntaxError
        return ""
    kind = "png"
    if max(picture.size) > side or len(content) > LARGEST_PNG:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        buffer, kind = io.BytesIO(), "jpeg"
        picture.save(buffer, "JPEG", quality=90)
        content = buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _columns(*tables: str) -> str:
    content = "".join(tables)
    return f'<div class="columns">{content}</div>' if content else ""


def _table(heading: str, rows: Mapping[str, str]) -> str:
    cells = "".join(f"<tr><th>{_text(key)}</th><td>{_text(value)}</td></tr>" for key, value in rows.items())
    return f"<section><h2>{heading}</h2><table>{cells}</table></section>" if cells else ""


def _data_rows(data: Mapping[str, Any]) -> dict[str, str]:
    rows = {}
    if data.get("source"):
        rows["source"] = str(data["source"])
    if data.get("count") is not None:
        rows["samples"] = f"{data['count']:,}"
    if data.get("shape"):
        rows["shape"] = " × ".join(map(str, data["shape"]))
    if data.get("classes"):
        rows["classes"] = str(len(data["classes"]))
    if "broken" in data:
        rows["skipped as broken"] = f"{len(data['broken'] or []):,}"
    return rows


def _classes(classes: Sequence[object]) -> str:
    tags = "".join(f"<li>{_text(name)}</li>" for name in classes)
    return _details(f"Classes ({len(classes):,})", f'<ul class="tags">{tags}</ul>') if tags else ""


def _broken(broken: Sequence[Sequence[object]]) -> str:
    if not broken:
        return ""
    rows = [f"<tr><th>{_text(name)}</th><td>{_text(reason)}</td></tr>" for name, reason in broken[:LISTED]]
    more = f"<p>… and {len(broken) - LISTED:,} more</p>" if len(broken) > LISTED else ""
    return _details(f"Broken files that were skipped ({len(broken):,})", f"<table>{''.join(rows)}</table>{more}")


def _recipe(run: Run) -> str:
    try:
        content = run.recipe_file.read_text(errors="replace")
    except OSError:
        return ""
    return _details("Recipe, every default filled in", f"<pre>{_text(content)}</pre>")


def _details(heading: str, content: str) -> str:
    return f"<details><summary>{_text(heading)}</summary>{content}</details>"


def _recipe_name(run: Run) -> str:
    try:
        return run.read_recipe().name
    except (UserError, OSError):
        return run.folder.name


def _footer() -> str:
    versions = [f"{package} {_version(package)}" for package in ("sparring", "torch")]
    versions += [f"Python {platform.python_version()}", platform.platform()]
    return f"<footer>{_text(' · '.join(versions))}</footer>"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _privacy(facts: Mapping[str, Any] | None) -> dict[str, str]:
    """What a private training guarantees."""
    return {"guarantee": guarantee(facts).partition(": ")[2]} if facts else {}


def _evaluation(summary: Mapping[str, Any]) -> dict[str, str]:
    """The last figures, the space that they were measured in, and what measuring took of the time."""
    rows = _figures(summary.get("metrics"))
    evaluation = summary.get("evaluation") or {}
    if rows and evaluation.get("features"):
        rows["measured in"] = str(evaluation["features"])
    if rows and evaluation.get("share") is not None:
        rows["measuring took"] = f"{evaluation['share']:.1%} of the time"
    return rows


def _figures(values: Mapping[str, Any] | None) -> dict[str, str]:
    return {_words(name): _figure(value) for name, value in (values or {}).items()}


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _words(name: str) -> str:
    """`loss/discriminator/adversarial` → `discriminator · adversarial`."""
    parts = name.split("/")
    return " · ".join(parts[1:] if len(parts) > 1 and parts[0] in {"loss", "metric"} else parts).replace("_", " ")


def _figure(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _short(count: int) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def _duration(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour} h"
    if hours:
        return f"{hours} h {minute:02} min"
    return f"{minutes} min {second:02} s" if minutes else f"{seconds:.1f} s"


def _step(sheet: Path) -> str:
    digits = sheet.stem.rpartition("-")[2]
    return f"{int(digits):,}" if digits.isdecimal() else digits


STYLE = """
:root { color-scheme: light dark; --ink: #1c2027; --soft: #626a76; --page: #fbfbfc; --card: #ffffff; --line: #e3e6ea;
  --accent: #0072b2; --alarm: #b3261e; --alarm-page: #fdf0ef; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ec; --soft: #9aa3af; --page: #14171b; --card: #1c2025;
  --line: #30363e; --accent: #6cb8ea; --alarm: #ffb4ab; --alarm-page: #3a1f1d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
main { max-width: 1080px; margin: 0 auto; padding: 2.5rem 1.25rem 3rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.02rem; margin: 0 0 .7rem; }
header p { margin: .3rem 0 0; color: var(--soft); }
section, details { margin-top: 2.2rem; }
.tiles { display: flex; flex-wrap: wrap; gap: 1px; margin: 1.6rem 0 0;
  background: var(--line); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
.tiles div { flex: 1 1 8rem; background: var(--card); padding: .75rem .95rem; }
.tiles dt { color: var(--soft); font-size: .8rem; }
.tiles dd { margin: .1rem 0 0; font-size: 1.12rem; font-weight: 600; font-variant-numeric: tabular-nums; }
img { display: block; max-width: 100%; height: auto; border-radius: 8px; }
img.sheet { width: min(100%, 760px); }
.scroll { overflow-x: auto; }
img.curves { width: 100%; min-width: 680px; background: #fff; padding: .6rem; border: 1px solid var(--line); }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)); gap: .8rem; }
figure { margin: 0; }
figure img { width: 100%; border-radius: 5px; }
figcaption { color: var(--soft); font-size: .8rem; margin-top: .3rem; font-variant-numeric: tabular-nums; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); column-gap: 2.5rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th { text-align: left; font-weight: 400; color: var(--soft); padding: .35rem 1.2rem .35rem 0; vertical-align: top; }
td { text-align: right; padding: .35rem 0; font-variant-numeric: tabular-nums; vertical-align: top; }
tr { border-bottom: 1px solid var(--line); }
.alarm, .note { border-left: 4px solid var(--accent); border-radius: 6px; padding: .9rem 1.1rem;
  background: var(--card); }
.alarm { border-color: var(--alarm); background: var(--alarm-page); }
.alarm h2 { color: var(--alarm); }
.alarm h2, .note h2 { margin-bottom: .3rem; }
.alarm ul, .note ul { margin: 0; padding-left: 1.1rem; }
details { border-top: 1px solid var(--line); padding-top: .9rem; }
details + details { margin-top: .9rem; }
summary { cursor: pointer; font-weight: 600; }
details table, details pre, .tags { margin: .9rem 0 0; }
details td { text-align: left; }
details th { color: var(--ink); font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .85rem; }
.tags { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .4rem; }
.tags li { background: var(--card); border: 1px solid var(--line); border-radius: 999px; padding: .1rem .65rem;
  font-size: .88rem; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem; overflow: auto;
  font: .85rem/1.5 ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; overflow-wrap: normal; }
footer { margin-top: 2.5rem; color: var(--soft); font-size: .82rem; }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
