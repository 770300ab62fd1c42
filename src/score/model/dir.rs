//! The models directory: `models/NAME/VERSION/`, versions are whole numbers.

use std::fs;
use std::path::{Path, PathBuf};

use super::golden::{self, GOLDEN_TOLERANCE};
use super::manifest::{GOLDEN_FILE, is_name, sha256_hex};
use super::{LoadedModel, Manifest, Model, ModelError};

/// Finds and loads versions of models.
pub struct ModelDir;

impl ModelDir {
    /// The directory of `payments@3`, or of the highest version of `payments`, under `models_dir`.
    pub fn find(models_dir: &Path, wanted: &str) -> Result<PathBuf, ModelError> {
        let not_found = |hint: String| ModelError::NotFound {
            wanted: wanted.to_owned(),
            dir: models_dir.display().to_string(),
            hint,
        };
        let (name, version) = match wanted.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (wanted, None),
        };
        if !is_name(name) {
            return Err(not_found("write NAME or NAME@VERSION, as in payments@3".into()));
        }
        let dir = models_dir.join(name);
        let mut versions = numbers(&dir);
        versions.sort_unstable();
        match version {
            Some(version) => match version.parse::<u32>() {
                Ok(number) if versions.contains(&number) => Ok(dir.join(number.to_string())),
                Ok(_) if versions.is_empty() => Err(not_found(names_hint(models_dir))),
                Ok(_) => Err(not_found(format!("there are versions {}", join(&versions)))),
                Err(_) => Err(not_found(format!("version `{version}` is not a whole number"))),
            },
            None => match versions.last() {
                Some(number) => Ok(dir.join(number.to_string())),
                None => Err(not_found(names_hint(models_dir))),
            },
        }
    }

    /// Loads a version and checks all of it: manifest, hashes, weights against the manifest, golden rows. Reads the
    /// files once; a few milliseconds for 300 trees.
    pub fn load(path: &Path) -> Result<LoadedModel, ModelError> {
        let dir = path.display().to_string();
        let read = |file: &str| {
            fs::read(path.join(file)).map_err(|e| ModelError::File {
                dir: dir.clone(),
                file: file.to_owned(),
                reason: e.to_string(),
            })
        };
        let broken = |reason: String| ModelError::Manifest { dir: dir.clone(), reason };
        let text = String::from_utf8(read("model.toml")?).map_err(|_| broken("not UTF-8: write it again".into()))?;
        let manifest = Manifest::parse(&text).map_err(broken)?;

        let (mut weights, mut golden) = (Vec::new(), Vec::new());
        for (file, expected) in &manifest.files {
            let bytes = read(file)?;
            let found = sha256_hex(&bytes);
            if !found.eq_ignore_ascii_case(expected) {
                let short = |hash: &str| hash.chars().take(12).collect();
                let (found, expected) = (short(&found), short(expected));
                return Err(ModelError::Hash { dir, file: file.clone(), found, expected });
            }
            if *file == manifest.weights {
                weights = bytes;
            } else if file == GOLDEN_FILE {
                golden = bytes;
            }
        }
        let file = manifest.weights.clone();
        let model = LoadedModel::new(manifest, weights).map_err(|reason| ModelError::Weights {
            dir: dir.clone(),
            file,
            reason: one_line(&reason),
        })?;
        check_golden(&model, &golden).map_err(|(line, reason)| ModelError::Golden { dir, line, reason })?;
        Ok(model)
    }
}

/// Reproduces the golden rows; the error has a line's number.
fn check_golden(model: &LoadedModel, golden: &[u8]) -> Result<(), (usize, String)> {
    let text = std::str::from_utf8(golden).map_err(|_| (1, "not UTF-8".to_owned()))?;
    let golden = golden::parse(text, model.width())?;
    let rows: Vec<f64> = golden.iter().flat_map(|golden| golden.row.iter().copied()).collect();
    let mut scores = Vec::new();
    model.score(&rows, &mut scores);
    for (i, (golden, score)) in golden.iter().zip(scores).enumerate() {
        let near = (golden.score - score).abs() <= GOLDEN_TOLERANCE;
        if !near {
            return Err((i + 1, format!("score is {score:.6}, expected {:.6}", golden.score)));
        }
    }
    Ok(())
}

/// The entries of a directory that are whole numbers from 1; empty if it cannot be read.
fn numbers(dir: &Path) -> Vec<u32> {
    entries(dir)
        .iter()
        .filter_map(|name| name.parse().ok().filter(|n: &u32| *n > 0 && n.to_string() == *name))
        .collect()
}

fn entries(dir: &Path) -> Vec<String> {
    let read = fs::read_dir(dir).into_iter().flatten().flatten();
    read.filter(|entry| entry.path().is_dir()).filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn names_hint(models_dir: &Path) -> String {
    let mut names: Vec<String> =
        entries(models_dir).into_iter().filter(|name| !numbers(&models_dir.join(name)).is_empty()).collect();
    names.sort_unstable();
    match names.is_empty() {
        true => "the directory has no models; train one with scripts/train.py".into(),
        false => format!("there are {}", names.join(", ")),
    }
}

fn join(versions: &[u32]) -> String {
    versions.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
