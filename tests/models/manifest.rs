//! Each way a version can be wrong is one line that says which file, what, and what to do.

use std::fs;
use std::path::Path;

use deltawatch::score::model::{Calibration, Model, ModelDir, sigmoid};

use super::fixture::{Draft, forest_draft, names, random_layers, safetensors, table};

fn error_of(path: &Path) -> String {
    let error = ModelDir::load(path).err().expect("the version is broken").to_string();
    assert!(!error.contains('\n') && error.len() < 400, "one line: {error}");
    assert!(error.contains("toy"), "names the version: {error}");
    error
}

fn logistic() -> Draft {
    let weights = safetensors(&random_layers(&[2, 1], 1), |_| "linear".into());
    Draft::new("logistic", &names(2), |_| ", missing = 0.0".into(), ("w.safetensors", weights)).golden(&[])
}

#[test]
fn wrong_text_of_the_manifest() {
    let draft = forest_draft("xgboost", "depth6");
    let good = draft.toml();
    let (_dir, path) = draft.write();
    ModelDir::load(&path).unwrap();
    for (from, to, said) in [
        ("version = 1", "version = 1\ncolour = \"red\"", "unknown field `colour`"),
        ("review = 0.5", "review = 0.5\nrefuse = 1.0", "unknown field `refuse`"),
        ("type = \"number\"", "type = \"number\", scale = 2", "unknown field `scale`"),
        ("type = \"number\"", "type = \"text\"", "unknown variant `text`"),
        ("version = 1", "version = ", "line "),
        ("version = 1\n", "", "missing field `version`"),
        ("version = 1", "version = 0", "version starts at 1"),
        ("name = \"toy\"", "name = \"../toy\"", "letters, digits"),
        ("review = 0.5", "review = 0.95", "0 <= review"),
        ("block = 0.9", "block = nan", "0 <= review"),
        ("missing = \"native\"", "missing = \"default\"", "feature `f0` needs `missing`"),
        ("type = \"number\"", "type = \"number\", missing = 0.0", "needs missing = \"default\""),
        ("type = \"number\"", "type = \"number\", mean = 0.0", "trees do not use"),
        ("version = 1", "version = 1\nhidden = [3]", "for an mlp and an autoencoder only"),
        ("name = \"f1\"", "name = \"f0\"", "feature `f0` is there twice"),
        ("name = \"f1\"", "name = \"g1\"", "schema_hash is not that of the features"),
        ("type = \"number\"", "type = \"count\"", "schema_hash is not that of the features"),
        ("[files]", "[reasons]\nf99 = \"much\"\n[files]", "`f99` is not a feature"),
        ("\"golden.jsonl\" =", "\"silver.jsonl\" =", "the sha256 of golden.jsonl is missing"),
        ("[files]", "[files]\n\"../x\" = \"00\"", "must be a plain name"),
        ("[files]", "[calibration]\nmethod = \"platt\"\na = 1.0\n[files]", "missing field `b`"),
        ("[files]", "[calibration]\nmethod = \"beta\"\n[files]", "unknown variant `beta`"),
        ("[files]", "[calibration]\nmethod = \"isotonic\"\n[files]", "missing field `margins`"),
    ] {
        assert!(good.contains(from), "{from} is not in the manifest");
        fs::write(path.join("model.toml"), good.replacen(from, to, 1)).unwrap();
        let error = error_of(&path);
        assert!(error.contains("model.toml: ") && error.contains(said), "{to}: {error}");
    }
}

#[test]
fn wrong_files() {
    let draft = forest_draft("xgboost", "depth6");
    let (_dir, path) = draft.write();
    fs::write(path.join("model.json"), b"{}").unwrap();
    let error = error_of(&path);
    assert!(error.contains("model.json has sha256 44136fa355b3") && error.contains("immutable"), "{error}");
    for file in ["model.json", "golden.jsonl", "model.toml"] {
        fs::remove_file(path.join(file)).unwrap();
        let error = error_of(&path);
        assert!(error.contains(&format!("cannot read {file}")), "{error}");
        if file != "model.toml" {
            fs::write(path.join(file), &draft.files[file]).unwrap();
        }
    }
}

#[test]
fn features_and_weights_must_agree() {
    let (width, rows) = table("rows.csv.gz");
    let forest = |names: &[String]| {
        let mut draft = forest_draft("xgboost", "depth6");
        let weights = draft.files.remove("model.json").unwrap();
        Draft::new("xgboost", names, |_| String::new(), ("model.json", weights)).golden(&[(&rows[..width], 0.5)])
    };
    let mut swapped = names(width);
    swapped.swap(2, 3);
    let error = error_of(&forest(&swapped).write().1);
    assert!(error.contains("the trees have `f2` where model.toml has `f3`"), "{error}");
    let error = error_of(&forest(&names(9)).write().1);
    assert!(error.contains("read 10 features, model.toml lists 9"), "{error}");

    let mut three = Draft::new(
        "logistic",
        &names(3),
        |_| ", missing = 0.0".into(),
        ("w", logistic().files["w.safetensors"].clone()),
    );
    three.files.insert("golden.jsonl".into(), vec![]);
    let error = error_of(&three.write().1);
    assert!(error.contains("do not fit model.toml"), "{error}");
    three.files.insert("w".into(), b"not tensors".to_vec());
    let error = error_of(&three.write().1);
    assert!(error.contains("not a safetensors file"), "{error}");
}

#[test]
fn golden_rows_must_be_reproduced() {
    let mut draft = forest_draft("xgboost", "depth6");
    let good = String::from_utf8(draft.files["golden.jsonl"].clone()).unwrap();
    let line = good.lines().nth(4).unwrap();
    let score = line.rsplit_once("\"score\": ").unwrap().1.trim_end_matches('}').parse::<f64>().unwrap();
    let with = |fifth: String| good.replacen(line, &fifth, 1);
    for (text, said) in [
        (with(line.replace(&score.to_string(), &(score + 0.001).to_string())), "line 5: score is 0."),
        (with("{\"row\": [1], \"score\": 0.5}".into()), "line 5: 1 values for 10 features"),
        (with("{\"row\": [\"many\"], \"score\": 0.5}".into()), "line 5: not a golden row"),
        (with(line.replace("\"score\"", "\"scores\"")), "line 5: not a golden row"),
        (String::new(), "there is no row"),
    ] {
        draft.files.insert("golden.jsonl".into(), text.into_bytes());
        let error = error_of(&draft.write().1);
        assert!(error.contains("golden.jsonl") && error.contains(said), "{said}: {error}");
    }
}

#[test]
fn platt_calibration_replaces_the_link() {
    let plain = super::fixture::forest("lightgbm", "nan");
    let (width, rows) = table("rows.csv.gz");
    let expected = |row: &[f64]| sigmoid(0.5 * f64::from(plain.raw_score(row)) - 1.0);
    let row = &rows[..width];
    let mut draft = forest_draft("lightgbm", "nan").golden(&[(row, expected(row))]);
    let calibration = toml::from_str("method = \"platt\"\na = 0.5\nb = -1.0").unwrap();
    draft.manifest.insert("calibration".into(), toml::Value::Table(calibration));
    let model = draft.load();
    assert_eq!(model.manifest().calibration, Calibration::Platt { a: 0.5, b: -1.0 });
    let mut scores = Vec::new();
    model.score(&rows, &mut scores);
    for (row, score) in rows.chunks(width).zip(scores) {
        assert!((score - expected(row)).abs() <= 0.5 / 16384.0 + 1e-7);
    }
}

/// A forest may also replace missing values, if it was trained that way.
#[test]
fn missing_values_are_replaced_under_the_default_policy() {
    let plain = super::fixture::forest("xgboost", "depth6");
    let (width, rows) = table("rows.csv.gz");
    let row = rows.chunks(width).find(|row| row[0].is_nan()).unwrap();
    let filled: Vec<f64> = row.iter().map(|x| if x.is_nan() { 2.5 } else { *x }).collect();
    assert_ne!(plain.raw_score(row), plain.raw_score(&filled), "the test shows nothing");
    let weights = forest_draft("xgboost", "depth6").files["model.json"].clone();
    let mut draft = Draft::new("xgboost", &names(width), |_| ", missing = 2.5".into(), ("model.json", weights));
    draft = draft.golden(&[(row, plain.probability(&filled))]);
    draft.manifest.insert("missing".into(), "default".into());
    let model = draft.load();
    assert_eq!(model.raw_score(row), plain.raw_score(&filled));
    assert_eq!(model.reasons(row, 3), plain.reasons(&filled, 3));
}

/// What is shipped in `models/` loads, and so does what `scripts/train.py` wrote.
#[test]
fn shipped_models_load() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut names: Vec<_> = fs::read_dir(&models).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    names.sort();
    assert!(!names.is_empty());
    for name in names {
        for version in fs::read_dir(&name).unwrap() {
            let path = version.unwrap().path();
            let model = ModelDir::load(&path).unwrap_or_else(|e| panic!("{e}"));
            let dir = format!("{}@{}", name.file_name().unwrap().display(), path.file_name().unwrap().display());
            assert_eq!(model.label(), dir);
            assert!(path.join("README.md").is_file(), "{dir} has no card");
        }
    }
}
