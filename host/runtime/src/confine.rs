//! What a process that runs plugins takes from itself at its start, so that whatever breaks out of
//! a plugin finds little: the second wall behind WebAssembly.
//!
//! * landlock: only the folders that were named at the start can be opened, only some of them be
//!   written to, no program be started but its own, no further port be listened on, no process
//!   outside be signalled, no abstract socket be reached;
//! * seccomp: no tracing, no mounts, no namespaces, no kernel modules, no BPF, no `io_uring`, no
//!   keys of the kernel: calls that no role needs, and through which kernels were broken.
//!
//! Both hold for the thread that calls and for every thread and process that it starts, and are never
//! taken back or widened: so it is called before there is another thread, and a folder that is to
//! be reached later has to be named at the next start.
//!
//! Landlock does not keep a process from connecting to a named Unix socket, from asking for the
//! metadata of a file (`stat`, `statfs`), nor from the network: plugins send to the world.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    path_beneath_rules,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

/// The newest version of landlock whose rights are asked for: Linux 6.12. Older kernels hold what
/// they know of it.
const LANDLOCK: ABI = ABI::V6;

/// What a process still reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Files and folders to read, with all that lies in them. What is not there is left out.
    pub read: Vec<PathBuf>,
    /// Folders to make, change and remove files in; files to write to.
    pub write: Vec<PathBuf>,
    /// Programs to start, and folders of what they are linked with.
    pub execute: Vec<PathBuf>,
    /// TCP ports to listen on; 0 stands for any that the system picks.
    pub listen: Vec<u16>,
    /// Whether abstract Unix sockets of other processes are reached: those of an old session bus.
    pub abstract_sockets: bool,
}

/// How much of one wall stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Wall {
    /// All of it.
    Full,
    /// What this kernel knows of it.
    Partial,
    /// Nothing: the kernel has none, or refused.
    None,
    /// Nothing, since nobody asked for it.
    Off,
}

impl Wall {
    /// As it is written in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::None => "none",
            Self::Off => "off",
        }
    }
}

/// What holds of a confinement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confined {
    /// Files, ports, signals, sockets.
    pub landlock: Wall,
    /// Calls of the kernel.
    pub seccomp: Wall,
    /// What is missing, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

impl Confined {
    /// Of a process that did not confine itself.
    pub const OFF: Self = Self { landlock: Wall::Off, seccomp: Wall::Off, missing: Vec::new() };

    /// Whether files are out of reach that were not named, and calls are refused.
    #[must_use]
    pub fn stands(&self) -> bool {
        let stands = |wall| matches!(wall, Wall::Full | Wall::Partial);
        stands(self.landlock) && stands(self.seccomp)
    }
}

impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "landlock {}, seccomp {}", self.landlock.as_str(), self.seccomp.as_str())?;
        if !self.missing.is_empty() {
            write!(f, " ({})", self.missing.join("; "))?;
        }
        Ok(())
    }
}

static CONFINED: OnceLock<Confined> = OnceLock::new();

/// What holds of this process's confinement.
#[must_use]
pub fn confined() -> &'static Confined {
    static OFF: Confined = Confined::OFF;
    CONFINED.get().unwrap_or(&OFF)
}

/// Confines this process, as far as the kernel can, for ever. There must be no other thread yet:
/// what was started before stays as it was, and counts as missing.
///
/// Later calls change nothing.
pub fn confine(to: &Confinement) -> &'static Confined {
    CONFINED.get_or_init(|| {
        let mut missing = Vec::new();
        let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
        if threads > 1 {
            missing.push(format!("{} threads were there before and are not held", threads - 1));
        }
        let landlock = match fence(to) {
            Ok((Wall::Full, _)) => Wall::Full,
            Ok((wall, kernel)) => {
                missing.push(kernel);
                wall
            }
            Err(error) => {
                missing.push(format!("landlock: {error}"));
                Wall::None
            }
        };
        let seccomp = match refuse_calls() {
            Ok(()) => Wall::Full,
            Err(why) => {
                missing.push(format!("seccomp: {why}"));
                Wall::None
            }
        };
        Confined { landlock, seccomp, missing }
    })
}

/// What landlock holds, and what is said of a kernel that does not hold all.
fn fence(to: &Confinement) -> Result<(Wall, String), RulesetError> {
    let all = AccessFs::from_all(LANDLOCK);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let never = AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    let mut scope: BitFlags<Scope> = Scope::from_all(LANDLOCK);
    if to.abstract_sockets {
        scope.remove(Scope::AbstractUnixSocket);
    }
    let ports = to.listen.iter().map(|port| Ok(NetPort::new(*port, AccessNet::BindTcp)));
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .handle_access(AccessNet::BindTcp)?
        .scope(scope)?
        .create()?
        .add_rules(path_beneath_rules(&to.read, read))?
        .add_rules(path_beneath_rules(&to.write, all & !never))?
        .add_rules(path_beneath_rules(&to.execute, read | AccessFs::Execute))?
        .add_rules(ports.collect::<Vec<Result<_, RulesetError>>>())?
        .restrict_self()?;
    let kernel = match status.landlock {
        LandlockStatus::NotEnabled => {
            "this kernel's landlock is not enabled: add it to `lsm=` of its command line".to_owned()
        }
        LandlockStatus::NotImplemented => {
            "this kernel has no landlock: it takes Linux 5.13 or newer".to_owned()
        }
        LandlockStatus::Available { effective_abi, .. } => {
            format!("this kernel's landlock is of version {}, not 6", effective_abi as u32)
        }
    };
    let wall = match status.ruleset {
        RulesetStatus::FullyEnforced => Wall::Full,
        RulesetStatus::PartiallyEnforced => Wall::Partial,
        RulesetStatus::NotEnforced => Wall::None,
    };
    Ok((wall, kernel))
}

/// Calls that fail with `EPERM`: no role, no library of one, and no child that compiles makes them.
const REFUSED: &[libc::c_long] = &[
    // Other processes' memory and files.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Large ways into the kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The system itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    // Another view of the file system, and files by number.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_mknodat,
    libc::SYS_setns,
    libc::SYS_unshare,
];

/// Flags of `clone` that make a namespace.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

fn refuse_calls() -> Result<(), String> {
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let makes = |flag: libc::c_int| {
        let flag = u64::from(flag.cast_unsigned());
        let masked = SeccompCmpOp::MaskedEq(flag);
        let is_set = SeccompCondition::new(0, SeccompCmpArgLen::Qword, masked, flag)?;
        SeccompRule::new(vec![is_set])
    };
    let namespaces: Result<Vec<_>, _> = NAMESPACES.into_iter().map(makes).collect();
    refused.insert(libc::SYS_clone, namespaces.map_err(|error| error.to_string())?);
    apply(refused, libc::EPERM)?;
    // Its flags lie in memory, where a filter cannot look: whoever is told that there is no such call
    // makes the older one.
    apply([(libc::SYS_clone3, Vec::new())].into(), libc::ENOSYS)
}

fn apply(calls: BTreeMap<i64, Vec<SeccompRule>>, errno: libc::c_int) -> Result<(), String> {
    let arch =
        std::env::consts::ARCH.try_into().map_err(|_| "not for this processor".to_owned())?;
    let errno = SeccompAction::Errno(errno.cast_unsigned());
    let program: BpfProgram = SeccompFilter::new(calls, SeccompAction::Allow, errno, arch)
        .and_then(TryInto::try_into)
        .map_err(|error| error.to_string())?;
    seccompiler::apply_filter(&program).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
