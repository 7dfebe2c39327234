"""The gradient of logits by samples, made to be differentiated again at little cost.

A gradient penalty backpropagates through a backward pass. PyTorch's own second derivatives are right, and wasteful
in two places where a discriminator spends its time:

- A **convolution**'s runs as a loop over its groups, and as a convolution with a kernel as large as the image. Both
  results are what the library already has kernels for: y = x ∗ w, the gradient by x and the gradient by w are three
  trilinear forms of one family, so each one's derivatives are the two others (below, and Dumoulin & Visin 2016, chapter 4).
- The second derivative of a **(leaky) ReLU** and of an **average** is 0, which PyTorch states as a tensor of zeros, and then
  sends these zeros back through the whole network, a third of the work where the pass serves the penalty alone. Here it is
  stated as nothing.

Values and derivatives of every order are those of the plain operations, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

aten = torch.ops.aten


class SecondOrder(TorchFunctionMode):
    """What is computed inside may be differentiated by its inputs with `gradient`, whose result may be differentiated too.

        with SecondOrder() as second:
            logits = discriminate(samples)
        slopes = second.gradient(logits, samples)

    Only operations inside are affected, also those of networks that know nothing of this.
    shared: a loss goes back through the same pass anyway, and takes the zeros along: then they may stay.
    """

    def __init__(self, *, shared: bool = False) -> None:
        super().__init__()
        self.replacements = CONVOLUTIONS if shared else {**CONVOLUTIONS, **BENT}
        self.inputs_alone = False

    def gradient(self, output: Tensor, inputs: Tensor) -> Tensor:
        """The gradient of the output's sum by the inputs, in their shape, with a graph of its own.

        output: computed inside, from inputs that require gradients.
        """
        # Python's functions are not told which gradients are asked for: unsaid, each convolution would compute its weight's.
        self.inputs_alone = True
        try:
            (gradient,) = torch.autograd.grad(output, inputs, torch.ones_like(output), create_graph=True)
        finally:
            self.inputs_alone = False
        return gradient

    def __torch_function__(
        self, function: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Called by PyTorch in place of each of its functions: puts ours in place of some."""
        replacement = self.replacements.get(function)
        result = replacement(self, *args, **(kwargs or {})) if replacement and torch.is_grad_enabled() else None
        return function(*args, **(kwargs or {})) if result is None else result


Map = Callable[[Tensor], Tensor]


class Form(NamedTuple):
    """What a convolution is apart from its tensors, as PyTorch's general convolution takes it."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int


class Convolve(Function):
    """y = x ∗ w + b. x: (N, C, …), w: as the layer has it, b: (C′,) or None."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, form: Form, order: SecondOrder | None
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.form, ctx.order = form, order
        ctx.set_materialize_grads(False)
        return aten.convolution(x, weight, bias, *form)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return (None,) * 5
        x, weight = ctx.saved_tensors
        by_x, by_weight, by_bias, *_ = ctx.needs_input_grad
        if ctx.order is not None and ctx.order.inputs_alone:
            by_weight = by_bias = False
        return (
            ConvolveBackToInput.apply(gradient, weight, x.detach(), ctx.form) if by_x else None,
            ConvolveBackToWeight.apply(gradient, x, weight.detach(), ctx.form) if by_weight else None,
            gradient.sum([0, *range(2, gradient.ndim)]) if by_bias else None,
            None,
            None,
        )


class ConvolveBackToInput(Function):
    """The gradient of a convolution by its input, as a function of the output's gradient and the weight; `like`: the input's shape."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, like: Tensor, form: Form) -> Tensor:
        ctx.save_for_backward(gradient, weight)
        ctx.form = form
        ctx.set_materialize_grads(False)
        return _backward(gradient, like, weight, form, (True, False))[0]

    @staticmethod
    def backward(ctx: Any, moved: Tensor | None) -> tuple[Tensor | None, ...]:
        if moved is None:
            return (None,) * 4
        gradient, weight = ctx.saved_tensors
        by_gradient, by_weight, *_ = ctx.needs_input_grad
        return (
            Convolve.apply(moved, weight, None, ctx.form, None) if by_gradient else None,
            ConvolveBackToWeight.apply(gradient, moved, weight.detach(), ctx.form) if by_weight else None,
            None,
            None,
        )


class ConvolveBackToWeight(Function):
    """The gradient of a convolution by its weight, as a function of the output's gradient and the input; `like`: the weight's shape."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor, like: Tensor, form: Form) -> Tensor:
        ctx.save_for_backward(gradient, x)
        ctx.form = form
        ctx.set_materialize_grads(False)
        return _backward(gradient, x, like, form, (False, True))[1]

    @staticmethod
    def backward(ctx: Any, moved: Tensor | None) -> tuple[Tensor | None, ...]:
        if moved is None:
            return (None,) * 4
        gradient, x = ctx.saved_tensors
        by_gradient, by_x, *_ = ctx.needs_input_grad
        return (
            Convolve.apply(x, moved, None, ctx.form, None) if by_gradient else None,
            ConvolveBackToInput.apply(gradient, moved, x.detach(), ctx.form) if by_x else None,
            None,
            None,
        )


class Bend(Function):
    """y = bend(x), linear around every x. back: its derivative there, transposed, gradient by y → gradient by x; forth: untransposed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bend: Map, back: Map, forth: Map) -> Tensor:
        ctx.back, ctx.forth = back, forth
        ctx.set_materialize_grads(False)
        return bend(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
        return None if gradient is None else Bend.apply(gradient, ctx.back, ctx.forth, ctx.back), None, None, None


def _backward(
    gradient: Tensor, x: Tensor, weight: Tensor, form: Form, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    by_x, by_weight, _ = aten.convolution_backward(gradient, x, weight, None, *form, [*wanted, False])
    return by_x, by_weight


def _convolution(
    order: SecondOrder, input: Tensor, weight: Tensor, bias: Tensor | None = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Tensor | None:  # fmt: skip
    """None where the plain operation must do it: padding by name, a sample without a batch."""
    if isinstance(padding, str) or input.ndim != weight.ndim:
        return None
    size = input.ndim - 2
    form = Form(_many(stride, size), _many(padding, size), _many(dilation, size), False, [0] * size, groups)
    return Convolve.apply(input, weight, bias, form, order)


def _transposed_convolution(
    order: SecondOrder, input: Tensor, weight: Tensor, bias: Tensor | None = None,
    stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor | None:  # fmt: skip
    if input.ndim != weight.ndim:
        return None
    size = input.ndim - 2
    shape = (_many(stride, size), _many(padding, size), _many(dilation, size))
    return Convolve.apply(input, weight, bias, Form(*shape, True, _many(output_padding, size), groups), order)


def _leaky_relu(order: SecondOrder, input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    at = input.detach()

    def slopes(gradient: Tensor) -> Tensor:
        return aten.leaky_relu_backward(gradient, at, negative_slope, False)

    return Bend.apply(input, lambda x: aten.leaky_relu(x, negative_slope), slopes, slopes)


def _relu(order: SecondOrder, input: Tensor, inplace: bool = False) -> Tensor:
    return _leaky_relu(order, input, 0.0)


def _avg_pool2d(
    order: SecondOrder, input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    like, kernel = input.detach(), _many(kernel_size, 2)
    form = (
        kernel,
        kernel if stride is None else _many(stride, 2),
        _many(padding, 2),
        ceil_mode,
        count_include_pad,
        divisor_override,
    )

    def pool(x: Tensor) -> Tensor:
        return aten.avg_pool2d(x, *form)

    return Bend.apply(input, pool, lambda gradient: aten.avg_pool2d_backward(gradient, like, *form), pool)


def _adaptive_avg_pool2d(order: SecondOrder, input: Tensor, output_size: Any) -> Tensor:
    like, size = (
        input.detach(),
        [
            own if wanted is None else wanted
            for own, wanted in zip(input.shape[-2:], _many(output_size, 2), strict=True)
        ],
    )

    def pool(x: Tensor) -> Tensor:
        return aten._adaptive_avg_pool2d(x, size)

    return Bend.apply(input, pool, lambda gradient: aten._adaptive_avg_pool2d_backward(gradient, like), pool)


def _many(value: int | Sequence[int], size: int) -> list[int]:
    """A number for each dimension of space."""
    return [value] * size if isinstance(value, int) else [*value] if len(value) == size else [*value] * size


Replacements = dict[Callable[..., Any], Callable[..., Tensor | None]]

CONVOLUTIONS: Replacements = {
    torch.conv1d: _convolution,
    torch.conv2d: _convolution,
    torch.conv3d: _convolution,
    torch.conv_transpose1d: _transposed_convolution,
    torch.conv_transpose2d: _transposed_convolution,
    torch.conv_transpose3d: _transposed_convolution,
}

BENT: Replacements = {
    F.leaky_relu: _leaky_relu,
    F.relu: _relu,
    torch.relu: _relu,
    F.avg_pool2d: _avg_pool2d,
    F.adaptive_avg_pool2d: _adaptive_avg_pool2d,
}
