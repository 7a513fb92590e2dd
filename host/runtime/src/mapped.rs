//! Compiled code in memory, as pages of a file where that can be had.
//!
//! Code that is copied into memory stays there whole for as long as its plugin runs, and most of
//! it is touched once. Pages of a file the system gives back and reads again, one by one, as it
//! does with the program's own code: 1.6 MiB of an agent with two plugins, of which they need a
//! fifth. The file is a copy of the bytes whose MAC was checked and has no name, so that nobody
//! puts others into it; it goes with the last plugin that runs it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use wasmtime::Engine;
use wasmtime::component::Component;

/// A component of its compiled code. `folder` is on the disk and this process's own; where no
/// file without a name can be made there, or none may hold code, the code is copied into memory.
///
/// # Safety
/// `code` is of our own compiler for this engine.
pub(crate) unsafe fn component(
    engine: &Engine,
    folder: &Path,
    code: &[u8],
) -> wasmtime::Result<Component> {
    let mapped = nameless(folder, code).map_err(wasmtime::Error::from).and_then(|file| {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        // SAFETY: the file has these bytes, and only this process can reach it.
        unsafe { Component::deserialize_file(engine, path) }
    });
    mapped.or_else(|error| {
        tracing::debug!(error = %format!("{error:#}"), "compiled code is copied into memory");
        // SAFETY: as the caller says.
        unsafe { Component::deserialize(engine, code) }
    })
}

/// A file without a name that has these bytes, on the disk: what is read again later must be there.
fn nameless(folder: &Path, bytes: &[u8]) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(bytes)?;
    file.sync_data()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An engine, and the code of an empty component for it.
    fn compiled() -> (Engine, Vec<u8>) {
        let engine = Engine::new(&wasmtime::Config::new()).unwrap();
        let code = engine.precompile_component(&wasm_encoder::Component::new().finish()).unwrap();
        (engine, code)
    }

    #[test]
    fn code_is_pages_of_a_file_without_a_name_and_nothing_is_left_of_it() {
        let ((engine, code), folder) = (compiled(), tempfile::tempdir().unwrap());
        // SAFETY: it was just compiled.
        let component = unsafe { component(&engine, folder.path(), &code) }.unwrap();
        let maps = || std::fs::read_to_string("/proc/self/maps").unwrap();
        let place = folder.path().to_str().unwrap().to_owned();
        let ours = |maps: &str| maps.lines().any(|map| map.contains(&place));
        assert!(ours(&maps()), "{}", maps());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        drop(component);
        assert!(!ours(&maps()), "{}", maps());
    }

    #[test]
    fn where_no_file_can_be_made_code_is_copied() {
        let (engine, code) = compiled();
        for folder in ["/nowhere", "/proc/self"] {
            // SAFETY: it was just compiled.
            assert!(unsafe { component(&engine, Path::new(folder), &code) }.is_ok(), "{folder}");
        }
    }

    #[test]
    fn what_is_no_code_is_refused() {
        let ((engine, _), folder) = (compiled(), tempfile::tempdir().unwrap());
        // SAFETY: wasmtime looks at the header before anything else.
        assert!(unsafe { component(&engine, folder.path(), b"no code") }.is_err());
    }
}
