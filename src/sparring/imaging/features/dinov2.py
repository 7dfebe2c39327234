"""DINOv2 (Oquab et al. 2023): the self-supervised space whose distances agree best with people (Stein et al. 2023)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparring.errors import UserError
from sparring.imaging.features.network import NetworkFeatures, normalise, resize_bicubic
from sparring.imaging.features.transformer import build, find_model, library, title, weights_of
from sparring.imaging.features.weights import model_folder
from sparring.metrics.weights import Unavailable, digest_tensors, find_weights, read_tensors

SIZES = ("l", "b", "s", "g")  # L is what distances are published in; g is larger than most will wait for
FILES = tuple(f"dinov2_vit{size}14_pretrain.pth" for size in SIZES)
URL = f"https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/{FILES[0]}"
MODELS = ("facebook/dinov2-large", "facebook/dinov2-base", "facebook/dinov2-small", "facebook/dinov2-giant")
SIZE, HEAD = 224, 64  # pixels; the width of an attention head, the same in all four sizes
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def open_dinov2(
    path: Path | None = None, *, device: torch.device | str | None = None, download: bool = False, batch: int = 16
) -> NetworkFeatures:
    """The normalised class token of a DINOv2 transformer: `features` (N, 384 to 1536), 1024 for ViT-L/14.

    path: one of the published files (`dinov2_vitl14_pretrain.pth`, …), or a model's folder as the transformers library
        saves it; None looks where weights are looked for, the large one first.
    Raises Unavailable where the library or the weights are not here, UserError where they are something else.
    """
    transformers = library("dinov2")
    path = path or _find(download)
    if folder := model_folder(path):
        config = transformers.Dinov2Config.from_pretrained(folder)
        path, name = weights_of(folder), title(folder)
        tensors = read_tensors(path)
    else:
        name = path.stem
        tensors = _library_names(read_tensors(path), path)
        config = transformers.Dinov2Config(**_sizes(tensors, path))
    network = build(transformers.Dinov2Model, config, tensors, path=path, what="a DINOv2 transformer")

    def embed(images: Tensor) -> dict[str, Tensor]:
        tokens = network(pixel_values=normalise(resize_bicubic(images, SIZE), MEAN, DEVIATION))
        return {"features": tokens.last_hidden_state[:, 0]}

    return NetworkFeatures(
        network,
        embed,
        name=f"dinov2 ({name}, {config.hidden_size})",
        digest=f"dinov2-1-{digest_tensors(tensors)}",
        resizer=f"bicubic, antialiased, to {SIZE}×{SIZE}",
        batch=batch,
        device=device,
    )


def _find(download: bool) -> Path:
    try:
        return find_weights(FILES, purpose="dinov2", url=URL)
    except Unavailable:
        try:
            return find_model(MODELS, purpose="dinov2")
        except Unavailable:
            return find_weights(FILES, purpose="dinov2", url=URL, download=download)


def _library_names(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The published files' names as the transformers library writes them; query, key and value lie in one tensor there."""
    if "register_tokens" in tensors:
        raise UserError(f"{path}: DINOv2 with registers is another space: use the file without _reg4")
    whole = {
        "cls_token": "embeddings.cls_token",
        "mask_token": "embeddings.mask_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
        "norm.weight": "layernorm.weight",
        "norm.bias": "layernorm.bias",
    }
    parts = {
        "attn.proj": "attention.output.dense",
        "ls1.gamma": "layer_scale1.lambda1",
        "ls2.gamma": "layer_scale2.lambda1",
        "mlp.w12": "mlp.weights_in",
        "mlp.w3": "mlp.weights_out",
    }
    renamed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        if not block:
            renamed[whole.get(name, name)] = value
            continue
        prefix, rest = f"encoder.layer.{block[1]}.", block[2]
        if rest in ("attn.qkv.weight", "attn.qkv.bias"):
            for role, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                renamed[f"{prefix}attention.attention.{role}.{rest.rpartition('.')[2]}"] = piece
            continue
        for theirs, ours in parts.items():
            rest = rest.replace(theirs, ours)
        renamed[prefix + rest] = value
    return renamed


def _sizes(tensors: dict[str, Tensor], path: Path) -> dict[str, Any]:
    """The configuration that a file's shapes speak of."""
    try:
        width, _, patch, _ = tensors["embeddings.patch_embeddings.projection.weight"].shape
        places = tensors["embeddings.position_embeddings"].shape[1] - 1
        gated = "encoder.layer.0.mlp.weights_in.weight" in tensors
        ratio = 4 if gated else tensors["encoder.layer.0.mlp.fc1.weight"].shape[0] // width
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: not the weights of a DINOv2 transformer ({error})") from error
    return {
        "hidden_size": width,
        "num_hidden_layers": len({name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")}),
        "num_attention_heads": max(1, width // HEAD),
        "mlp_ratio": ratio,
        "image_size": round(places**0.5) * patch,
        "patch_size": patch,
        "use_swiglu_ffn": gated,
    }
