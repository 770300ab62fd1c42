//! What can be wrong with a model. Every message is one line and says what to do.

/// Why a model cannot be used. All are user errors: trying again without a change does not help.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// No such model or version.
    #[error("no model `{wanted}` in {dir}: {hint}")]
    NotFound {
        /// What was asked for.
        wanted: String,
        /// Where it was looked for.
        dir: String,
        /// What is there, or how it is written.
        hint: String,
    },
    /// A file is missing or unreadable.
    #[error("model {dir}: cannot read {file} ({reason}); restore it or write the version again with scripts/train.py")]
    File {
        /// The model's directory.
        dir: String,
        /// The file in it.
        file: String,
        /// What the system said.
        reason: String,
    },
    /// `model.toml` does not say what it must.
    #[error("model {dir}: model.toml: {reason}")]
    Manifest {
        /// The model's directory.
        dir: String,
        /// What is wrong and how to put it right.
        reason: String,
    },
    /// A file is not the one the manifest was written for.
    #[error(
        "model {dir}: {file} has sha256 {found}, model.toml says {expected}; \
         versions are immutable: restore the file or write a new version"
    )]
    Hash {
        /// The model's directory.
        dir: String,
        /// The file in it.
        file: String,
        /// The start of the hash of the file as it is.
        found: String,
        /// The start of the hash of the manifest.
        expected: String,
    },
    /// The weights cannot be understood or are of a kind that is not supported.
    #[error("model {dir}: {file}: {reason}")]
    Weights {
        /// The model's directory.
        dir: String,
        /// The file in it.
        file: String,
        /// What is wrong and how to put it right.
        reason: String,
    },
    /// The model does not give the scores it gave when it was made.
    #[error(
        "model {dir}: golden.jsonl line {line}: {reason}; the weights are not those it was written with: train it again"
    )]
    Golden {
        /// The model's directory.
        dir: String,
        /// Line in the file, from 1.
        line: usize,
        /// Expected and found, or what is wrong with the line.
        reason: String,
    },
    /// The dataflow does not compute what the model needs.
    #[error("model {label} needs {reason}; retrain it on this dataflow's features or choose another with --model")]
    Features {
        /// The model.
        label: String,
        /// Which features are missing and what comes nearest.
        reason: String,
    },
}
