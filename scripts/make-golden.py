#!/usr/bin/env python3
"""Write tests/models/: small XGBoost and LightGBM models, 1000 rows and what the real libraries say about them.

The first run makes a virtual environment (scripts/.venv) with the pinned versions and starts itself again inside.
Output is the same on every run: one thread, fixed seeds, no time stamps.
"""
import argparse, gzip, io, json, os, subprocess, sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PINS = ["numpy==2.2.6", "scikit-learn==1.7.2", "xgboost==3.2.0", "lightgbm==4.6.0"]


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


def write_gz(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file, gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as packed:
        packed.write(text.encode())
    print(f"{path.stat().st_size:8d} bytes  {path}")


def table(columns, rows):
    """CSV with an empty cell for NaN; floats as the shortest text that reads back the same."""
    out = io.StringIO()
    out.write(",".join(columns) + "\n")
    for row in rows:
        out.write(",".join("" if v != v else repr(float(v)) for v in row) + "\n")
    return out.getvalue()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE.parent / "tests" / "models", help="folder to write to")
    out = parser.parse_args().out
    inside_venv()
    import numpy as np, xgboost as xgb, lightgbm as lgb

    rng = np.random.default_rng(7)
    names = [f"f{i}" for i in range(10)]

    def sample(n, infinite):
        x = rng.normal(size=(n, len(names)))
        x[:, 1] = rng.integers(0, 5, n)                      # a count: ties with thresholds, exact zeros
        x[:, 2] = np.exp(3 * x[:, 2])                        # an amount, heavy tail
        x[:, 3] = np.where(rng.random(n) < 0.5, 0.0, x[:, 3])
        x[:, 4] = np.round(x[:, 4], 2)
        x[rng.random(x.shape) < 0.08] = np.nan
        if infinite:
            pick = rng.random(x.shape)
            x[pick < 0.01] = np.inf
            x[(pick >= 0.01) & (pick < 0.02)] = -np.inf
        return x

    def labels(x):
        z = np.nan_to_num(x, nan=0.5, posinf=3, neginf=-3)
        logit = z[:, 0] * z[:, 1] / 2 + np.log1p(np.abs(z[:, 2])) - 2 + (z[:, 3] == 0) - np.isnan(x[:, 4]) * 2
        return (rng.random(len(x)) < 1 / (1 + np.exp(-logit))).astype(int)

    train = sample(4000, infinite=False)
    train_inf = sample(4000, infinite=True)
    y, y_inf = labels(train), labels(train_inf)
    rows = sample(1000, infinite=True)

    matrix = xgb.DMatrix(train, y, feature_names=names)
    common = {"tree_method": "hist", "nthread": 1, "seed": 7, "eta": 0.2}
    boosters = {
        "depth6": xgb.train({**common, "objective": "binary:logistic", "max_depth": 6}, matrix, 60),
        "depth12": xgb.train({**common, "objective": "reg:logistic", "max_depth": 12, "base_score": 0.3}, matrix, 12),
    }
    # Values on and just beside thresholds, as doubles that only the cast to f32 makes equal to them.
    splits = [(names.index(d["split"]), d["split_condition"]) for t in boosters["depth6"].get_dump(dump_format="json")
              for d in [json.loads(t)] if "split" in d]
    for i, (feature, threshold) in enumerate(splits):
        t = float(np.float32(threshold))
        rows[i, feature] = [t, t * (1 + 1e-9), t * (1 - 1e-9), np.nextafter(t, np.inf), np.nextafter(t, -np.inf)][i % 5]
    rows[100:104, 2] = [1e300, -1e300, 1e-300, -0.0]         # beyond f32, below f32, minus zero
    rows[104:108, 3] = [1e-36, -1e-36, 1e-35, -0.0]          # LightGBM calls these zero

    write_gz(out / "rows.csv.gz", table(names, rows))
    finite = np.isfinite(rows.astype(np.float32)) | np.isnan(rows)
    for name, booster in boosters.items():
        write_gz(out / "xgboost" / f"{name}.json.gz", bytes(booster.save_raw("json")).decode())
        margin = booster.inplace_predict(rows, predict_type="margin", validate_features=False)
        proba = booster.inplace_predict(rows, validate_features=False)
        # A DMatrix takes no infinite values; where there are none it must agree with in-place prediction.
        whole = finite.all(axis=1)
        again = booster.predict(xgb.DMatrix(rows[whole], feature_names=names), output_margin=True)
        assert (again == margin[whole]).all()
        write_gz(out / "xgboost" / f"{name}.expected.csv.gz", table(["margin", "probability"], zip(margin, proba)))
        shap = booster.predict(xgb.DMatrix(train[:50], feature_names=names), pred_contribs=True, validate_features=False)
        write_gz(out / "xgboost" / f"{name}.shap.csv.gz",
                 table(names + [f"c_{n}" for n in names] + ["bias"], np.hstack([train[:50], shap])))

    base = {"objective": "binary", "num_threads": 1, "seed": 7, "deterministic": True, "force_row_wise": True,
            "verbose": -1, "min_data_in_leaf": 5}
    variants = {
        "nan": ({}, train_inf, y_inf, 60),
        "zero": ({"zero_as_missing": True, "max_depth": 6}, train, y, 40),
        "none": ({"use_missing": False, "max_depth": 5, "sigmoid": 0.7}, train_inf, y_inf, 40),
    }
    for name, (extra, data, target, rounds) in variants.items():
        booster = lgb.train({**base, **extra}, lgb.Dataset(data, target, feature_name=names, params={"verbose": -1}), rounds)
        write_gz(out / "lightgbm" / f"{name}.txt.gz", booster.model_to_string())
        raw, proba = booster.predict(rows, raw_score=True), booster.predict(rows)
        write_gz(out / "lightgbm" / f"{name}.expected.csv.gz", table(["margin", "probability"], zip(raw, proba)))


if __name__ == "__main__":
    main()
