"""The exponential moving average of weights, from which samples are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sparring.core.schedules import anneal_cosine
from sparring.errors import UserError


class Average:
    """Averages of the parameters of `modules` over time; buffers are followed as they are.

    half_life: in samples: after so many, a weight's share in the average has halved. 0, also in the end: no average is
        kept, and every method does nothing.
    warmup: the half-life never exceeds this share of the samples seen, so that the first weights are soon forgotten
        (StyleGAN2-ADA, Karras et al. 2020). 0: the full half-life from the start.
    final, over: the half-life moves along half a cosine to `final`, reached after `over` samples (R3GAN, Huang et al.
        2024); None: it stays as it is.

    The averages are in float32 (float64 where the parameters are), on the device on which the parameters are when
    the object is made. Names are those of `named_parameters` and `named_buffers`, which spectral norm changes
    consistently; buffers that no state dict holds are constants, and are left alone.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        half_life: float,
        warmup: float,
        *,
        final: float | None = None,
        over: float = 0,
    ) -> None:
        self.half_life = half_life
        self.warmup = warmup
        self.final = half_life if final is None else final
        self.over = over
        # Where each live tensor is found, and not the tensor: `module.to()` replaces buffers.
        self._averaged: dict[str, tuple[nn.Module, str]] = {}
        self._followed: dict[str, tuple[nn.Module, str]] = {}
        for name, module in modules.items() if max(half_life, self.final) > 0 else ():
            kept = module.state_dict(keep_vars=True).keys()
            for key, parameter in module.named_parameters():
                places = self._averaged if parameter.is_floating_point() else self._followed
                places[f"{name}.{key}"] = _place(module, key)
            for key, _ in module.named_buffers():
                if key in kept:
                    self._followed[f"{name}.{key}"] = _place(module, key)
        self._averages = [_wide(value).clone() for value in _live(self._averaged)]
        self._copies = [value.clone() for value in _live(self._followed)]

    @torch.no_grad()
    def update(self, batch: int, seen: int) -> None:
        """Take in the weights after a step on `batch` samples, `seen` samples (those included) into the run.

        The average keeps β = ½^(batch / min(half_life, warmup · seen)) of itself.
        """
        if self._averages:
            # The step that is over is that of the samples before it, as for all schedules.
            half_life = anneal_cosine(self.half_life, self.final, seen - batch, self.over)
            half_life = min(half_life, self.warmup * seen) if self.warmup else half_life
            beta = 0.5 ** (batch / max(half_life, 1e-8))
            torch._foreach_lerp_(self._averages, [_wide(value) for value in _live(self._averaged)], 1 - beta)
        self.refresh()

    @property
    def kept(self) -> bool:
        """Whether there is an average."""
        return bool(self._averaged)

    @torch.no_grad()
    def refresh(self) -> None:
        """Take the buffers that are in place now for the averages' own, until the next update."""
        if self._copies:
            torch._foreach_copy_(self._copies, _live(self._followed))

    def tensors(self) -> dict[str, Tensor]:
        """The state by name, `module.parameter`: the tensors themselves, which the next update changes."""
        names = [*self._averaged, *self._followed]
        return dict(zip(names, [*self._averages, *self._copies], strict=True))

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the state that `tensors()` gave. Raises UserError where names or shapes differ."""
        own = self.tensors()
        for name in [*own, *tensors]:
            if name not in own or name not in tensors or own[name].shape != tensors[name].shape:
                saved = "nothing" if name not in tensors else f"shape {tuple(tensors[name].shape)}"
                built = "nothing" if name not in own else f"shape {tuple(own[name].shape)}"
                raise UserError(f"the saved average does not fit this recipe: {name} is {saved} there and {built} here")
        for name, value in own.items():
            value.copy_(tensors[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the modules hold the averages; afterwards the live values are back, bit for bit."""
        live = [*_live(self._averaged), *_live(self._followed)]
        saved = [value.clone() for value in live]
        try:
            _copy(live, [*self._averages, *self._copies])
            yield
        finally:
            _copy(live, saved)


def _place(module: nn.Module, key: str) -> tuple[nn.Module, str]:
    """The submodule that holds the tensor `key`, and its name there."""
    path, _, attribute = key.rpartition(".")
    return module.get_submodule(path), attribute


def _live(places: Mapping[str, tuple[nn.Module, str]]) -> list[Tensor]:
    return [getattr(owner, attribute).detach() for owner, attribute in places.values()]


def _wide(value: Tensor) -> Tensor:
    """In float32: a step of (1 − β) is lost in the rounding of half precision."""
    return value if value.dtype == torch.float64 else value.float()


@torch.no_grad()
def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    if targets:
        torch._foreach_copy_(targets, sources)
