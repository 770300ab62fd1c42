#!/usr/bin/env python3
"""Train a model from a feature log and write models/NAME/VERSION/, ready for `deltawatch --model NAME`.

  deltawatch replay --dataflow payments --input history.jsonl --features features.csv --output /dev/null
  scripts/train.py --features features.csv --labels labels.jsonl --name payments

FEATURES is the CSV that `deltawatch replay --features` writes: the id, then one column per feature, empty for missing, in
the order of event time. LABELS is CSV or JSON lines with the id and fraud 0/1; ids without a label count as not fraud.
Rows are split by their order, never at random: the first part trains, the last tests, and between them lies the delay
with which labels become known. Same input and seed, same files. The first run makes scripts/.venv with the libraries.
"""
import argparse, csv, gzip, hashlib, json, os, struct, subprocess, sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PINS = ["numpy==2.2.6", "scikit-learn==1.7.2", "xgboost==3.2.0", "lightgbm==4.6.0"]
GOLDEN_ROWS = 200
FRAUD = {"1", "1.0", "true", "fraud"}


def inside_venv():
    """Starts this script again inside a virtual environment with the pinned libraries, unless they are there."""
    try:
        import numpy, sklearn, xgboost, lightgbm  # noqa: F401
    except ImportError:
        venv = HERE / ".venv"
        if Path(sys.prefix) == venv:
            sys.exit("the pinned libraries do not import: remove scripts/.venv and try again")
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "--quiet", *PINS], check=True)
        os.execv(venv / "bin/python", [str(venv / "bin/python"), *sys.argv])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path, required=True, help="CSV, .gz allowed")
    parser.add_argument("--labels", type=Path, required=True, help="CSV or JSON lines (.jsonl), .gz allowed")
    parser.add_argument("--label-id", default="id", help="id column of the labels (default: id)")
    parser.add_argument("--label-fraud", default="fraud", help="0/1 column of the labels (default: fraud)")
    parser.add_argument("--name", required=True, help="name of the model: letters, digits, - and _")
    parser.add_argument("--version", type=int, help="default: one above the highest there is; versions are immutable")
    parser.add_argument("--kind", choices=["xgboost", "lightgbm", "logistic", "autoencoder"],
                        default="xgboost")
    parser.add_argument("--hidden", default="64,16,64", help="widths of an autoencoder's hidden layers (64,16,64)")
    parser.add_argument("--columns", help="comma-separated features to use (default: all)")
    parser.add_argument("--models", type=Path, default=HERE.parent / "models", help="where models live")
    parser.add_argument("--train", type=float, default=0.7, help="share of rows to train on (default 0.7)")
    parser.add_argument("--delay", type=float, default=0.05, help="share left out between training and test (0.05)")
    parser.add_argument("--trees", type=int, default=200)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--review", type=float, default=0.5, help="score from which to review")
    parser.add_argument("--block", type=float, default=0.9, help="score from which to block")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if not 0 < args.train < args.train + args.delay < 1:
        parser.error("--train and --train + --delay must lie between 0 and 1")
    return args


def opened(path):
    return gzip.open(path, "rt", newline="") if path.suffix == ".gz" else open(path, newline="")


def read_labels(args):
    """The ids that are fraud."""
    with opened(args.labels) as file:
        is_json = ".jsonl" in args.labels.suffixes or ".json" in args.labels.suffixes
        rows = (json.loads(line) for line in file if line.strip()) if is_json else csv.DictReader(file)
        try:
            return {str(row[args.label_id]) for row in rows if str(row[args.label_fraud]).lower() in FRAUD}
        except KeyError as missing:
            sys.exit(f"{args.labels}: no column {missing}; name it with --label-id or --label-fraud")


def read_features(args, np):
    with opened(args.features) as file:
        rows = csv.reader(file)
        header = next(rows)[1:]
        names = args.columns.split(",") if args.columns else header
        absent = [name for name in names if name not in header]
        if absent:
            sys.exit(f"{args.features} has no column {', '.join(absent)}; it has {', '.join(header)}")
        at = [header.index(name) + 1 for name in names]
        ids, values = [], []
        for row in rows:
            ids.append(row[0])
            values.append([float(row[i]) if row[i] else np.nan for i in at])
    return ids, names, np.array(values, dtype=np.float64)


def kind_of(column, np):
    """flag, count or number: for people and for the schema hash."""
    known = column[~np.isnan(column)]
    if not np.all(known == np.round(known)) or np.any(known < 0):
        return "number"
    return "flag" if np.all(known <= 1) else "count"


def safetensors(tensors, kind="F64"):
    """The bytes of a safetensors file: length of the header, header, values."""
    header, body = {}, b""
    for name, array in tensors.items():
        data = array.astype({"F64": "<f8", "F32": "<f4"}[kind]).tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def fit(args, x, y, names, np):
    """Returns the weights' file name and bytes, a scoring function, and extra text per feature."""
    nothing = [""] * len(names)
    if args.kind == "xgboost":
        import xgboost as xgb
        params = {"objective": "binary:logistic", "max_depth": args.depth, "eta": args.learning_rate, "nthread": 1,
                  "tree_method": "hist", "seed": args.seed, "min_child_weight": 5, "subsample": 0.8}
        booster = xgb.train(params, xgb.DMatrix(x, y, feature_names=names), args.trees)
        score = lambda rows: booster.inplace_predict(rows, validate_features=False)
        return "model.json", bytes(booster.save_raw("json")), score, nothing
    if args.kind == "lightgbm":
        import lightgbm as lgb
        params = {"objective": "binary", "max_depth": args.depth, "num_leaves": min(63, 2**args.depth - 1),
                  "learning_rate": args.learning_rate, "num_threads": 1, "deterministic": True, "force_row_wise": True,
                  "seed": args.seed, "verbose": -1}
        booster = lgb.train(params, lgb.Dataset(x, y, feature_name=names), args.trees)
        return "model.txt", booster.model_to_string().encode(), booster.predict, nothing
    fill = np.array([np.median(c[~np.isnan(c)]) if np.any(~np.isnan(c)) else 0.0 for c in x.T])
    filled = np.where(np.isnan(x), fill, x)
    mean, std = filled.mean(axis=0), filled.std(axis=0)
    std[std < 1e-12] = 1.0
    extra = [f", missing = {float(f)!r}, mean = {float(m)!r}, std = {float(s)!r}" for f, m, s in zip(fill, mean, std)]
    scaled = lambda rows: np.clip((np.where(np.isnan(rows), fill, rows) - mean) / std, -1e4, 1e4)
    if args.kind == "autoencoder":
        return autoencoder(args, x, y, scaled, np) + (extra,)
    from sklearn.linear_model import LogisticRegression
    model = LogisticRegression(C=1.0, max_iter=1000, random_state=args.seed).fit((filled - mean) / std, y)
    score = lambda rows: model.predict_proba((np.where(np.isnan(rows), fill, rows) - mean) / std)[:, 1]
    weights = safetensors({"linear.weight": model.coef_, "linear.bias": model.intercept_})
    return "model.safetensors", weights, score, extra


def autoencoder(args, x, y, scaled, np):
    """Learns to repeat what is no fraud; a probability of its error by isotonic regression on the last third, which it has not seen."""
    from sklearn.isotonic import IsotonicRegression
    from sklearn.neural_network import MLPRegressor
    args.widths = [int(width) for width in args.hidden.split(",")]
    cut = len(x) * 2 // 3
    rows = np.clip(scaled(x), -10, 10)
    model = MLPRegressor(hidden_layer_sizes=args.widths, activation="relu", max_iter=60, early_stopping=True, random_state=args.seed)
    model.fit(rows[:cut][y[:cut] == 0], rows[:cut][y[:cut] == 0])
    # As they are written.
    model.coefs_ = [weight.astype("<f4").astype(float) for weight in model.coefs_]
    model.intercepts_ = [bias.astype("<f4").astype(float) for bias in model.intercepts_]

    def errors(rows):
        values = scaled(rows)
        return np.mean(np.clip(values - model.predict(values), -10, 10) ** 2, axis=1)

    isotonic = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(errors(x[cut:]), y[cut:])
    args.calibration = (isotonic.X_thresholds_.tolist(), isotonic.y_thresholds_.tolist())
    tensors = {}
    for i, (weight, bias) in enumerate(zip(model.coefs_, model.intercepts_)):
        tensors |= {f"layers.{i}.weight": weight.T.copy(), f"layers.{i}.bias": bias}
    return "model.safetensors", safetensors(tensors, "F32"), lambda rows: isotonic.predict(errors(rows))


def main():
    args = arguments()
    inside_venv()
    import numpy as np
    from sklearn.metrics import average_precision_score, roc_auc_score

    frauds = read_labels(args)
    ids, names, x = read_features(args, np)
    y = np.array([i in frauds for i in ids], dtype=int)
    end, start = int(len(y) * args.train), int(len(y) * (args.train + args.delay))
    for what, part in [("training", y[:end]), ("test", y[start:])]:
        if len(set(part.tolist())) < 2:
            sys.exit(f"the {what} rows ({len(part)}) are all of one class; give more rows or check --labels")
    weights_file, weights, score, extra = fit(args, x[:end], y[:end], names, np)
    predicted = score(x[start:])
    metrics = {"auc": roc_auc_score(y[start:], predicted), "average_precision": average_precision_score(y[start:], predicted)}
    print(f"trained on {end} rows ({y[:end].sum()} frauds), tested on {len(y) - start} ({y[start:].sum()} frauds)")
    print("  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))

    base = args.models / args.name
    there = [int(p.name) for p in base.glob("*") if p.name.isdigit()]
    version = args.version or max(there, default=0) + 1
    path = base / str(version)
    if path.exists():
        sys.exit(f"{path} is there and versions are immutable; choose another --version")
    path.mkdir(parents=True)

    # Golden rows: half of them the riskiest, the rest spread over the test, so that they reach many leaves.
    riskiest = np.argsort(-predicted, kind="stable")[: GOLDEN_ROWS // 2]
    spread = np.linspace(0, len(predicted) - 1, GOLDEN_ROWS // 2).astype(int)
    golden = x[start:][sorted({*riskiest.tolist(), *spread.tolist()})]
    cell = lambda v: None if v != v else ("inf" if v > 0 else "-inf") if v in (np.inf, -np.inf) else float(v)
    lines = [json.dumps({"row": [cell(v) for v in row], "score": float(s)}) for row, s in zip(golden, score(golden))]
    files = {weights_file: weights, "golden.jsonl": ("\n".join(lines) + "\n").encode()}

    kinds = [kind_of(column, np) for column in x.T]
    schema = "".join(f"{name} {kind}\n" for name, kind in zip(names, kinds))
    quoted = json.dumps
    toml = [f"# Written by scripts/train.py. Immutable: a change is a new version.",
            f"name = {quoted(args.name)}", f"version = {version}", f"kind = {quoted(args.kind)}",
            f"weights = {quoted(weights_file)}",
            f"missing = {quoted('default' if args.kind in ('logistic', 'autoencoder') else 'native')}",
            f"schema_hash = {quoted(hashlib.sha256(schema.encode()).hexdigest())}", "features = ["]
    toml += [f"  {{ name = {quoted(n)}, type = {quoted(k)}{e} }}," for n, k, e in zip(names, kinds, extra)]
    if args.kind == "autoencoder":
        toml.insert(-1 - len(names), f"hidden = {args.widths}")
    toml += ["]"]
    if args.kind == "autoencoder":
        margins, probabilities = args.calibration
        toml += ["", "[calibration]", 'method = "isotonic"', f"margins = {margins}", f"probabilities = {probabilities}"]
    toml += ["", "[thresholds]", f"review = {args.review}", f"block = {args.block}", "", "[training]",
             f"from = {quoted(ids[0])}", f"to = {quoted(ids[end - 1])}", f"rows = {end}", f"frauds = {y[:end].sum()}", "",
             "[training.metrics]"] + [f"{k} = {v:.6f}" for k, v in metrics.items()] + ["", "[files]"]
    for file, data in files.items():
        (path / file).write_bytes(data)
        toml.append(f"{quoted(file)} = {quoted(hashlib.sha256(data).hexdigest())}")
    (path / "model.toml").write_text("\n".join(toml) + "\n")
    figures = "\n".join(f"| {name} | {value:.4f} |" for name, value in metrics.items())
    (path / "README.md").write_text(
        f"# {args.name}@{version}\n\nWritten by `scripts/train.py`, kind {args.kind}, {len(names)} features, seed {args.seed}.\n\n"
        f"Trained on the first {end} rows ({y[:end].sum()} frauds, {ids[0]} to {ids[end - 1]}) of the feature log; figures are of "
        f"the last {len(y) - start} ({y[start:].sum()} frauds).\nBetween them {start - end} rows are left out for the delay of labels.\n\n"
        f"| measure | value |\n| --- | --- |\n{figures}\n\n"
        f"Review from {args.review}, block from {args.block}. A score is a probability under the rate of fraud in training; where that "
        f"rate differs, calibrate first.\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
