from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparring.metrics.seams import seam_ratio


def ramp(size: int = 64) -> torch.Tensor:
    """Rises by 1 from row to row."""
    return torch.arange(size, dtype=torch.float64)[None, :, None].expand(3, size, size).clone()


@given(height=st.floats(0.5, 20), line=st.integers(20, 44), span=st.sampled_from([1, 2, 3, 8]))
def test_an_edge_of_known_height_gives_its_ratio(height: float, line: int, span: int) -> None:
    picture = ramp()
    picture[:, line:] += height
    assert seam_ratio(picture, [line], [], span=span) == pytest.approx((span + height) / span)


def test_a_picture_without_seams_gives_one() -> None:
    assert seam_ratio(ramp(), [20, 40], []) == pytest.approx(1)
    noise = torch.rand(3, 400, 400, generator=torch.Generator().manual_seed(0))
    assert seam_ratio(noise, [100, 200, 300], [100, 200, 300]) == pytest.approx(1, abs=0.02)


def test_columns_are_seen_as_rows_are() -> None:
    picture = ramp()
    picture[:, 30:] += 4
    assert seam_ratio(picture.transpose(1, 2), [], [30]) == seam_ratio(picture, [30], []) == pytest.approx(5)


def test_an_edge_beside_the_line_is_not_the_lines() -> None:
    picture = ramp()
    picture[:, 33:] += 4
    assert seam_ratio(picture, [30], []) == pytest.approx(1)


def test_a_faded_change_of_tone_shows_across_more_pixels() -> None:
    noise = torch.rand(1, 256, 256, generator=torch.Generator().manual_seed(0)) * 0.1
    noise += (
        torch.linspace(0, 1, 32)
        .repeat_interleave(1)
        .clamp(0, 1)
        .new_tensor([min(max((row - 112) / 32, 0.0), 1.0) for row in range(256)])[None, :, None]
    )
    assert seam_ratio(noise, [128], [], span=1) < 1.5
    assert seam_ratio(noise, [128], [], span=32, clear=64) > 5


def test_where_nothing_can_be_compared_there_is_no_ratio() -> None:
    assert math.isnan(seam_ratio(torch.zeros(3, 64, 64), [32], []))
    assert math.isnan(seam_ratio(ramp(), [], []))
