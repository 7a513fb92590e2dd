//! WASI 0.2 for third parties: clocks, randomness and streams; no files, no arguments, no
//! variables, no sockets. What is written to standard output or error goes to the slot's log.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::capabilities::log::{Level, MAX_MESSAGE_BYTES};
use crate::host::{Host, SlotShared};
use crate::slot::now;

/// Most random bytes of one call.
const MAX_RANDOM_BYTES: u64 = 64 << 10;
/// Most handles that a guest may hold.
const MAX_HANDLES: usize = 1_000;

/// The WASI side of one instance.
pub(crate) struct Wasi {
    context: WasiCtx,
    table: ResourceTable,
}

impl Wasi {
    pub(crate) fn new(slot: Arc<SlotShared>) -> Self {
        let lines = |level| Lines { slot: Arc::clone(&slot), level, line: Arc::default() };
        let context = WasiCtx::builder()
            .stdout(lines(Level::Info))
            .stderr(lines(Level::Error))
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(MAX_RANDOM_BYTES)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        Self { context, table }
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi.as_mut().expect("WASI is linked only where an instance has it");
        WasiCtxView { ctx: &mut wasi.context, table: &mut wasi.table }
    }
}

/// Links all of WASI 0.2 that this host provides.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

/// A stream whose lines go to the slot's log.
#[derive(Clone)]
struct Lines {
    slot: Arc<SlotShared>,
    level: Level,
    line: Arc<Mutex<Vec<u8>>>,
}

impl Lines {
    fn take(&self, bytes: &[u8]) {
        let mut line = self.line.lock();
        for byte in bytes {
            if *byte != b'\n' {
                line.push(*byte);
            }
            if *byte == b'\n' || line.len() >= MAX_MESSAGE_BYTES {
                self.write(&line);
                line.clear();
            }
        }
    }

    fn write(&self, line: &[u8]) {
        if !line.is_empty() {
            self.slot.log.lock().write(now(), self.level, &String::from_utf8_lossy(line));
        }
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Lines {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
