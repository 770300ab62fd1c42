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
/// What keeps it for good.
const FOR_GOOD: std::ffi::c_long = -1;
/// Memory is reserved in pieces of so many bytes: small enough for the allocator to keep and carve up later.
const PIECE: usize = 512 << 10;

/// Keeps freed memory for a minute before it goes back to the system. By default it goes after a second, and an engine
/// whose state comes and goes all the time then has the system clear the same pages again and again: a tenth of the CPU
/// time of `payments`. `MIMALLOC_PURGE_DELAY` sets another delay.
pub fn keep_freed() {
    keep_freed_for(KEPT_MS);
}

/// Takes memory from the system and touches all of it, before state needs it; what is freed is kept for good. A page that
/// is touched for the first time has to be cleared: 0.2 to 5 ms each where pages are huge, while a score waits.
///
/// The error says how much there is.
pub fn reserve(bytes: usize) -> Result<(), String> {
    let available = available_bytes().unwrap_or(usize::MAX);
    let refused = |had: usize| format!("the system has {} MiB to give", had >> 20);
    if bytes > available {
        return Err(refused(available));
    }
    keep_freed_for(FOR_GOOD);
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    for _ in 0..bytes.div_ceil(PIECE) {
        let mut piece = Vec::new();
        piece.try_reserve_exact(PIECE).map_err(|_| refused(pieces.len() * PIECE))?;
        // Not zero, which the system gives without touching anything.
        piece.resize(PIECE, 1);
        pieces.push(std::hint::black_box(piece));
    }
    Ok(())
}

/// What could be taken without swapping, where the system says so.
fn available_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse().ok().map(|kib: usize| kib << 10)
}

fn keep_freed_for(ms: std::ffi::c_long) {
    // SAFETY: both take plain integers and may be called at any time; an unknown option is ignored.
    unsafe {
        if [DEFAULT_MS, KEPT_MS].contains(&mi_option_get(PURGE_DELAY)) {
            mi_option_set(PURGE_DELAY, ms);
        }
    }
}
