//! WASI 0.2 for third parties: clocks, randomness and streams; no files, no arguments, no
//! variables, no sockets. What is written to standard output or error goes to the slot's log.
//! Requests of `wasi:http` go where those of the contract's own `http` may: see [`http`].

mod http;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use sentinel_trust::Capabilities;
use tokio::io::AsyncWrite;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use crate::capabilities::http::HttpGate;
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
    outgoing: http::WasiOutgoing,
}

impl Wasi {
    pub(crate) fn new(slot: Arc<SlotShared>, gate: Option<Arc<HttpGate>>) -> Self {
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
        let outgoing = http::WasiOutgoing::new(slot, gate);
        Self { context, table, outgoing }
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi.as_mut().expect("WASI is linked only where an instance has it");
        WasiCtxView { ctx: &mut wasi.context, table: &mut wasi.table }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let wasi = self.wasi.as_mut().expect("WASI is linked only where an instance has it");
        let outgoing = &mut wasi.outgoing;
        outgoing.hooks.describing = self.call.describing;
        outgoing.hooks.deadline = self.call.deadline;
        WasiHttpCtxView {
            ctx: &mut outgoing.context,
            table: &mut wasi.table,
            hooks: &mut outgoing.hooks,
        }
    }
}

/// Links all of WASI 0.2 that this host provides: `wasi:http` only where requests are granted.
pub(crate) fn add_to_linker(
    linker: &mut Linker<Host>,
    capabilities: &Capabilities,
) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    if capabilities.http().is_some() {
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::log::{LogGate, LogSink};
    use crate::metrics::Metrics;
    use crate::services::Services;

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl LogSink for Kept {
        fn message(&self, _: &str, _: &str, _: Level, text: &str) {
            self.0.lock().push(text.to_owned());
        }
    }

    fn slot(sink: Arc<Kept>) -> Arc<SlotShared> {
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        let log = LogGate::new("a", "p/q 1.0.0", sink);
        let io = tokio::runtime::Handle::current();
        let name = "a".parse().unwrap();
        Arc::new(SlotShared::new(name, Services::none(), io, metrics.of_slot("a"), log))
    }

    #[tokio::test]
    async fn what_a_guest_prints_comes_as_lines_of_its_log() {
        let kept = Arc::new(Kept::default());
        let line = Arc::default();
        let lines = Lines { slot: slot(Arc::clone(&kept)), level: Level::Error, line };
        for part in ["one\ntw", "o\n\n", "no end"] {
            lines.clone().take(part.as_bytes());
        }
        lines.take(&[b'x'; MAX_MESSAGE_BYTES]);
        let kept = kept.0.lock();
        assert_eq!(kept[..2], ["one", "two"]);
        assert!(kept[2].starts_with("no endxxx"), "a line without an end is cut");
        assert_eq!(kept.len(), 3);
    }

    #[tokio::test]
    async fn wasi_is_linked_beside_the_contract_with_nothing_behind_it() {
        let engine = crate::engine::running().unwrap();
        let mut linker = Linker::new(&engine);
        let none = sentinel_trust::Capabilities::none();
        crate::imports::add_to_linker(&mut linker, &none).unwrap();
        add_to_linker(&mut linker, &none).unwrap();
        let slot = slot(Arc::default());
        let limits = sentinel_trust::Limits::default();
        let wasi = Some(Box::new(Wasi::new(Arc::clone(&slot), None)));
        let mut host = Host::new(slot, Arc::default(), limits, wasi);
        use wasmtime_wasi::p2::bindings::cli::environment::Host as _;
        use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
        let mut cli = wasmtime_wasi::cli::WasiCliView::cli(&mut host);
        assert!(cli.get_environment().unwrap().is_empty());
        assert!(cli.get_arguments().unwrap().is_empty());
        let mut files = wasmtime_wasi::filesystem::WasiFilesystemView::filesystem(&mut host);
        assert!(files.get_directories().unwrap().is_empty());
    }
}
