"""What the checks find in data whose faults are known, because the test put them there."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from sparring.data.check import CHECKS, DataReport, check_images
from sparring.data.checks.findings import KINDS
from sparring.data.source import BrokenSample, ImageSource
from sparring.errors import UserError

Pixels = NDArray[np.uint8]


class MemorySource(ImageSource):
    """Images in a list; a string in it is the reason of a broken one."""

    name = "memory"

    def __init__(self, images: Sequence[Pixels | str], labels: Sequence[str] = ()) -> None:
        self.images, self.labels = list(images), list(labels)
        self.names = [f"memory[{index}]" for index in range(len(self.images))]

    def load(self, index: int) -> Pixels:
        image = self.images[index]
        if isinstance(image, str):
            raise BrokenSample(image)
        return image

    def fingerprint(self) -> str:
        return "0"


@pytest.fixture(scope="module")
def digits() -> list[Pixels]:
    return list(np.rint(load_digits().images * (255 / 16)).astype(np.uint8)[..., None])


@pytest.fixture(scope="module")
def digit_labels() -> list[str]:
    return [str(label) for label in load_digits().target]


@pytest.fixture(scope="module")
def photos() -> list[Pixels]:
    """200 smooth colour pictures, 48×40, all different."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (200, 6, 5, 3), np.uint8)
    return [np.asarray(Image.fromarray(one).resize((40, 48), Image.Resampling.BICUBIC)) for one in coarse]


def found(report: DataReport, kind: str) -> set[int]:
    return {finding.index for finding in report.findings if finding.kind == kind}


def as_jpeg(image: Pixels) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return np.asarray(Image.open(buffer))


def brighter(image: Pixels) -> Pixels:
    return np.clip(image.astype(int) + 2, 0, 255).astype(np.uint8)


def one_pixel_off(image: Pixels) -> Pixels:
    copy = image.copy()
    copy[20, 20] ^= 128
    return copy


def test_exact_duplicates_are_found_and_the_first_is_kept(digits: list[Pixels]) -> None:
    report = check_images(MemorySource([*digits[:300], *digits[10:20], digits[10]]), checks=["exact_duplicates"])
    assert found(report, "exact_duplicate") == set(range(300, 311))
    assert all(finding.remove for finding in report.findings)
    assert [finding.related for finding in report.findings] == [f"memory[{i}]" for i in [*range(10, 20), 10]]


def test_an_exact_duplicate_with_another_label_is_a_conflict(digits: list[Pixels], digit_labels: list[str]) -> None:
    labels = [*digit_labels[:50], digit_labels[3], "other"]
    report = check_images(MemorySource([*digits[:50], digits[3], digits[4]], labels), checks=["exact_duplicates"])
    assert report.counts == {"exact_duplicate": 1, "label_conflict": 1}
    assert found(report, "label_conflict") == {51}
    assert "'other' here and '4' there" in report.findings[-1].reason


def test_equal_bytes_in_another_shape_are_no_duplicate() -> None:
    image = np.arange(64, dtype=np.uint8)
    report = check_images(MemorySource([image.reshape(8, 8, 1), image.reshape(4, 16, 1)]), checks=["exact_duplicates"])
    assert not report.findings


@pytest.mark.parametrize("change", [brighter, as_jpeg, one_pixel_off])
def test_near_duplicates_are_found_and_the_originals_kept(
    photos: list[Pixels], change: Callable[[Pixels], Pixels]
) -> None:
    report = check_images(
        MemorySource([*photos, *(change(photo) for photo in photos[:40])]), checks=["near_duplicates"]
    )
    assert found(report, "near_duplicate") == set(range(200, 240))
    assert [finding.related for finding in report.findings] == [f"memory[{index}]" for index in range(40)]


def test_a_resized_copy_is_a_near_duplicate(photos: list[Pixels]) -> None:
    bigger = np.asarray(Image.fromarray(photos[5]).resize((100, 120), Image.Resampling.BICUBIC))
    report = check_images(MemorySource([*photos, bigger]), checks=["near_duplicates"])
    assert found(report, "near_duplicate") == {200}


def test_brighter_and_recompressed_digits_are_near_duplicates_too(digits: list[Pixels]) -> None:
    copies = [*map(brighter, digits[:50]), *(as_jpeg(image[..., 0])[..., None] for image in digits[50:100])]
    report = check_images(MemorySource([*digits, *copies]), checks=["near_duplicates"])
    assert found(report, "near_duplicate") >= set(range(1797, 1897))


def test_distinct_digits_are_not_taken_for_near_duplicates(digits: list[Pixels]) -> None:
    report = check_images(MemorySource(digits), checks=["near_duplicates"])
    assert len(report.findings) < 0.01 * len(digits)


def test_a_thousand_nearly_equal_images_leave_one(photos: list[Pixels]) -> None:
    rng = np.random.default_rng(0)
    crowd = [np.clip(photos[0] + rng.normal(0, 2, photos[0].shape), 0, 255).astype(np.uint8) for _ in range(1000)]
    report = check_images(MemorySource([*photos, *crowd]), checks=["near_duplicates"])
    assert found(report, "near_duplicate") == set(range(200, 1200))


def test_blank_images_are_found_and_dark_ones_are_not(digits: list[Pixels]) -> None:
    grey = np.full((8, 8, 1), 77, np.uint8)
    nearly = grey.copy()
    nearly[0, 0] += 3
    dim = (digits[0] // 16).astype(np.uint8)
    clear = np.concatenate([np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8), grey * 0], axis=-1)
    cutout = np.concatenate([np.repeat(grey, 3, axis=-1), digits[1]], axis=-1)
    report = check_images(MemorySource([*digits[:30], grey, nearly, dim, clear, cutout]), checks=["blank"])
    assert found(report, "blank") == {30, 31, 33}


def test_fine_texture_with_a_blank_thumbnail_is_not_blank() -> None:
    texture = np.indices((256, 256)).sum(axis=0).astype(np.uint8)[..., None] % 2 * 255
    assert not check_images(MemorySource([texture.astype(np.uint8)]), checks=["blank"]).findings


def test_noise_among_digits_is_an_outlier(digits: list[Pixels]) -> None:
    rng = np.random.default_rng(0)
    report = check_images(MemorySource([*digits, *rng.integers(0, 256, (8, 8, 8, 1), np.uint8)]), checks=["outliers"])
    assert found(report, "outlier") >= set(range(1797, 1805))
    assert len(report.findings) <= 18
    assert not any(finding.remove for finding in report.findings)


def test_wrong_labels_are_found_with_the_right_one_suggested(digits: list[Pixels], digit_labels: list[str]) -> None:
    rng = np.random.default_rng(0)
    flipped = rng.permutation(len(digits))[: len(digits) // 20].tolist()
    labels = list(digit_labels)
    for index in flipped:
        labels[index] = str((int(labels[index]) + rng.integers(1, 10)) % 10)
    report = check_images(MemorySource(digits, labels), checks=["labels"])
    suspects = found(report, "label_issue")
    hits = suspects & set(flipped)
    assert len(hits) >= 0.6 * len(flipped), "recall"
    assert len(hits) >= 0.6 * len(suspects), "precision"
    right = [finding.suggestion == digit_labels[finding.index] for finding in report.findings if finding.index in hits]
    assert np.mean(right) > 0.9
    assert all(finding.remove for finding in report.findings)


def test_labels_that_pixels_cannot_tell_apart_are_said_to_be_unchecked(digits: list[Pixels]) -> None:
    labels = np.random.default_rng(0).choice(["a", "b"], len(digits)).tolist()
    report = check_images(MemorySource(digits, labels), checks=["labels"])
    assert not report.findings
    assert "doubts mean nothing" in report.skipped["labels"]


def test_small_classes_are_left_out_of_the_label_check(digits: list[Pixels], digit_labels: list[str]) -> None:
    labels = ["rare", "rare", *digit_labels[2:]]
    report = check_images(MemorySource(digits, labels), checks=["labels"])
    assert report.skipped["labels"] == "1 classes with fewer than 5 images were left out"
    assert not found(report, "label_issue") & {0, 1}


def test_a_missing_cleanlab_is_reported(
    digits: list[Pixels], digit_labels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    report = check_images(MemorySource(digits[:100], digit_labels[:100]))
    assert report.skipped == {"labels": "needs the package 'cleanlab': pip install 'sparring[clean]'"}


def test_checks_that_did_not_run_are_named_with_the_reason(digits: list[Pixels]) -> None:
    report = check_images(MemorySource(digits[:10]), checks=["labels", "outliers"])
    assert set(report.skipped) == set(CHECKS)
    assert report.skipped["outliers"] == "needs at least 20 different images"
    assert report.skipped["labels"] == "the images have no labels"
    assert report.skipped["blank"] == "not asked for"


def test_sizes_and_modes_unlike_a_clear_majority_are_odd(digits: list[Pixels]) -> None:
    wide, colour = np.repeat(digits[30], 2, axis=1), np.repeat(digits[31], 3, axis=2)
    report = check_images(MemorySource([*digits[:30], wide, colour]), checks=["sizes", "modes"])
    assert found(report, "odd_size") == {30}
    assert found(report, "odd_mode") == {31}
    assert not any(finding.remove for finding in report.findings)
    assert report.summary["size_spread"] == "mostly uniform"
    assert report.summary["modes"] == {"grey": 31, "RGB": 1}


def test_diverse_sizes_are_no_finding_but_a_fact(digits: list[Pixels]) -> None:
    report = check_images(MemorySource([digit[: 4 + n % 5] for n, digit in enumerate(digits[:50])]), checks=["sizes"])
    assert not report.findings
    assert report.summary["size_spread"] == "diverse"
    assert report.summary["sizes"] == {f"{height}×8": 10 for height in range(4, 9)}


def test_the_summary_counts_classes(digits: list[Pixels]) -> None:
    summary = check_images(MemorySource(digits[:4], ["a", "b", "a", "a"]), checks=[]).summary
    assert summary["classes"] == {"a": 3, "b": 1}
    assert summary["imbalance"] == 3


def test_broken_images_and_bombs_are_named_with_their_reason(digits: list[Pixels]) -> None:
    source = MemorySource([*digits[:30], "the file is empty", "90000×90000 is more than 64 million pixels"])
    report = check_images(source)
    assert [(f.kind, f.name, f.remove) for f in report.findings if f.index >= 30] == [
        ("unreadable", "memory[30]", True),
        ("bomb", "memory[31]", True),
    ]
    assert report.summary["readable"] == 30


def test_a_data_set_of_broken_images_only_gives_a_report() -> None:
    assert check_images(MemorySource(["broken"] * 3)).counts == {"unreadable": 3}


def test_the_report_is_the_same_for_the_same_seed_and_survives_json(
    digits: list[Pixels], digit_labels: list[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    source = MemorySource([*digits[:400], *noise, digits[0], "broken"], [*digit_labels[:400], "1", "2", "3", "7", "4"])
    first, second = check_images(source, seed=3).plain(), check_images(source, seed=3).plain()
    assert first == second == json.loads(json.dumps(first))
    order = [KINDS.index(finding["kind"]) for finding in first["findings"]]
    assert order == sorted(order)


def test_progress_ends_with_all_images(digits: list[Pixels]) -> None:
    steps: list[tuple[int, int]] = []
    check_images(MemorySource(digits[:150]), checks=[], progress=lambda done, total: steps.append((done, total)))
    assert steps == [(64, 150), (128, 150), (150, 150)]


def test_an_unknown_check_names_the_nearest(digits: list[Pixels]) -> None:
    with pytest.raises(UserError, match="did you mean 'outliers'"):
        check_images(MemorySource(digits[:3]), checks=["outlier"])


def test_no_images_is_an_error() -> None:
    with pytest.raises(UserError, match="found no images"):
        check_images(MemorySource([]))
