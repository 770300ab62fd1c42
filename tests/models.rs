//! Models: against the libraries they come from, against plain references, and what is said when a version is wrong.
//!
//! `tests/models/` was written by `scripts/make-golden.py` with the real XGBoost and LightGBM.

mod autoencoder;
mod bind;
mod dense;
mod fixture;
mod forest;
mod manifest;
mod reasons;
