//! What to read and what to leave out.

use schemars::JsonSchema;
use sentinel_sdk::Glob;
use serde::Deserialize;

/// Types of file systems without storage of their own.
const VIRTUAL_TYPES: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup*",
    "configfs",
    "debugfs",
    "dev*fs",
    "devpts",
    "efivarfs",
    "fuse.*",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];
/// Mount points that containers and packages make by the dozen.
const PRIVATE_MOUNTS: &[&str] =
    &["/run/*", "/snap/*", "/var/lib/containers/*", "/var/lib/docker/*", "/var/lib/kubelet/*"];
/// Block devices that are no disks.
const NO_DISKS: &[&str] = &["fd*", "loop*", "ram*", "sr*", "zram*"];
/// Interfaces that say little of the machine.
const NO_NETWORKS: &[&str] = &["lo", "veth*"];

/// What the plugin reads; the empty object reads everything that a server's owner cares for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Groups of metrics to collect; all of them unless named.
    pub groups: Option<Vec<Group>>,
    /// File systems.
    pub filesystems: Filesystems,
    /// Block devices, for disk I/O.
    pub disks: Disks,
    /// Network interfaces.
    pub networks: Networks,
}

/// A group of metrics, read together.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Seconds by core and mode.
    Cpu,
    /// Memory and swap.
    Memory,
    /// Space of file systems.
    Filesystem,
    /// I/O of block devices.
    Disk,
    /// Traffic of network interfaces.
    Network,
    /// Load averages.
    Load,
    /// Processes by state.
    Process,
    /// Seconds since boot.
    Uptime,
    /// Temperature sensors.
    Temperature,
}

impl Group {
    /// Every group, in the order in which they are read.
    pub const ALL: [Self; 9] = [
        Self::Cpu,
        Self::Memory,
        Self::Filesystem,
        Self::Disk,
        Self::Network,
        Self::Load,
        Self::Process,
        Self::Uptime,
        Self::Temperature,
    ];

    /// The group's word in the configuration and in the label `group`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Filesystem => "filesystem",
            Self::Disk => "disk",
            Self::Network => "network",
            Self::Load => "load",
            Self::Process => "process",
            Self::Uptime => "uptime",
            Self::Temperature => "temperature",
        }
    }
}

/// Which file systems. A pattern is a whole text with `*` for any text and `?` for one character.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Filesystems {
    /// Patterns of mount points to read.
    pub include: Vec<Glob>,
    /// Patterns of mount points to leave out, even if included.
    pub exclude: Vec<Glob>,
    /// Patterns of file system types to leave out.
    pub exclude_types: Vec<Glob>,
}

/// Which block devices. A pattern is a whole text with `*` for any text and `?` for one character.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Disks {
    /// Patterns of device names to read, without `/dev/`.
    pub include: Vec<Glob>,
    /// Patterns of device names to leave out, even if included.
    pub exclude: Vec<Glob>,
    /// Whether to read partitions beside the disks that hold them.
    pub partitions: bool,
}

/// Which interfaces. A pattern is a whole text with `*` for any text and `?` for one character.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Networks {
    /// Patterns of interface names to read.
    pub include: Vec<Glob>,
    /// Patterns of interface names to leave out, even if included.
    pub exclude: Vec<Glob>,
}

impl Default for Filesystems {
    fn default() -> Self {
        Self {
            include: globs(&["*"]),
            exclude: globs(PRIVATE_MOUNTS),
            exclude_types: globs(VIRTUAL_TYPES),
        }
    }
}

impl Default for Disks {
    fn default() -> Self {
        Self { include: globs(&["*"]), exclude: globs(NO_DISKS), partitions: false }
    }
}

impl Default for Networks {
    fn default() -> Self {
        Self { include: globs(&["*"]), exclude: globs(NO_NETWORKS) }
    }
}

/// Whether `text` is included and not excluded.
pub(crate) fn passes(text: &str, include: &[Glob], exclude: &[Glob]) -> bool {
    include.iter().any(|glob| glob.matches(text)) && !exclude.iter().any(|glob| glob.matches(text))
}

fn globs(texts: &[&str]) -> Vec<Glob> {
    texts.iter().map(|text| Glob::new(*text)).collect()
}
