//! Compiling, in a short-lived child process that has locked itself in.
//!
//! The compiler peaks at hundreds of megabytes and leaves most of them behind, and it is a
//! large program fed with what strangers wrote. So a process that lives long never compiles:
//! it starts the same program with an internal subcommand, hands it the component over a pipe
//! and takes the code from another.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use sentinel_trust::MAX_COMPONENT_BYTES;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::cache::MAX_CODE_BYTES;
use crate::{engine, sandbox};

/// Variables by which the child learns its bounds.
const MEMORY_VARIABLE: &str = "SENTINEL_COMPILE_MEMORY_BYTES";
const CPU_VARIABLE: &str = "SENTINEL_COMPILE_CPU_SECONDS";
/// What the allocator says last where memory ends, and what the kernel's error is called.
const OUT_OF_MEMORY: [&str; 2] = ["memory allocation of", "Cannot allocate memory"];
/// Threads that the child compiles on.
const COMPILE_THREADS: &str = "4";
/// Most bytes of what the child says on standard error that are read.
const MAX_TALK_BYTES: u64 = 64 << 10;
/// What stands before the child's report of its sandbox.
const SANDBOX: &str = "sandbox: ";
/// What the report starts with where a part is missing.
const IN_PART: &str = "in part: ";
/// What to do with a component that takes too much.
const SMALLER: &str = "no sound plugin needs that: look at what it is made of";
/// The variable that makes a test program a compiler: see [`compile_child_hook!`].
///
/// [`compile_child_hook!`]: crate::compile_child_hook
const HOOK_VARIABLE: &str = "SENTINEL_COMPILE_CHILD";

/// How much compiling one component may take. A small file can ask for any amount of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Address space of the child in bytes, its own code and the threads' stacks included. The
    /// largest guests need about 370 MiB.
    pub memory_bytes: u64,
    /// Processor time in seconds, all threads together.
    pub cpu_seconds: u64,
    /// Longest time from start to end, in milliseconds.
    pub wall_ms: u64,
}

impl Default for CompileLimits {
    /// 2 GiB, 240 s on processors, 120 s in all.
    fn default() -> Self {
        Self { memory_bytes: 2 << 30, cpu_seconds: 240, wall_ms: 120_000 }
    }
}

/// How to start the child that compiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompilerCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments: the internal subcommand that ends in [`compile_child_main`].
    pub arguments: Vec<OsString>,
    /// Variables; the child has no others but those that bound its threads and memory.
    pub environment: Vec<(OsString, OsString)>,
}

impl CompilerCommand {
    /// This very program with these arguments.
    ///
    /// # Errors
    /// If the system does not say where this program lies.
    pub fn this_program<A: Into<OsString>>(
        arguments: impl IntoIterator<Item = A>,
    ) -> io::Result<Self> {
        // On Linux the link stays right after the file was replaced by an upgrade.
        let linked = PathBuf::from("/proc/self/exe");
        let program = if linked.exists() { linked } else { std::env::current_exe()? };
        let arguments = arguments.into_iter().map(Into::into).collect();
        Ok(Self { program, arguments, environment: Vec::new() })
    }

    /// This very test program, which must say [`compile_child_hook!`](crate::compile_child_hook)
    /// once.
    #[must_use]
    pub fn hooked() -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            arguments: Vec::new(),
            environment: vec![(HOOK_VARIABLE.into(), "1".into())],
        }
    }
}

/// Makes a test program a compiler when [`CompilerCommand::hooked`] starts it: its tests do
/// not run then. For programs whose `main` is not theirs to write; others call
/// [`compile_child_main`](crate::compile_child_main) from a subcommand.
#[macro_export]
macro_rules! compile_child_hook {
    () => {
        #[used]
        // SAFETY: the section holds pointers to functions of this type, which libc calls
        // before `main`.
        #[unsafe(link_section = ".init_array")]
        static COMPILE_CHILD_HOOK: extern "C" fn() = {
            extern "C" fn hook() {
                $crate::compile_if_hooked();
            }
            hook
        };
    };
}

#[doc(hidden)]
pub fn compile_if_hooked() {
    if std::env::var_os(HOOK_VARIABLE).is_some() {
        let code = if child() { 0 } else { 1 };
        std::process::exit(code);
    }
}

/// Why a component was not compiled.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CompileError {
    /// The compiler refused the component.
    #[error("it cannot be compiled: {0}")]
    Refused(String),
    /// It took too long.
    #[error("compiling it took longer than {limit_ms} ms, and the compiler was killed; {SMALLER}")]
    Timeout {
        /// The limit in milliseconds.
        limit_ms: u64,
    },
    /// It took too much of the processors.
    #[error(
        "compiling it took more than {limit_seconds} s on processors, and the compiler was killed; {SMALLER}"
    )]
    Cpu {
        /// The limit in seconds.
        limit_seconds: u64,
    },
    /// It took too much memory.
    #[error(
        "compiling it took more than {limit_bytes} bytes of memory, and the compiler was stopped; {SMALLER}"
    )]
    Memory {
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// The compiler came to an end that is not its own, as out of memory.
    #[error("the compiler ended with {status}: {said}")]
    Died {
        /// How.
        status: ExitStatus,
        /// The last it said.
        said: String,
    },
    /// The compiled code is too large.
    #[error("its compiled code is larger than {MAX_CODE_BYTES} bytes")]
    TooBig,
    /// The compiler could not be started or spoken to.
    #[error("the compiler {program} could not be run: {cause}")]
    Start {
        /// Which program.
        program: PathBuf,
        /// Why.
        cause: String,
    },
    /// The component's bytes were let go of, and its compiled code is nowhere any more.
    #[error("neither its bytes nor its compiled code are here any more; load it from its file")]
    Released,
    /// The compiled code does not fit this process: it came from another program.
    #[error("the compiled code does not fit this program: {0}; is the compiler of the same build?")]
    Unfit(String),
}

impl CompileError {
    /// Whether the component is at fault, so that trying again soon has no other end.
    pub(crate) const fn is_final(&self) -> bool {
        match self {
            Self::Refused(_)
            | Self::Timeout { .. }
            | Self::Cpu { .. }
            | Self::Memory { .. }
            | Self::TooBig => true,
            Self::Died { .. } | Self::Start { .. } | Self::Released | Self::Unfit(_) => false,
        }
    }
}

/// Compiles a component in a child process.
pub(crate) async fn compile(
    command: &CompilerCommand,
    limits: CompileLimits,
    component: &[u8],
) -> Result<Vec<u8>, CompileError> {
    let start = |error: io::Error| CompileError::Start {
        program: command.program.clone(),
        cause: error.to_string(),
    };
    let mut child = Command::new(&command.program)
        .args(&command.arguments)
        .env_clear()
        .envs(command.environment.iter().map(|(name, value)| (name, value)))
        .env("RAYON_NUM_THREADS", COMPILE_THREADS)
        .env("MALLOC_ARENA_MAX", COMPILE_THREADS)
        .env("RUST_BACKTRACE", "0")
        .env(MEMORY_VARIABLE, limits.memory_bytes.to_string())
        .env(CPU_VARIABLE, limits.cpu_seconds.to_string())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let mut input = child.stdin.take().expect("it was piped");
    let output = child.stdout.take().expect("it was piped");
    let talk = child.stderr.take().expect("it was piped");

    let write = async {
        // A child that dies early closes the pipe; its exit tells why.
        let _ = input.write_all(component).await;
        drop(input);
    };
    let read = async {
        let mut code = Vec::new();
        output.take(MAX_CODE_BYTES as u64 + 1).read_to_end(&mut code).await.map(|_| code)
    };
    let listen = async {
        let mut said = Vec::new();
        let _ = talk.take(MAX_TALK_BYTES).read_to_end(&mut said).await;
        String::from_utf8_lossy(&said).into_owned()
    };
    let work = async {
        let ((), code, said) = tokio::join!(write, read, listen);
        let code = code.map_err(start)?;
        if code.len() > MAX_CODE_BYTES {
            return Err(CompileError::TooBig);
        }
        let status = child.wait().await.map_err(start)?;
        judge(status, limits, code, &said)
    };
    let finished = tokio::time::timeout(Duration::from_millis(limits.wall_ms), work).await;
    if let Ok(result) = finished {
        return result;
    }
    // Dead and buried when this returns, so that the next does not run beside it.
    child.kill().await.map_err(start)?;
    Err(CompileError::Timeout { limit_ms: limits.wall_ms })
}

fn judge(
    status: ExitStatus,
    limits: CompileLimits,
    code: Vec<u8>,
    said: &str,
) -> Result<Vec<u8>, CompileError> {
    let (mut sandbox, mut rest) = (None, Vec::new());
    for line in said.lines() {
        match line.strip_prefix(SANDBOX) {
            Some(report) => sandbox = Some(report),
            None => rest.push(line),
        }
    }
    let sandbox = sandbox.unwrap_or("it did not say");
    if sandbox.starts_with(IN_PART) {
        tracing::warn!(sandbox, "the compiler's sandbox is not whole: this system lacks a part");
    } else {
        tracing::debug!(sandbox, "a compiler ended");
    }
    let said: String = rest.join("\n").chars().take(2_000).collect();
    let out_of_memory = OUT_OF_MEMORY.iter().any(|sign| said.contains(sign));
    match status.code() {
        Some(0) => Ok(code),
        _ if out_of_memory => Err(CompileError::Memory { limit_bytes: limits.memory_bytes }),
        None if status.signal() == Some(libc::SIGXCPU) => {
            Err(CompileError::Cpu { limit_seconds: limits.cpu_seconds })
        }
        Some(1) => Err(CompileError::Refused(said)),
        _ => Err(CompileError::Died { status, said }),
    }
}

/// The internal subcommand: takes rights from itself, reads a component on standard input,
/// writes its compiled code on standard output. Must be called before any thread is started.
///
/// The exit code is 0, or 1 with the reason on standard error.
#[must_use]
pub fn compile_child_main() -> ExitCode {
    if child() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn child() -> bool {
    let bound = |variable, otherwise| {
        let set = std::env::var(variable).ok().and_then(|text| text.parse().ok());
        set.unwrap_or(otherwise)
    };
    let CompileLimits { memory_bytes, cpu_seconds, .. } = CompileLimits::default();
    let report =
        sandbox::enter(bound(MEMORY_VARIABLE, memory_bytes), bound(CPU_VARIABLE, cpu_seconds));
    eprintln!("{SANDBOX}{}{report}", if report.is_whole() { "" } else { IN_PART });
    match compile_pipe() {
        Ok(()) => true,
        Err(why) => {
            eprintln!("{why}");
            false
        }
    }
}

fn compile_pipe() -> Result<(), String> {
    let mut component = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_COMPONENT_BYTES as u64 + 1)
        .read_to_end(&mut component)
        .map_err(|error| error.to_string())?;
    if component.len() > MAX_COMPONENT_BYTES {
        return Err(format!("it is larger than {MAX_COMPONENT_BYTES} bytes"));
    }
    let code = engine::compiling()
        .and_then(|engine| engine.precompile_component(&component))
        .map_err(|error| format!("{error:#}"))?;
    io::stdout().lock().write_all(&code).map_err(|error| error.to_string())
}
