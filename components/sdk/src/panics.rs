//! A panic's message and place go to the host's log before the trap, which carries neither.

use std::panic::PanicHookInfo;

/// From now on reports panics of this instance at level error. Does nothing natively, where
/// the test harness reports them.
pub(crate) fn report_to_log() {
    if cfg!(target_arch = "wasm32") {
        std::panic::set_hook(Box::new(|info| crate::host::log::error(message(info))));
    }
}

fn message(info: &PanicHookInfo<'_>) -> String {
    let what = info.payload_as_str().unwrap_or("a value that is no text");
    match info.location() {
        Some(place) => {
            format!("panicked at {}:{}:{}: {what}", place.file(), place.line(), place.column())
        }
        None => format!("panicked: {what}"),
    }
}
