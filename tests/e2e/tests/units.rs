//! The units of deploy/systemd: systemd takes them as they are meant, and they leave no right open
//! that nobody needs.

use anyhow::{Context, Result, ensure};
use sentinel_e2e::given;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/systemd");
/// Every unit, and the most exposure that `systemd-analyze security` may find, in tenths.
const EXPOSURE: [(&str, u32); 5] = [
    ("sentinel-agent.service", 20),
    ("sentinel-up.service", 20),
    ("sentinel-server.service", 15),
    ("sentinel-worker.service", 15),
    ("sentinel-registry.service", 15),
];
/// What every unit says.
const ALWAYS: [(&str, &str); 21] = [
    ("User", "sentinel"),
    ("NoNewPrivileges", "true"),
    ("CapabilityBoundingSet", ""),
    ("AmbientCapabilities", ""),
    ("ProtectKernelTunables", "true"),
    ("ProtectKernelModules", "true"),
    ("ProtectControlGroups", "true"),
    ("PrivateDevices", "true"),
    ("PrivateMounts", "true"),
    ("ProtectSystem", "strict"),
    ("RestrictNamespaces", "true"),
    ("RestrictSUIDSGID", "true"),
    ("LockPersonality", "true"),
    ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX AF_NETLINK"),
    ("SystemCallArchitectures", "native"),
    ("UMask", "0077"),
    ("StateDirectoryMode", "0700"),
    ("KillSignal", "SIGTERM"),
    ("KillMode", "mixed"),
    ("Restart", "on-failure"),
    ("WantedBy", "multi-user.target"),
];

/// The settings of a unit; of several of one name, all.
fn settings(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.replace("\\\n", " ").lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, value)) = line.split_once('=') {
            let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
            found.entry(name.to_owned()).or_default().push(value);
        }
    }
    found
}

fn text(unit: &str) -> Result<String> {
    let path = Path::new(UNITS).join(unit);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Debian's `systemd-analyze`, where the machine has it.
fn analyze(arguments: &[&str], unit: &Path) -> Result<Option<Output>> {
    let output = Command::new("systemd-analyze").args(arguments).arg(unit).output();
    match output {
        Ok(output) => Ok(Some(output)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("there is no systemd-analyze here: the settings alone were looked at");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

#[test]
fn there_is_a_unit_for_every_role_and_no_other() -> Result<()> {
    let mut found: Vec<String> = fs::read_dir(UNITS)?
        .map(|file| Ok(file?.file_name().to_string_lossy().into_owned()))
        .filter(|name: &Result<String>| name.as_ref().is_ok_and(|name| name.ends_with(".service")))
        .collect::<Result<_>>()?;
    found.sort();
    let mut expected = EXPOSURE.map(|(unit, _)| unit.to_owned()).to_vec();
    expected.sort();
    ensure!(found == expected, "{found:?}");
    Ok(())
}

#[test]
fn every_unit_is_as_closed_as_its_role_lets_it_be() -> Result<()> {
    for (unit, _) in EXPOSURE {
        let settings = settings(&text(unit)?);
        let is = |name: &str, value: &str| settings.get(name).is_some_and(|all| all == &[value]);
        for (name, value) in ALWAYS {
            ensure!(is(name, value), "{unit}: {name} is {:?}", settings.get(name));
        }
        // Who measures the machine must see all of it, and who runs plugins must compile them.
        let measures = matches!(unit, "sentinel-agent.service" | "sentinel-up.service");
        ensure!(is("ProtectHome", if measures { "read-only" } else { "true" }), "{unit}");
        ensure!(settings.contains_key("PrivateTmp") != measures, "{unit}");
        ensure!(settings.contains_key("ProtectProc") != measures, "{unit}");
        let compiles = unit != "sentinel-registry.service";
        ensure!(is("MemoryDenyWriteExecute", if compiles { "false" } else { "true" }), "{unit}");
        let filter = &settings["SystemCallFilter"].concat();
        ensure!(filter.contains("landlock_restrict_self seccomp") == compiles, "{unit}");
        let credentials = settings.get("LoadCredential").cloned().unwrap_or_default().concat();
        ensure!(credentials.contains("sentinel-secrets-key:") == compiles, "{unit}");
        // Longer than the process itself takes at the most to end in order.
        ensure!(is("TimeoutStopSec", "90"), "{unit}");
        let role = unit.trim_start_matches("sentinel-").trim_end_matches(".service");
        ensure!(is("StateDirectory", &format!("sentinel/{role}")), "{unit}");
        let command = settings["ExecStart"].concat();
        ensure!(command.starts_with(&format!("/usr/bin/sentinel {role} ")), "{unit}: {command}");
    }
    Ok(())
}

#[test]
fn systemd_understands_every_unit() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let program = given("SENTINEL_BIN", "debug/sentinel").canonicalize()?;
    for (unit, exposure) in EXPOSURE {
        let path: PathBuf = folder.path().join(unit);
        // It looks whether there is such a program.
        let text = text(unit)?.replace("/usr/bin/sentinel", &program.display().to_string());
        fs::write(&path, text)?;
        let Some(verified) = analyze(&["verify", "--man=no"], &path)? else { return Ok(()) };
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        let about = said.lines().filter(|line| line.contains("sentinel-")).collect::<Vec<_>>();
        ensure!(about.is_empty(), "{unit}: {said}");
        let threshold = format!("--threshold={exposure}");
        let arguments = ["security", "--offline=true", "--no-pager", &threshold];
        let Some(secure) = analyze(&arguments, &path)? else { return Ok(()) };
        ensure!(secure.status.success(), "{unit}: {}", String::from_utf8_lossy(&secure.stdout));
    }
    Ok(())
}
