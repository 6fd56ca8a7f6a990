"""Trains the two models of the fraud cascade, and reports what they are worth.

Reads what `spillway features export` wrote: the features are Spillway's own, never computed a second time here.

    python train.py RUN OTHER_RUN [--seed N]

A run is a folder with features.csv (and features.csv.json beside it) and the simulation.json of what it was exported from. The other run is of another simulation, with customers and terminals of its own: no choice was made by looking at it. Writes ../models/<model>/1/model.onnx, report.json and report.md.
"""

import argparse
import csv
import datetime
import json
import pathlib
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

import graphs
from measure import cost_per_row, gain, quality
from report import write_report

HERE = pathlib.Path(__file__).parent
MODELS = HERE.parent / "models"

# Simulated days, both ends included. Labels are a week late, so that training sees nothing of the week before the test.
TRAIN = (38, 73)
THRESHOLDS = (74, 80)
TEST = (88, 108)

ESCALATED_SHARE = 0.10
SURE_PRECISION = 0.99
ALERT_AT_LEAST = 0.5
MEMBERS = 5
HIDDEN = (256, 128)
EPOCHS = 12


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("run", type=pathlib.Path)
    arguments.add_argument("other", type=pathlib.Path)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()

    simulation, features, rows = read_run(options.run)
    fraud, day = rows["fraud"], rows["day"]

    train = between(day, TRAIN)
    scaler = StandardScaler().fit(features[train])
    cheap = train_cheap(scaler.transform(features[train]), fraud[train])
    heavy = train_heavy(squash(scaler.transform(features[train])), fraud[train], options.seed)
    graphs.save(graphs.logistic_regression(scaler, cheap), MODELS / "fraud-cheap" / "1" / "model.onnx")
    graphs.save(graphs.network_ensemble(scaler, heavy), MODELS / "fraud-heavy" / "1" / "model.onnx")

    # From here on only the files that are served count.
    cheap_scores = graphs.score(MODELS / "fraud-cheap" / "1" / "model.onnx", features)
    thresholds = choose_thresholds(cheap_scores, fraud, between(day, THRESHOLDS))
    other_simulation, other_features, other_rows = read_run(options.other)
    write_report(
        HERE,
        {
            "seed": options.seed,
            "simulation": simulation,
            "otherSimulation": other_simulation,
            "days": {"train": TRAIN, "thresholds": THRESHOLDS, "test": TEST},
            "trainRows": int(train.sum()),
            "thresholds": {"below": thresholds[0], "above": thresholds[1], "alertAtLeast": ALERT_AT_LEAST},
            "test": evaluate(features, rows, thresholds, options.seed),
            "otherTest": evaluate(other_features, other_rows, thresholds, options.seed),
            "cost": cost_per_row({name: MODELS / name / "1" / "model.onnx" for name in ("fraud-cheap", "fraud-heavy")}, features[between(day, TEST)]),
            "bytes": {name: (MODELS / name / "1" / "model.onnx").stat().st_size for name in ("fraud-cheap", "fraud-heavy")},
        },
    )


def read_run(directory: pathlib.Path) -> tuple[dict, np.ndarray, np.ndarray]:
    """The simulation's settings, FP32 [rows, features] in the order of the vector, and what is known of each row besides, by name."""
    simulation = json.loads((directory / "simulation.json").read_text())
    description = json.loads((directory / "features.csv.json").read_text())
    names = json.loads(description["metadata"]["spillway.features"])
    start = datetime.date.fromisoformat(simulation["startDate"])
    features = np.empty((description["rows"], len(names)), dtype=np.float32)
    rows = np.empty(description["rows"], dtype=[("day", np.int64), ("customer_id", np.int64), ("fraud", np.int64)])
    with (directory / "features.csv").open(newline="") as file:
        lines = csv.reader(file)
        header = next(lines)
        vector = [header.index(name) for name in names]
        time, customer, label = (header.index(name) for name in ("event_time", "customer_id", "fraud"))
        for row, line in enumerate(lines):
            if line[label] == "":
                raise SystemExit(f"{directory}: transaction {line[0]} has no label yet: simulate some days more than are exported")
            features[row] = [float(line[at]) if line[at] else np.nan for at in vector]
            # Event times are in UTC.
            rows[row] = ((datetime.date.fromisoformat(line[time][:10]) - start).days, int(line[customer]), line[label] == "true")
    return simulation, features, rows


def evaluate(features: np.ndarray, rows: np.ndarray, thresholds: tuple[float, float], seed: int) -> dict:
    """What the served files are worth on the test days of an export."""
    below, above = thresholds
    scores = {name: graphs.score(MODELS / name / "1" / "model.onnx", features) for name in ("fraud-cheap", "fraud-heavy")}
    escalated = (scores["fraud-cheap"] >= below) & (scores["fraud-cheap"] <= above)
    scores["cascade"] = np.where(escalated, scores["fraud-heavy"], scores["fraud-cheap"])
    test, known = unknown_cards(rows, TEST)
    same = (scores["cascade"] >= ALERT_AT_LEAST) == (scores["fraud-heavy"] >= ALERT_AT_LEAST)
    return {
        "rows": int(test.sum()),
        "fraud": int(rows["fraud"][test].sum()),
        "knownCardsRemoved": known,
        "quality": {name: quality(score[test], rows[test], ALERT_AT_LEAST) for name, score in scores.items()},
        "gainOfHeavy": gain(scores["fraud-heavy"][test], scores["fraud-cheap"][test], rows[test], seed),
        "escalatedShare": float(escalated[test].mean()),
        "escalatedShareOfAll": float(escalated[between(rows["day"], TEST)].mean()),
        "sameDecisionAsHeavy": float(same[test].mean()),
    }


def between(day: np.ndarray, span: tuple[int, int]) -> np.ndarray:
    return (day >= span[0]) & (day <= span[1])


def squash(standardised: np.ndarray) -> np.ndarray:
    """Amounts and counts have long tails: a signed logarithm keeps them in reach of the network. The graph does the same."""
    return np.sign(standardised) * np.log1p(np.abs(standardised))


def train_cheap(standardised: np.ndarray, fraud: np.ndarray) -> LogisticRegression:
    return LogisticRegression(max_iter=1000).fit(standardised, fraud)


def train_heavy(inputs: np.ndarray, fraud: np.ndarray, seed: int) -> list[MLPClassifier]:
    """Networks that differ in their initial weights and batches alone; their mean is steadier than any one of them."""
    members = []
    with warnings.catch_warnings():
        # The count of epochs is the stopping rule.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for member in range(MEMBERS):
            network = MLPClassifier(HIDDEN, batch_size=512, max_iter=EPOCHS, learning_rate_init=1e-3, alpha=1e-4, random_state=seed * 100 + member)
            members.append(network.fit(inputs, fraud))
    return members


def choose_thresholds(scores: np.ndarray, fraud: np.ndarray, chosen_on: np.ndarray) -> tuple[float, float]:
    """The cheap model answers itself above the score from which on it is right, and below the score that leaves the wanted share to the heavy model."""
    scores, fraud = scores[chosen_on], fraud[chosen_on]
    above = next((t for t in np.arange(0.5, 1.0, 0.01) if (scores > t).sum() >= 20 and fraud[scores > t].mean() >= SURE_PRECISION), 0.99)
    sure = (scores > above).mean()
    below = np.quantile(scores, 1 - sure - ESCALATED_SHARE)
    return float(np.round(below, 4)), float(np.round(above, 2))


def unknown_cards(rows: np.ndarray, span: tuple[int, int]) -> tuple[np.ndarray, int]:
    """The span's rows without cards that a label had given away: by a fraud in the week before the last training week's end, or since, a week ago."""
    kept = np.zeros(len(rows), dtype=bool)
    removed = 0
    for day in range(span[0], span[1] + 1):
        labelled = (rows["fraud"] == 1) & between(rows["day"], (THRESHOLDS[0], day - 8))
        known = np.unique(rows["customer_id"][labelled])
        today = rows["day"] == day
        kept |= today & ~np.isin(rows["customer_id"], known)
        removed = len(known)
    return kept, removed


if __name__ == "__main__":
    main()
