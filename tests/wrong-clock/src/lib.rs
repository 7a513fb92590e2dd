//! A wall clock that is wrong. A program that is started with this library in `LD_PRELOAD` sees
//! `CLOCK_REALTIME` moved by `WRONG_CLOCK_MS` milliseconds; clocks that measure stay as they are,
//! as on a machine whose time was set wrongly.
//!
//! Rust's `SystemTime` asks the C library, which is where this stands in between. The kernel has
//! time namespaces, but none that moves `CLOCK_REALTIME`; and setting the machine's own clock
//! would be wrong for everybody.

use std::sync::OnceLock;

type ClockGettime = unsafe extern "C" fn(libc::clockid_t, *mut libc::timespec) -> libc::c_int;

const NANOS: i64 = 1_000_000_000;

/// By how many nanoseconds the clock is wrong.
fn wrong_by() -> i64 {
    static WRONG: OnceLock<i64> = OnceLock::new();
    *WRONG.get_or_init(|| {
        let said = std::env::var("WRONG_CLOCK_MS").ok().and_then(|text| text.parse::<i64>().ok());
        said.unwrap_or(0).saturating_mul(1_000_000)
    })
}

/// The C library's own.
fn real() -> Option<ClockGettime> {
    static REAL: OnceLock<Option<ClockGettime>> = OnceLock::new();
    *REAL.get_or_init(|| {
        // SAFETY: the name is a C string; whoever loads this has a C library behind it.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, c"clock_gettime".as_ptr()) };
        if found.is_null() {
            return None;
        }
        // SAFETY: the C library's function of this name has this type.
        Some(unsafe { std::mem::transmute::<*mut libc::c_void, ClockGettime>(found) })
    })
}

/// What the C library's function of this name does, with a wall clock that is wrong.
///
/// # Safety
/// `time` must be valid for a write, as for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    let Some(real) = real() else { return -1 };
    // SAFETY: as this function was called.
    let done = unsafe { real(clock, time) };
    if done == 0 && matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE) {
        // SAFETY: the C library has just written it.
        let time = unsafe { &mut *time };
        let all = time.tv_sec.saturating_mul(NANOS) + time.tv_nsec + wrong_by();
        time.tv_sec = all.div_euclid(NANOS);
        time.tv_nsec = all.rem_euclid(NANOS);
    }
    done
}
