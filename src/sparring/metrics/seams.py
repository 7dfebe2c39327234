"""Seams: whether pictures that were put together from tiles show where these meet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def seam_ratio(
    picture: Tensor, rows: Sequence[int], columns: Sequence[int], *, span: int = 1, clear: int = 16
) -> float:
    """Mean absolute step across the lines where tiles meet, as a multiple of that across other lines: 1 shows none.

    picture: (C, H, W). rows, columns: the first row (column) after each line. span: places that a step goes over, evenly
    to both sides of the line: 1 sees an edge, more sees a change of tone that is faded over some width.
    clear: other lines are at least so far from the ones named; steps across rows and across columns are compared each
    with their own kind. NaN where the picture is flat or no other lines are left.
    """
    values = picture.double()
    at_lines, elsewhere = [], []
    for axis, lines in ((1, rows), (2, columns)):
        size = values.shape[axis]
        lines = [line for line in lines if span // 2 < line < size - span]
        if not lines or size <= span:
            continue
        ahead = values.narrow(axis, span, size - span)
        steps = (ahead - values.narrow(axis, 0, size - span)).abs().mean(dim=(0, 3 - axis))
        # Step number k goes from k to k + span: across the line L where k = L − (span + 1) // 2.
        places = torch.tensor([line - (span + 1) // 2 for line in lines])
        far = (torch.arange(len(steps))[:, None] - places).abs().min(dim=1).values > clear
        at_lines.append(steps[places])
        elsewhere.append(steps[far].mean().expand(len(places)))
    if not at_lines:
        return float("nan")
    inside = torch.cat(elsewhere).mean()
    return float(torch.cat(at_lines).mean() / inside) if inside > 0 else float("nan")
