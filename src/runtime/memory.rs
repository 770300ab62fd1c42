//! How the allocator treats memory that is free.

// The allocator's options are set through its C interface.
#![allow(unsafe_code)]

use libmimalloc_sys::{mi_option_get, mi_option_set};

/// The option's number in mimalloc 3, which its binding does not name.
const PURGE_DELAY: i32 = 15;
/// Its default, milliseconds. Another value means that the user has set it (or that the number has changed).
const DEFAULT_MS: std::ffi::c_long = 1_000;
/// How long freed memory stays ours, milliseconds.
const KEPT_MS: std::ffi::c_long = 60_000;

/// Keeps freed memory for a minute before it goes back to the system. By default it goes after a second, and an engine
/// whose state comes and goes all the time then has the system clear the same pages again and again: a tenth of the CPU
/// time of `payments`. `MIMALLOC_PURGE_DELAY` sets another delay.
pub fn keep_freed() {
    // SAFETY: both take plain integers and may be called at any time; an unknown option is ignored.
    unsafe {
        if mi_option_get(PURGE_DELAY) == DEFAULT_MS {
            mi_option_set(PURGE_DELAY, KEPT_MS);
        }
    }
}
