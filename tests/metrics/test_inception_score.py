from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.inception import InceptionScore

from sparring.metrics.inception_score import inception_score

torch.set_num_threads(1)


@pytest.fixture
def logits() -> Tensor:
    return 2 * torch.randn(200, 7, generator=torch.Generator().manual_seed(0))


def certain(labels: Tensor, classes: int) -> Tensor:
    return 1e4 * nn.functional.one_hot(labels, classes).float()


@pytest.mark.parametrize("classes", [2, 10])
def test_equally_frequent_certain_classes_score_their_count(classes: int) -> None:
    score, spread = inception_score(certain(torch.arange(50 * classes) % classes, classes), splits=1)
    assert score == pytest.approx(classes, rel=1e-12)
    assert spread == 0


def test_half_of_the_classes_score_half() -> None:
    assert inception_score(certain(torch.arange(100) % 5, 10), splits=1)[0] == pytest.approx(5, rel=1e-12)


def test_one_class_scores_one() -> None:
    assert inception_score(certain(torch.full((40,), 3), 10)) == pytest.approx((1, 0), abs=1e-12)


def test_doubt_about_every_sample_scores_one() -> None:
    assert inception_score(torch.zeros(40, 10)) == pytest.approx((1, 0), abs=1e-12)


def test_score_is_the_exponent_of_the_mean_divergence(logits: Tensor) -> None:
    given = logits.double().softmax(1)
    divergence = (given * (given / given.mean(0)).log()).sum(1).mean()
    assert inception_score(logits, splits=1)[0] == pytest.approx(float(divergence.exp()), rel=1e-12)


def test_score_and_deviation_agree_with_torchmetrics(logits: Tensor) -> None:
    theirs = InceptionScore(feature=nn.Identity(), splits=10)
    theirs.update(logits)
    with torch.random.fork_rng():
        torch.manual_seed(5)  # it shuffles by the global state
        mean, deviation = theirs.compute()
    assert inception_score(logits, splits=10, seed=5) == pytest.approx((float(mean), float(deviation)), rel=1e-4)


def test_classes_ruled_out_altogether_are_no_trouble(logits: Tensor) -> None:
    ruled_out = torch.cat([logits, torch.full((200, 3), -torch.inf)], dim=1)
    assert inception_score(ruled_out) == pytest.approx(inception_score(logits), rel=1e-12)


def test_score_falls_as_classes_are_dropped_and_as_doubt_grows() -> None:
    labels = torch.arange(1000) % 10
    dropped = [inception_score(certain(labels % kept, 10))[0] for kept in (10, 5, 2, 1)]
    doubting = [inception_score(nn.functional.one_hot(labels, 10) * sure)[0] for sure in (9.0, 6.0, 3.0, 1.0)]
    assert dropped == sorted(dropped, reverse=True) and dropped[0] > dropped[-1] + 8
    assert doubting == sorted(doubting, reverse=True) and doubting[0] > doubting[-1] + 5


def test_shuffle_depends_on_the_seed_alone(logits: Tensor) -> None:
    before = torch.get_rng_state()
    first = inception_score(logits, seed=1)
    assert inception_score(logits, seed=1) == first
    assert inception_score(logits, seed=2) != first
    assert torch.equal(torch.get_rng_state(), before)


def test_logits_that_do_not_fit_are_an_error(logits: Tensor) -> None:
    for given, splits in ((logits[:5], 10), (logits[0], 1), (logits, 0)):
        with pytest.raises(ValueError, match="needs logits"):
            inception_score(given, splits=splits)
