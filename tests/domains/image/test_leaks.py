"""The leak check finds what was planted, as much as was planted, and nothing where nothing was."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

from sparring.core.game import Batch
from sparring.domains.image import metrics
from sparring.domains.image.leaks import AS_IT_IS, KINDS, Detector
from sparring.nn.ada import AdaptiveAugmentation

torch.set_num_threads(1)


def digits() -> tuple[Tensor, Tensor]:
    """Real images, and others of the same kind that the detector never saw."""
    images = torch.from_numpy(load_digits().images).float()[:, None] / 8 - 1
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
    return images[:1000], images[1000:]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(digits()[0], steps=150)


def shares(detector: Detector, images: Tensor) -> dict[str, float]:
    return {kind: leak.share for kind, leak in detector(images).items()}


def test_clean_samples_leak_nothing(detector: Detector) -> None:
    found = shares(detector, digits()[1])
    assert len(found) >= 5
    assert max(found.values()) < 0.04, found


def test_the_faults_of_generated_images_are_no_leaks(detector: Detector) -> None:
    others = digits()[1]
    soft = F.avg_pool2d(F.pad(others, (1, 1, 1, 1), mode="replicate"), 3, 1)
    noise = torch.randn(others.shape, generator=torch.Generator().manual_seed(0))
    for worn in (torch.lerp(others, soft, 0.7), (others + 0.1 * noise).clamp(-1, 1)):
        found = shares(detector, worn)
        assert max(found.values()) < 0.1, found


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != AS_IT_IS])
def test_what_was_planted_is_found_in_its_share_and_under_its_name(detector: Detector, kind: str) -> None:
    others = digits()[1].clone()
    torch.manual_seed(1)
    planted = int(0.3 * len(others))
    others[:planted] = KINDS[kind](others[:planted])
    found = shares(detector, others)
    assert found.pop(kind) == pytest.approx(0.3, abs=0.08)
    assert max(found.values()) < 0.08, found


def test_what_the_discriminator_is_shown_would_be_found(detector: Detector) -> None:
    """A generator that copied ADA's turns."""
    torch.manual_seed(1)
    found = shares(detector, AdaptiveAugmentation(operations=["quarter_turn"], p=0.8, target=None)(digits()[1]))
    # A quarter of the turns is none.
    assert found["turned"] == pytest.approx(0.6, abs=0.12)


def test_a_change_that_the_data_show_themselves_is_left_out() -> None:
    """Digits of which every other one is mirrored."""
    real = digits()[0].clone()
    real[::2] = real[::2].flip(3)
    found = Detector(real, steps=50)(digits()[1])
    assert "mirrored" not in found
    assert "shifted" in found


def test_random_numbers_outside_are_left_alone_and_the_seed_decides() -> None:
    real, fake = digits()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = Detector(real[:100], steps=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    again, other = Detector(real[:100], steps=3), Detector(real[:100], seed=1, steps=3)
    assert torch.equal(first.answers(fake[:5]), again.answers(fake[:5]))
    assert not torch.equal(first.answers(fake[:5]), other.answers(fake[:5]))


def test_too_few_images_give_no_figures() -> None:
    few = Batch(data=digits()[0][:49])
    assert metrics.MEASURES["leaks"].compute(few, few, 0) == {}
    with pytest.raises(ValueError, match="49 real images are too few"):
        Detector(few["data"])


def test_the_measure_learns_once_for_the_same_images(monkeypatch: pytest.MonkeyPatch, detector: Detector) -> None:
    learnt = []
    monkeypatch.setattr(metrics, "Detector", lambda images, seed: learnt.append(len(images)) or detector)
    metrics._detector.cache_clear()
    real, fake = (Batch(data=images) for images in digits())
    measure = metrics.MEASURES["leaks"]
    values = measure.compute(real, fake, 0)
    measure.compute(Batch(data=real["data"].clone()), fake, 0)
    assert learnt == [1000]
    measure.compute(Batch(data=real["data"].flip(0)), fake, 0)
    assert len(learnt) == 2
    metrics._detector.cache_clear()
    assert set(values) <= set(measure.figures) and {"leak_shifted", "leak_turned"} <= set(values)
