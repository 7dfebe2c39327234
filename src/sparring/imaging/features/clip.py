"""CLIP's image side (Radford et al. 2021): features that no ImageNet classes bias (Kynkäänniemi et al. 2023)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sparring.errors import UserError
from sparring.imaging.features.network import NetworkFeatures, normalise, resize_bicubic
from sparring.imaging.features.transformer import build, find_model, library, title, weights_of
from sparring.imaging.features.weights import model_folder, read_config
from sparring.metrics.weights import digest_tensors, read_tensors

MODELS = ("openai/clip-vit-large-patch14", "openai/clip-vit-base-patch32", "openai/clip-vit-base-patch16")
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def open_clip(
    path: Path | None = None, *, device: torch.device | str | None = None, download: bool = False, batch: int = 16
) -> NetworkFeatures:
    """CLIP's image embeddings, not normalised: `features` (N, 768) for ViT-L/14, (N, 512) for the base models.

    path: a model's folder as the transformers library saves it, or a file in it; None looks where weights are looked
        for, the large one first.
    Raises Unavailable where the library or the weights are not here, UserError where they are something else.
    """
    transformers = library("clip")
    path = path or find_model(MODELS, purpose="clip", download=download)
    folder = model_folder(path)
    if folder is None:
        raise UserError(f"{path}: clip is a folder of config.json and model.safetensors, as transformers saves it")
    described = read_config(folder)
    config = transformers.CLIPVisionConfig(**described.get("vision_config", described))
    path = weights_of(folder)
    tensors = {
        name: value
        for name, value in read_tensors(path).items()
        # The text side stays out; older files also hold the numbers 0, 1, 2, … of the patches.
        if name.startswith(("vision_model.", "visual_projection.")) and not name.endswith("position_ids")
    }
    if "visual_projection.weight" not in tensors:
        raise UserError(f"{path}: not the weights of CLIP's image side: visual_projection.weight is missing")
    config.projection_dim = len(tensors["visual_projection.weight"])
    network = build(
        transformers.CLIPVisionModelWithProjection, config, tensors, path=path, what="the CLIP that config.json says"
    )
    size = int(config.image_size)

    def embed(images: Tensor) -> dict[str, Tensor]:
        resized = normalise(resize_bicubic(images, size), MEAN, DEVIATION)
        return {"features": network(pixel_values=resized).image_embeds}

    return NetworkFeatures(
        network,
        embed,
        name=f"clip ({title(folder)}, {config.projection_dim})",
        digest=f"clip-1-{digest_tensors(tensors)}",
        resizer=f"bicubic, antialiased, to {size}×{size}",
        batch=batch,
        device=device,
    )
