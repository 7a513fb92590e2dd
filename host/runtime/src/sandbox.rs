//! What the compiling child takes from itself before it reads the first byte of a component.
//!
//! * rlimits: address space, processor time, no files written, no core dump;
//! * landlock: no file, no network, where the kernel has it;
//! * seccomp: memory, threads, reading and writing what is open; everything else is refused.
//!
//! Landlock and seccomp are best effort: a kernel without them still compiles, and the report
//! says what holds.

use std::fmt;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Processor time between the signal that names the bound and the one that cannot be caught, in
/// seconds.
const CPU_GRACE_SECONDS: u64 = 2;

/// What holds of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    landlock: &'static str,
    seccomp: Result<(), String>,
    limits: Result<(), String>,
}

impl Report {
    /// Whether all of it holds.
    pub(crate) fn is_whole(&self) -> bool {
        self.landlock == "full" && self.seccomp.is_ok() && self.limits.is_ok()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |result: &Result<(), String>| match result {
            Ok(()) => "on".to_owned(),
            Err(why) => format!("off ({why})"),
        };
        let (seccomp, limits) = (part(&self.seccomp), part(&self.limits));
        write!(f, "landlock {}, seccomp {seccomp}, limits {limits}", self.landlock)
    }
}

/// Applies everything that the kernel has to this process. There must be no other thread yet.
pub(crate) fn enter(memory_bytes: u64, cpu_seconds: u64) -> Report {
    let limits = limit(memory_bytes, cpu_seconds);
    let landlock = landlock();
    Report { landlock, limits, seccomp: filter() }
}

fn limit(memory_bytes: u64, cpu_seconds: u64) -> Result<(), String> {
    for (resource, most, at_last) in [
        (Resource::As, memory_bytes, memory_bytes),
        (Resource::Cpu, cpu_seconds, cpu_seconds + CPU_GRACE_SECONDS),
        (Resource::Fsize, 0, 0),
        (Resource::Core, 0, 0),
    ] {
        let limit = Rlimit { current: Some(most), maximum: Some(at_last) };
        setrlimit(resource, limit).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn landlock() -> &'static str {
    let abi = ABI::V5;
    let restricted = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(abi)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self);
    match restricted.map(|status| status.ruleset) {
        Ok(RulesetStatus::FullyEnforced) => "full",
        Ok(RulesetStatus::PartiallyEnforced) => "partial",
        Ok(RulesetStatus::NotEnforced) | Err(_) => "none",
    }
}

/// System calls that compiling needs. What is not here fails with `EPERM`, so that a library
/// which merely asks (how many processors there are) goes on without an answer.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tgkill,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

fn filter() -> Result<(), String> {
    let program: BpfProgram = SeccompFilter::new(
        ALLOWED.iter().map(|call| (*call, Vec::new())).collect(),
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into().map_err(|_| "not for this processor".to_owned())?,
    )
    .and_then(TryInto::try_into)
    .map_err(|error| error.to_string())?;
    seccompiler::apply_filter(&program).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSIDE: &str = "SENTINEL_TEST_INSIDE_SANDBOX";

    /// Does nothing but in the process that the other test starts.
    #[test]
    fn inside() {
        if std::env::var_os(INSIDE).is_none() {
            return;
        }
        let report = enter(4 << 30, 60);
        assert_eq!((&report.seccomp, &report.limits), (&Ok(()), &Ok(())), "{report}");
        let refused = |error: std::io::Error| error.raw_os_error() == Some(libc::EPERM);
        assert!(std::fs::File::open("/etc/passwd").is_err_and(refused));
        assert!(std::fs::write("/tmp/sentinel-sandbox", b"x").is_err_and(refused));
        assert!(std::net::TcpListener::bind("127.0.0.1:0").is_err_and(refused));
        assert!(std::net::TcpStream::connect("127.0.0.1:9").is_err_and(refused));
        assert!(std::process::Command::new("/bin/true").spawn().is_err());
        let sum = std::thread::spawn(|| vec![1u64; 1 << 20].iter().sum::<u64>());
        assert_eq!(sum.join().unwrap(), 1 << 20, "threads and memory are there");
        assert!(Vec::<u8>::new().try_reserve_exact(8 << 30).is_err());
        // The code that tells the other test that all of this ran.
        std::process::exit(42);
    }

    #[test]
    fn the_compiling_child_has_no_files_no_network_no_programs_and_bounded_memory() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["sandbox::tests::inside", "--exact", "--test-threads=1"])
            .env(INSIDE, "1")
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(42));
    }
}
