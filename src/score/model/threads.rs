//! Keeps candle's thread pools out of the workers.
//!
//! candle asks for its thread count on every call; when `RAYON_NUM_THREADS` is unset it parses /proc/cpuinfo each time (a
//! 17 µs call for a 1.5 µs product), and large operations share one process-wide pool behind a mutex, which serialises
//! timely workers. Scoring threads are the workers themselves.
// Writing the environment is unsafe because another thread may be reading it. It is done here only, and `pin_threads` says
// when it may be called.
#![allow(unsafe_code)]

use std::env;

/// The variables that candle and rayon read, and the only value that suits workers.
pub const VARIABLES: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

/// The thread count of candle's pools is not one.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "{variable} is {found} but must be 1, or candle's thread pool serialises the workers; start deltawatch with {variable}=1"
)]
pub struct ThreadsError {
    /// The variable that is wrong.
    pub variable: &'static str,
    /// Its value, or `unset`.
    pub found: String,
}

/// Sets both variables to 1. To be called first in `main`, before any thread is started: no one else can then be reading
/// the environment.
pub fn pin_threads() {
    for variable in VARIABLES {
        // SAFETY: called at the top of main, when this is the only thread (see above).
        unsafe { env::set_var(variable, "1") };
    }
}

/// Whether both variables are 1, as start-up and a test check.
pub fn check() -> Result<(), ThreadsError> {
    for variable in VARIABLES {
        let found = env::var(variable).unwrap_or_else(|_| "unset".to_owned());
        if found != "1" {
            return Err(ThreadsError { variable, found });
        }
    }
    Ok(())
}
