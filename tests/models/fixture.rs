//! Reads the checked-in fixtures, and writes whole model directories for tests.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use deltawatch::score::model::{FeatureType, LoadedModel, ManifestFeature, ModelDir, schema_hash};
use flate2::read::GzDecoder;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// The bytes of a gzipped file under `tests/models/`.
pub fn unpack(file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(file);
    let mut bytes = Vec::new();
    GzDecoder::new(File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// A gzipped CSV of numbers: its width and values, row-major, an empty cell as NaN.
pub fn table(file: &str) -> (usize, Vec<f64>) {
    let bytes = unpack(file);
    let mut reader = csv::Reader::from_reader(&bytes[..]);
    let width = reader.headers().unwrap().len();
    let cell = |cell: &str| if cell.is_empty() { f64::NAN } else { cell.parse().unwrap() };
    let values = reader.records().flat_map(|row| row.unwrap().iter().map(cell).collect::<Vec<_>>()).collect();
    (width, values)
}

/// A model directory in the making; `write` puts it on disk with the right hashes.
pub struct Draft {
    pub manifest: BTreeMap<String, toml::Value>,
    pub features: Vec<String>,
    pub files: BTreeMap<String, Vec<u8>>,
}

pub fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("f{i}")).collect()
}

impl Draft {
    /// `extra` goes into each feature's table, as in `, missing = 0.0`.
    pub fn new(kind: &str, names: &[String], extra: impl Fn(usize) -> String, weights: (&str, Vec<u8>)) -> Self {
        let lines = names.iter().enumerate();
        let features =
            lines.map(|(i, name)| format!("{{ name = \"{name}\", type = \"number\"{} }}", extra(i))).collect();
        let missing = if matches!(kind, "xgboost" | "lightgbm") { "native" } else { "default" };
        let text = |s: &str| toml::Value::String(s.to_owned());
        let hashed: Vec<ManifestFeature> = names.iter().map(|name| feature(name)).collect();
        let manifest = [
            ("name", text("toy")),
            ("version", toml::Value::Integer(1)),
            ("kind", text(kind)),
            ("weights", text(weights.0)),
            ("missing", text(missing)),
            ("schema_hash", text(&schema_hash(&hashed))),
        ];
        let manifest = manifest.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Draft { manifest, features, files: BTreeMap::from([(weights.0.to_owned(), weights.1)]) }
    }

    pub fn golden(mut self, rows: &[(&[f64], f64)]) -> Self {
        let cell = |x: &f64| match x {
            x if x.is_nan() => "null".to_owned(),
            x if x.is_infinite() => format!("\"{x}\""),
            x => format!("{x:?}"),
        };
        let line = |(row, score): &(&[f64], f64)| {
            format!("{{\"row\": [{}], \"score\": {score}}}\n", row.iter().map(cell).collect::<Vec<_>>().join(","))
        };
        self.files.insert("golden.jsonl".into(), rows.iter().map(line).collect::<String>().into_bytes());
        self
    }

    pub fn toml(&self) -> String {
        let mut text: String = self.manifest.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        text.push_str(&format!("features = [\n{}\n]\n", self.features.join(",\n")));
        text.push_str("[thresholds]\nreview = 0.5\nblock = 0.9\n[files]\n");
        for (file, bytes) in &self.files {
            let hash: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
            text.push_str(&format!("\"{file}\" = \"{hash}\"\n"));
        }
        text
    }

    /// Writes `NAME/1` into a new directory.
    pub fn write(&self) -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("toy/1");
        fs::create_dir_all(&path).unwrap();
        self.files.iter().for_each(|(file, bytes)| fs::write(path.join(file), bytes).unwrap());
        fs::write(path.join("model.toml"), self.toml()).unwrap();
        (dir, path)
    }

    pub fn load(&self) -> LoadedModel {
        let (_dir, path) = self.write();
        ModelDir::load(&path).unwrap()
    }
}

fn feature(name: &str) -> ManifestFeature {
    ManifestFeature { name: name.into(), kind: FeatureType::Number, missing: None, mean: None, std: None }
}

/// A forest from the fixtures, as a loaded model; its golden rows are the library's first hundred.
pub fn forest(library: &str, name: &str) -> LoadedModel {
    forest_draft(library, name).load()
}

pub fn forest_draft(library: &str, name: &str) -> Draft {
    let (file, packed) = match library {
        "xgboost" => ("model.json", format!("xgboost/{name}.json.gz")),
        _ => ("model.txt", format!("lightgbm/{name}.txt.gz")),
    };
    let (width, rows) = table("rows.csv.gz");
    let (_, expected) = table(&format!("{library}/{name}.expected.csv.gz"));
    let golden: Vec<(&[f64], f64)> =
        rows.chunks(width).zip(expected.chunks(2)).take(100).map(|(row, expected)| (row, expected[1])).collect();
    Draft::new(library, &names(width), |_| String::new(), (file, unpack(&packed))).golden(&golden)
}

/// Random weights of dense layers: `(outputs, inputs, weights, bias)` each.
pub type Layers = Vec<(usize, usize, Vec<f32>, Vec<f32>)>;

pub fn random_layers(widths: &[usize], seed: u64) -> Layers {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut draw = |n: usize, scale: f32| (0..n).map(|_| rng.random_range(-scale..scale)).collect::<Vec<f32>>();
    let pairs = widths.windows(2);
    pairs.map(|w| (w[1], w[0], draw(w[0] * w[1], (3.0 / w[0] as f32).sqrt()), draw(w[1], 0.1))).collect()
}

/// safetensors bytes with each layer's weight and bias under `name(layer)`.
pub fn safetensors(layers: &Layers, name: impl Fn(usize) -> String) -> Vec<u8> {
    let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let mut tensors = Vec::new();
    for (i, (outputs, inputs, weight, bias)) in layers.iter().enumerate() {
        tensors.push((format!("{}.weight", name(i)), vec![*outputs, *inputs], bytes(weight)));
        tensors.push((format!("{}.bias", name(i)), vec![*outputs], bytes(bias)));
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    safetensors::serialize(views, None).unwrap()
}

/// Rows of ordinary, missing, infinite and huge values.
pub fn wild_rows(width: usize, count: usize, seed: u64) -> Vec<f64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut cell = || match rng.random_range(0..40) {
        0 => f64::NAN,
        1 => [f64::INFINITY, f64::NEG_INFINITY, 1e300, -0.0][rng.random_range(0..4)],
        _ => rng.random_range(-3.0..3.0),
    };
    (0..width * count).map(|_| cell()).collect()
}
