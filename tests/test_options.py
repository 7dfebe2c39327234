"""Options by name: signatures are their own documentation, and errors name the key and the nearest known one."""

from __future__ import annotations

from typing import Any, Literal

import pydantic
import pytest

from sparring.errors import UserError
from sparring.options import call, choose, load_object, resolve, validate
from sparring.recipe import Section


def blur(image: str, *, radius: float, mode: Literal["box", "tent"] = "box", sizes: list[int] | None = None) -> Any:
    return image, radius, mode, sizes


class Layer:
    def __init__(self, size: int, *, width: int = 8, spec: Any = None) -> None:
        self.size, self.width, self.spec = size, width, spec


class Inner(Section):
    depth: int = 1


class Outer(Section):
    inner: Inner = Inner()
    many: dict[str, Inner] = {}
    rate: float = pydantic.Field(0.5, ge=0, le=1)


def test_defaults_of_the_signature_are_filled_in() -> None:
    assert resolve(blur, {"radius": 2}, where="x") == {"radius": 2.0, "mode": "box", "sizes": None}


def test_positional_arguments_are_no_options() -> None:
    with pytest.raises(UserError, match=r"unknown key 'x\.image'"):
        resolve(blur, {"radius": 1, "image": "other"}, where="x")


def test_call_passes_positional_arguments_and_validated_options() -> None:
    assert call(blur, {"radius": "3", "mode": "tent"}, "cat", where="x") == ("cat", 3.0, "tent", None)
    layer = call(Layer, {"width": 4}, 2, where="x")
    assert (layer.size, layer.width) == (2, 4)


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (blur, {"radios": 1}, "unknown key 'x.radios' (did you mean 'radius'?)|'x.radius' is missing: give it a value"),
        (blur, {}, "'x.radius' is missing: give it a value"),
        (blur, {"radius": "wide"}, "x.radius: input should be a valid number, unable to parse string as a number, not 'wide'"),
        (blur, {"radius": 1, "mode": "bix"}, "x.mode: input should be 'box' or 'tent', not 'bix'"),
        (blur, {"radius": 1, "sizes": [1, "b"]}, "x.sizes.1: input should be a valid integer"),
        (Layer, {"widht": 4}, "unknown key 'x.widht' (did you mean 'width'?)"),
        (Layer, {"zzz": 4}, "unknown key 'x.zzz'; known are spec, width"),
        (lambda: None, {"zzz": 4}, "unknown key 'x.zzz'; it takes no options"),
    ],
)  # fmt: skip
def test_wrong_options_are_one_line_that_names_the_key(function: Any, options: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve(function, options, where="x")
    assert any(part in str(caught.value) for part in message.split("|"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"dept": 2}}, "unknown key 'loss.inner.dept' (did you mean 'depth'?)"),
        ({"many": {"first": {"dept": 2}}}, "unknown key 'loss.many.first.dept' (did you mean 'depth'?)"),
        ({"iner": {}}, "unknown key 'loss.iner' (did you mean 'inner'?)"),
        ({"rate": 2}, "loss.rate: input should be less than or equal to 1, not 2"),
        ({"inner": 3}, "loss.inner: input should be a valid dictionary"),
    ],
)
def test_nested_records_are_explained_by_their_full_key(values: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        validate(Outer, values, where="loss")
    assert message in str(caught.value)


def test_validated_records_are_plain_data() -> None:
    assert validate(Outer, {"many": {"a": {"depth": 3}}}, where="x") == {
        "inner": {"depth": 1},
        "many": {"a": {"depth": 3}},
        "rate": 0.5,
    }


def test_choose_takes_from_the_table_or_imports_what_is_named_on_purpose() -> None:
    assert choose({"blur": blur}, "blur", what="filter") is blur
    assert choose({"blur": blur}, "math:hypot", what="filter")(3, 4) == 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("blurr", "unknown filter 'blurr' (did you mean 'blur'?); there are blur, sharpen"),
        ("xyzzy", "unknown filter 'xyzzy'; there are blur, sharpen"),
        (3, "unknown filter '3'; there are blur, sharpen"),
        (["blur"], "unknown filter"),
        ("math:hypotenuse", "cannot load filter 'math:hypotenuse'"),
        ("no_such_module:thing", "cannot load filter 'no_such_module:thing': No module named"),
    ],
)
def test_choose_explains_what_it_cannot_find(name: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        choose({"sharpen": blur, "blur": blur}, name, what="filter")
    assert message in str(caught.value)


@pytest.mark.parametrize("reference", ["math:", ":hypot", "math:a:b", "..math:hypot"])
def test_malformed_references_are_the_users_error(reference: str) -> None:
    with pytest.raises(UserError, match="cannot load filter"):
        load_object(reference, what="filter")
