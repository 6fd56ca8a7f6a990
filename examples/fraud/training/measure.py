"""Quality on unseen days, and cost in time."""

import pathlib
import time

import numpy as np
import onnxruntime
from sklearn.metrics import average_precision_score, roc_auc_score

CARDS_A_DAY = 100
BATCHES = (256, 1024)
ROUNDS = 7


def quality(scores: np.ndarray, rows: np.ndarray, alert_at_least: float) -> dict[str, float]:
    alerts = scores >= alert_at_least
    return {
        "auc": float(roc_auc_score(rows["fraud"], scores)),
        "averagePrecision": float(average_precision_score(rows["fraud"], scores)),
        "cardPrecisionAt100": card_precision(scores, rows),
        "alertPrecision": float(rows["fraud"][alerts].mean()) if alerts.any() else float("nan"),
        "alertRecall": float(alerts[rows["fraud"] == 1].mean()),
    }


def gain(better: np.ndarray, worse: np.ndarray, rows: np.ndarray, seed: int) -> dict[str, list[float]]:
    """95 % interval of the differences in quality, from 200 draws of whole days."""
    random = np.random.default_rng(seed)
    by_day = [np.flatnonzero(rows["day"] == day) for day in np.unique(rows["day"])]
    auc, precision = [], []
    for _ in range(200):
        drawn = np.concatenate([by_day[day] for day in random.integers(len(by_day), size=len(by_day))])
        fraud = rows["fraud"][drawn]
        auc.append(roc_auc_score(fraud, better[drawn]) - roc_auc_score(fraud, worse[drawn]))
        precision.append(average_precision_score(fraud, better[drawn]) - average_precision_score(fraud, worse[drawn]))
    return {name: np.quantile(values, [0.025, 0.975]).tolist() for name, values in (("auc", auc), ("averagePrecision", precision))}


def card_precision(scores: np.ndarray, rows: np.ndarray) -> float:
    """Of the 100 cards with the day's highest scores, the share with a fraud that day; the mean over the days."""
    daily = []
    for day in np.unique(rows["day"]):
        today = rows["day"] == day
        cards, card = np.unique(rows["customer_id"][today], return_inverse=True)
        highest = np.zeros(len(cards))
        np.maximum.at(highest, card, scores[today])
        compromised = np.zeros(len(cards), dtype=np.int64)
        np.maximum.at(compromised, card, rows["fraud"][today])
        top = np.argsort(-highest, kind="stable")[:CARDS_A_DAY]
        daily.append(compromised[top].mean())
    return float(np.mean(daily))


def cost_per_row(models: dict[str, pathlib.Path], features: np.ndarray) -> dict[str, dict[str, float]]:
    """Microseconds a row on one thread, by batch size: medians of rounds in which the models take turns."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    sessions = {name: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for name, path in models.items()}
    costs: dict[str, dict[str, float]] = {}
    for batch in BATCHES:
        rounds: dict[str, list[float]] = {name: [] for name in sessions}
        for _ in range(ROUNDS):
            for name, session in sessions.items():
                rounds[name].append(_round(session, features[:batch]) / batch * 1e6)
        medians = {name: float(np.median(times)) for name, times in rounds.items()}
        costs[str(batch)] = {**medians, "ratio": medians["fraud-heavy"] / medians["fraud-cheap"]}
    return costs


def _round(session: onnxruntime.InferenceSession, inputs: np.ndarray) -> float:
    """Median seconds of a call."""
    times = []
    for _ in range(200):
        start = time.perf_counter()
        session.run(None, {"features": inputs})
        times.append(time.perf_counter() - start)
    return float(np.median(times))
