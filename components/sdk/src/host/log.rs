//! Messages to the operator. Always granted; at most 100 a minute a slot.

use std::fmt::Display;

use super::host_call;
#[cfg(target_arch = "wasm32")]
use crate::bindings::host::sentinel::plugin::log as import;

pub use crate::bindings::host::sentinel::plugin::log::Level;

/// Writes one message; the host cuts it at 4 KiB.
pub fn write(level: Level, message: impl Display) {
    let message = message.to_string();
    host_call!(
        import::write(level, &message),
        crate::testing::with_host(|host| host.write_log(level, message))
    );
}

/// Writes a message that helps whoever writes or debugs the plugin.
pub fn debug(message: impl Display) {
    write(Level::Debug, message);
}

/// Writes a message about something expected.
pub fn info(message: impl Display) {
    write(Level::Info, message);
}

/// Writes a message about something that a person should look at in time.
pub fn warn(message: impl Display) {
    write(Level::Warn, message);
}

/// Writes a message about something that failed.
pub fn error(message: impl Display) {
    write(Level::Error, message);
}
