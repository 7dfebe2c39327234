"""The ways of conditioning on the same networks with the same budget: do samples show what was asked for, and how good are they?

    python benchmarks/quality/conditioning.py                              digits, seven trainings, one after the other
    python benchmarks/quality/conditioning.py --data MNIST --steps 1500    longer, on MNIST
    python benchmarks/quality/conditioning.py --ways 2c d2d-ce --out DIR   some of them; results are kept in DIR
    python benchmarks/quality/conditioning.py --table --out DIR            what is there so far

All ways have the networks (DCGAN's, of width 32), the loss, the optimisers and the steps of `contragan`; the generator gets the
label beside its latent, and the ways differ in what the discriminator makes of it. `conditional norm` is projection with another
generator. `none` draws without labels: its accuracy is that of labels given at random. Both figures are in a classifier
that learnt the data's labels.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

KEYS = [
    "train.batch_size=64", "train.sample_every=1000000", "train.checkpoint_every=1000000", "evaluate.metric=null",
    "machine.precision=32", "machine.threads=1", "machine.channels_last=false", "machine.compile=false",
]  # fmt: skip
NETWORKS = [
    "model.latent=64", "model.spectral_norm=[discriminator]", "loss.name=hinge", "model.generator.width=32",
    "model.discriminator={name: dcgan, width: 32, norm: none}", "train.optimizer={name: adam, lr: 1.0e-3, betas: [0.5, 0.99]}",
    "train.schedule={name: linear, start: 0.5}", "train.ema.half_life=5000",
]  # fmt: skip
NORM = [
    "model.generator={name: sagan, attention: 0, width: 24, max_width: 96}",
    "train.players={generator: {optimizer: {lr: 2.0e-3}}}",
]
WAYS: dict[str, tuple[str, list[str]]] = {
    "none": ("dcgan", NETWORKS),
    "concatenation": ("cgan", NETWORKS),
    "projection": ("cgan", [*NETWORKS, "model.discriminator.condition=projection"]),
    "conditional norm": ("cgan", [*NETWORKS, "model.discriminator.condition=projection", *NORM]),
    "auxiliary classifier": ("acgan", NETWORKS),
    "2c": ("contragan", []),
    "d2d-ce": ("reacgan", []),
}


def work(way: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train one way and measure it."""
    import torch

    import sparring
    from sparring.core.game import Batch
    from sparring.domains.image.data import ImageOptions, open_images
    from sparring.imaging.features.classifier import open_classifier
    from sparring.metrics.classes import conditional_accuracy
    from sparring.metrics.frechet import frechet_distance

    torch.set_num_threads(1)
    recipe, keys = WAYS[way]
    run = options.out / way.replace(" ", "-")
    shutil.rmtree(run, ignore_errors=True)  # of a sitting that was interrupted
    start = time.process_time()
    sparring.train(
        recipe, data=options.data, out=run, steps=options.steps, seed=0, set=[*keys, *KEYS], device="cpu", quiet=True
    )
    seconds = time.process_time() - start
    data = open_images(ImageOptions(source=options.data))
    features = open_classifier(data)
    real = data.batch(torch.arange(len(data))[: options.count], augment=False)
    trained = sparring.load(run, checkpoint="last")
    batches = list(trained.generate(options.count, seed=1))
    fake = Batch(data=torch.cat([batch["data"] for batch in batches]))
    if trained.game.conditions:
        asked = torch.cat([batch["label"] for batch in batches])
    else:  # as often as the data has them, but of the wrong samples
        asked = real["label"][torch.arange(len(fake["data"])) % len(real["label"])]
    seen, of_real = features(fake), features(real)
    sparring.generate(run, checkpoint="last", count=64, out=run / "samples.png")
    return {
        "way": way, "recipe": recipe, "accuracy": conditional_accuracy(seen["logits"], asked),
        "fid": frechet_distance(of_real["features"], seen["features"]), "seconds": seconds, "steps": options.steps,
        "accuracy_of_real": conditional_accuracy(of_real["logits"], real["label"]), "features": features.name,
    }  # fmt: skip


def table(found: list[dict[str, Any]]) -> str:
    """A row a way."""
    lines = ["| way | recipe | accuracy | FID | processor s |", "|---|---|---|---|---|"]
    lines += [
        f"| {each['way']} | `{each['recipe']}` | {100 * each['accuracy']:.1f} % | {each['fid']:.2f} | {each['seconds']:.0f} |"
        for each in sorted(found, key=lambda each: list(WAYS).index(each["way"]))
    ]
    first = found[0]
    lines += [
        "",
        f"{first['steps']:,} steps of 64, seed 0; {first['features']}, which tells {100 * first['accuracy_of_real']:.1f} % "
        "of the real images' labels.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Train what is asked for and not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--out", type=Path, default=Path("runs/conditioning"))
    parser.add_argument("--table", action="store_true", help="train nothing")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for way in [] if options.table else options.ways:
        kept = options.out / f"{way.replace(' ', '-')}.json"
        if not kept.exists():
            kept.write_text(json.dumps(work(way, options)))
            print(kept.read_text(), flush=True)
    print(table([json.loads(file.read_text()) for file in sorted(options.out.glob("*.json"))]))


if __name__ == "__main__":
    main()
