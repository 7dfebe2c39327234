"""Standing statistics: those of the averaged weights, whenever samples are drawn from them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sparring.core.game import Batch, DataSpec, Game
from sparring.core.regularize import spectral_norm
from sparring.core.standing import COUNT, PASSES, take_standing_statistics
from sparring.training import state
from sparring.training.checkpoint import newest_good
from sparring.training.trainer import Trainer
from toygan import ToyGame

torch.set_num_threads(1)

Make = Callable[..., Trainer]


class NormedGame(ToyGame):
    """A toy game whose generator has batch norm and spectral norm, and a batch norm that no sample passes."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec, hidden=6)
        self.generator.layers[0] = nn.Sequential(spectral_norm(nn.Linear(self.latent, 6)), nn.BatchNorm1d(6))
        self.generator.unused = nn.BatchNorm1d(3)

    @property
    def norm(self) -> nn.BatchNorm1d:
        return self.generator.layers[0][1]

    @property
    def linear(self) -> nn.Linear:
        return self.generator.layers[0][0]


@pytest.fixture
def game() -> NormedGame:
    torch.manual_seed(3)
    game = NormedGame(DataSpec((1, 8, 8)))
    with torch.no_grad():
        # As after an average of weights: nothing that the layers have followed fits.
        for parameter in game.generator.parameters():
            parameter.add_(torch.randn_like(parameter))
        game.norm.running_mean.fill_(5.0)
        game.generator.unused.running_mean.fill_(7.0)
        game.norm.num_batches_tracked.fill_(123)
    return game.eval()


def statistics(game: Game) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in game.generator.named_buffers()}


def test_statistics_are_those_of_the_activations_that_the_weights_make(game: NormedGame) -> None:
    assert take_standing_statistics(game, seed=1)
    rng = torch.Generator().manual_seed(1)
    latents = torch.stack([torch.randn(COUNT, game.latent, generator=rng) for _ in range(PASSES)])
    weight, bias = game.linear.weight.detach(), game.linear.bias.detach()
    made = latents @ weight.T + bias
    torch.testing.assert_close(game.norm.running_mean, made.mean((0, 1)))
    torch.testing.assert_close(game.norm.running_var, made.var(1).mean(0))


def test_spectral_norm_is_led_on_until_it_fits_the_weights(game: NormedGame) -> None:
    largest = torch.linalg.matrix_norm(game.linear.weight.detach(), 2)
    assert abs(largest - 1) > 0.05, "the fixture leaves nothing to do"
    take_standing_statistics(game)
    assert torch.linalg.matrix_norm(game.linear.weight.detach(), 2) == pytest.approx(1.0, abs=1e-3)


def test_the_same_weights_and_seed_give_the_same_statistics_and_leave_random_numbers_alone(game: NormedGame) -> None:
    twin = NormedGame(DataSpec((1, 8, 8))).eval()
    twin.load_state_dict(game.state_dict())
    take_standing_statistics(game)
    torch.manual_seed(9)
    before = torch.get_rng_state()
    take_standing_statistics(twin)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, statistics(game)[name]) for name, value in statistics(twin).items())


def test_what_no_pass_reaches_stays_and_so_do_the_modes(game: NormedGame) -> None:
    take_standing_statistics(game)
    assert bool((game.generator.unused.running_mean == 7).all())
    assert game.norm.num_batches_tracked == 123 and game.norm.momentum == 0.1
    assert not any(module.training for module in game.modules())


def test_a_generator_that_follows_nothing_is_left_alone() -> None:
    assert not take_standing_statistics(ToyGame(DataSpec((1, 8, 8))).eval())


KEYS = {"train.ema.half_life": 100, "train.ema.warmup": 0, "train.optimizer": "{name: adam, lr: 0.05}"}


def test_samples_of_averaged_weights_are_drawn_with_statistics_of_their_own(
    make_trainer: Make,
) -> None:
    trainer = make_trainer(KEYS, game=NormedGame(DataSpec((1, 8, 8))))
    trainer.train()
    live = statistics(trainer.game)
    with trainer.sampling() as game:
        drawn, inside = game.generate(5, rng=torch.Generator().manual_seed(0))["data"], statistics(game)
        take_standing_statistics(game)
        expected = statistics(game)
    torch.testing.assert_close(inside, expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(inside["layers.0.1.running_var"], live["layers.0.1.running_var"], rtol=1e-2)
    assert all(torch.equal(value, live[name]) for name, value in statistics(trainer.game).items())
    # What a checkpoint keeps for drawing is the same generator.
    trainer.game.generator.load_state_dict(
        {name.removeprefix("generator."): value for name, value in state.weights(trainer).items()}
    )
    trainer.game.eval()
    assert torch.equal(trainer.game.generate(5, rng=torch.Generator().manual_seed(0))["data"], drawn)


def test_without_an_average_the_running_statistics_are_what_samples_are_drawn_with(
    make_trainer: Make,
) -> None:
    trainer = make_trainer(game=NormedGame(DataSpec((1, 8, 8))))
    trainer.train()
    live = statistics(trainer.game)
    with trainer.sampling() as game:
        assert all(torch.equal(value, live[name]) for name, value in statistics(game).items())


def test_a_resumed_run_has_the_standing_statistics_of_an_uninterrupted_one_bit_for_bit(
    make_trainer: Make,
) -> None:
    def trainer(folder: str, steps: int) -> Trainer:
        torch.manual_seed(0)
        return make_trainer({**KEYS, "train.steps": steps}, folder=folder, game=NormedGame(DataSpec((1, 8, 8))))

    whole = trainer("whole", 7)
    whole.train()
    trainer("cut", 3).train()
    second = trainer("cut", 7)
    checkpoint = newest_good(second.run.checkpoints, print)
    assert checkpoint is not None and checkpoint.step == 3
    second.load(checkpoint)
    second.train()
    for ours, theirs in (
        (whole.average.tensors(), second.average.tensors()),
        (state.weights(whole), state.weights(second)),
    ):
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_drawing_at_every_step_changes_nothing_of_what_is_trained(make_trainer: Make) -> None:
    quiet, watched = (
        make_trainer(KEYS, folder=folder, game=NormedGame(DataSpec((1, 8, 8)))) for folder in ("quiet", "watched")
    )
    watched.game.load_state_dict(quiet.game.state_dict())
    quiet.train()
    step = watched.play_step

    def draw_too() -> None:
        step()
        with watched.sampling() as game:
            assert isinstance(game.generate(2), Batch)

    watched.play_step = draw_too  # type: ignore[method-assign]
    watched.train()
    ours, theirs = quiet.game.state_dict(), watched.game.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
