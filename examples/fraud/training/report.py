"""report.json, and the same for people."""

import datetime
import json
import pathlib
from typing import Any

NAMES = {"fraud-cheap": "cheap (logistic regression)", "fraud-heavy": "heavy (5 networks of 15-256-128-1)", "cascade": "cascade"}


def write_report(directory: pathlib.Path, report: dict[str, Any]) -> None:
    (directory / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    (directory / "report.md").write_text(_text(report))


def _text(report: dict[str, Any]) -> str:
    days, cost, thresholds = report["days"], report["cost"], report["thresholds"]
    simulation, other = report["simulation"], report["otherSimulation"]
    costs = "\n".join(f"| {batch} | {c['fraud-cheap']:.3f} | {c['fraud-heavy']:.2f} | {c['ratio']:.0f} |" for batch, c in cost.items())
    return f"""# What the fraud models are worth

Written by `train.py`; report.json holds the same figures.

```
{_export(1, simulation)}
{_export(2, other)}
cd examples/fraud/training
python3.11 -m venv .venv && .venv/bin/pip install -r requirements.txt
.venv/bin/python train.py build/1 build/2 --seed {report["seed"]}
```

Simulation of {simulation["customers"]:,} customers and {simulation["terminals"]:,} terminals. Trained on days {days["train"][0]} to {days["train"][1]} ({report["trainRows"]:,} rows), thresholds chosen on days
{days["thresholds"][0]} to {days["thresholds"][1]}, tested on days {days["test"][0]} to {days["test"][1]}: labels are a week late. As in the published protocol, cards that a label had given away before
the test day are left out. Alerts are scores of {thresholds["alertAtLeast"]} and more. The cascade lets the cheap model answer below {thresholds["below"]} and above {thresholds["above"]}.

## Later days of the same simulation

{_evaluation(report["test"])}

The kind of the heavy model was chosen with these days in view, among networks, forests and boosted trees.

## The same days of another simulation (seed {other["seed"]})

Other customers and other terminals, and no choice made with them in view.

{_evaluation(report["otherTest"])}

## Reading it

Average precision, card precision@100 and the alerts are what the heavy model is better at, in both simulations. AUC is decided among the many low
scores of transactions in which nothing shows, where no alert is raised; there neither model is surely better. The cascade ranks by the scores of two
models, so among the low ones its order is a mixture of both.

## Cost

Microseconds a row, ONNX Runtime, one thread:

| rows a call | cheap | heavy | ratio |
|---|---|---|---|
{costs}

Sizes: cheap {report["bytes"]["fraud-cheap"]:,} bytes, heavy {report["bytes"]["fraud-heavy"]:,} bytes.
"""


def _export(run: int, simulation: dict[str, Any]) -> str:
    """From the day on which every window is full, up to where all labels are known: they take up to a week."""
    folder = f"examples/fraud/training/build/{run}"
    start = datetime.date.fromisoformat(simulation["startDate"])
    first, end = (start + datetime.timedelta(days=days) for days in (37, simulation["days"] - 7))
    return f"""npx node examples/fraud/src/main.ts simulate --days {simulation["days"]} --seed {simulation["seed"]} --out {folder}
npx spillway features export --pipeline examples/fraud/pipeline.yaml --out {folder}/features.csv \\
  --input transactions={folder}/transactions.ndjson --input labels={folder}/labels.ndjson \\
  --label labels.fraud --on transaction_id --fields customer_id --from {first} --to {end}"""


def _evaluation(test: dict[str, Any]) -> str:
    lines = "\n".join(
        f"| {NAMES[name]} | {q['auc']:.4f} | {q['averagePrecision']:.4f} | {q['cardPrecisionAt100']:.4f} | {q['alertPrecision']:.3f} | {q['alertRecall']:.3f} |"
        for name, q in test["quality"].items()
    )
    gain = test["gainOfHeavy"]
    return f"""{test["rows"]:,} rows, {test["fraud"]:,} of them fraud; on the last day {test["knownCardsRemoved"]:,} cards were known.

| | AUC | average precision | card precision@100 | precision of alerts | recall of alerts |
|---|---|---|---|---|---|
{lines}

The heavy model's gain over the cheap one, 95 % interval over days drawn again: average precision {_interval(gain["averagePrecision"])}, AUC
{_interval(gain["auc"])}. {test["escalatedShare"]:.1%} of the rows ({test["escalatedShareOfAll"]:.1%} with the known cards) go on to the heavy model; {test["sameDecisionAsHeavy"]:.3%} of
the cascade's decisions are those that the heavy model would have made alone."""


def _interval(bounds: list[float]) -> str:
    return f"{bounds[0]:+.4f} to {bounds[1]:+.4f}"
