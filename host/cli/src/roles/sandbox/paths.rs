//! Which paths a role needs.

use super::super::config::{ConfigFile, shape};
use super::super::data::make_folder;
use crate::running;
use anyhow::Result;
use sentinel_fleet::Memory;
use sentinel_model::document::Document;
use sentinel_runtime::confine::Confinement;
use sentinel_trust::fleet::Operators;
use sentinel_trust::{Grants, PathGlob};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use url::Url;

/// What every role reads: libraries and their configuration, certificates, names, time zones, and
/// readings of the machine.
const SYSTEM: [&str; 12] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/proc",
    "/sys",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/var/lib/ca-certificates",
    "/dev/urandom",
];
/// What libraries write to.
const SINK: &str = "/dev/null";
/// This program, whatever its name is by now, and what its loader and libraries are found below.
const PROGRAM: [&str; 5] = ["/proc/self/exe", "/lib", "/lib64", "/usr/lib", "/usr/lib64"];
/// Variables that name files of certificates, of passwords and of systemd's credentials.
const NAMED_FILES: [&str; 7] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "PGPASSFILE",
    "PGSSLROOTCERT",
    "PGSSLCERT",
    "PGSSLKEY",
    "CREDENTIALS_DIRECTORY",
];
/// Options of the store's address that name a file.
const STORE_FILES: [&str; 3] = ["sslrootcert", "sslcert", "sslkey"];
/// Where the kernel finds wildcards in a granted path.
const WILDCARDS: [char; 6] = ['*', '?', '[', ']', '{', '}'];

/// What a role will reach.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    to: Confinement,
    missing: Vec<PathBuf>,
}

impl Reach {
    /// What every role needs, and its data folder, which is made.
    pub(crate) fn of_role(data: &Path) -> Result<Self> {
        let data = make_folder(data)?;
        let mut reach = Self::default();
        reach.to.read.extend(SYSTEM.map(PathBuf::from));
        let named = NAMED_FILES.iter().filter_map(std::env::var_os).map(PathBuf::from);
        reach.to.read.extend(named);
        if let Some(home) = directories::BaseDirs::new() {
            reach.to.read.push(home.home_dir().join(".pgpass"));
        }
        reach.to.write.extend([data, SINK.into()]);
        reach.to.execute.extend(PROGRAM.map(PathBuf::from));
        // Of a session bus of old there is no file to ask for.
        let bus = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
        reach.to.abstract_sockets = bus.contains("abstract=");
        Ok(reach)
    }

    /// Files that are read at the start only.
    pub(crate) fn files<'p>(mut self, files: impl IntoIterator<Item = &'p PathBuf>) -> Self {
        self.to.read.extend(files.into_iter().cloned());
        self
    }

    /// Folders that are read for as long as the process runs.
    pub(crate) fn folders<'p>(mut self, folders: impl IntoIterator<Item = &'p PathBuf>) -> Self {
        self.to.read.extend(folders.into_iter().cloned());
        self
    }

    /// The file by which commands find an `up`.
    pub(crate) fn run_file(mut self) -> Self {
        match running::folder() {
            Ok(folder) => self.to.write.push(folder),
            // Whoever writes it says so.
            Err(error) => tracing::debug!(%error, "there is no run file"),
        }
        self
    }

    /// Addresses that are listened on.
    pub(crate) fn listening(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.to.listen.extend(addresses.into_iter().map(|address| address.port()));
        self
    }

    /// A configuration file, and all that it names. One of which nothing can be made names nothing:
    /// that is said by whoever reads it.
    pub(crate) fn configuration(mut self, file: &Path) -> Self {
        self.to.read.extend(folder_of(file));
        if let Ok(config) = shape(file) {
            self.to.read.extend(named(&config));
            self.to.read.extend(of_store(file));
            self.granted(granted(&config));
        }
        self
    }

    /// What the sets grant that a host knows of its fleet.
    pub(crate) fn fleet(mut self, file: &Path) -> Self {
        self.granted(of_fleet(file).iter().flat_map(files_of));
        self
    }

    fn granted<'g>(&mut self, globs: impl IntoIterator<Item = &'g PathGlob>) {
        for glob in globs {
            match below(glob) {
                Ok(place) => self.to.read.push(place),
                Err(nowhere) => self.missing.push(nowhere),
            }
        }
    }

    /// Folders of grants that are not there.
    pub(super) fn missing(&self) -> &[PathBuf] {
        &self.missing
    }

    pub(super) fn into_confinement(self) -> Confinement {
        self.to
    }
}

/// The folder in which a file is replaced.
fn folder_of(file: &Path) -> Option<PathBuf> {
    let file = std::path::absolute(file).ok()?;
    file.parent().map(Path::to_owned)
}

/// Files that a configuration names beside those of grants, or their folders where they are read
/// again.
fn named(config: &ConfigFile) -> Vec<PathBuf> {
    let tls = config
        .tls
        .iter()
        .flat_map(|tls| [Some(&tls.certificate), Some(&tls.key), tls.client_ca.as_ref()]);
    let nats = [config.nats.credentials.as_ref(), config.nats.ca.as_ref()];
    let kept = tls.chain(nats).flatten().filter_map(|file| folder_of(file));
    let client = [&config.ca, &config.client_cert, &config.client_key];
    let jwt = config.auth.jwt.iter().map(|provider| provider.key.clone());
    kept.chain(client.into_iter().flatten().cloned()).chain(jwt).collect()
}

/// The folders of files that the address of the store in a configuration names.
fn of_store(configuration: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(configuration).unwrap_or_default();
    let Ok(document) = Document::parse("", &text) else { return Vec::new() };
    let address = document.value().pointer("/store").and_then(serde_json::Value::as_str);
    let Some(Ok(address)) = address.map(Url::parse) else { return Vec::new() };
    let files = address.query_pairs().filter(|(key, _)| STORE_FILES.contains(&key.as_ref()));
    files.filter_map(|(_, file)| folder_of(Path::new(&*file))).collect()
}

/// Every glob of files that a configuration grants or lets a fleet grant.
fn granted(config: &ConfigFile) -> Vec<&PathGlob> {
    let (agent, worker) = (&config.agent, &config.worker);
    let slots = worker.transforms.iter().chain(&worker.evaluators).map(|slot| &slot.grants);
    let notifiers = worker.notifiers.iter().map(|slot| &slot.grants);
    let collectors = agent.collectors.iter().map(|slot| &slot.grants);
    let ceilings = agent.ceiling.iter().chain(&worker.ceiling);
    let all = collectors.chain(slots).chain(notifiers).chain(ceilings);
    all.flat_map(files_of).collect()
}

fn files_of(grants: &Grants) -> impl Iterator<Item = &PathGlob> {
    grants.files.iter().flat_map(|files| &files.paths)
}

/// What the sets that lie on this host grant. A file that cannot be believed grants nothing: the role
/// says so, and does not start.
fn of_fleet(file: &Path) -> Vec<Grants> {
    let operators = || -> Option<Operators> {
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        serde_json::from_value(json.get("operators")?.clone()).ok()
    };
    let Some(operators) = operators() else { return Vec::new() };
    let Ok(memory) = Memory::load(file, &operators) else { return Vec::new() };
    let sets = memory.sets().map(|known| known.sealed().set());
    let slots = sets.flat_map(|set| &set.groups).flat_map(|group| &group.slots);
    slots.map(|wish| wish.grants.clone()).collect()
}

/// What has to be reached for a glob: the folder that its files come and go in, or as much of the way
/// to it as is there. A file of the root folder is reached itself.
fn below(glob: &PathGlob) -> Result<PathBuf, PathBuf> {
    let text = glob.as_str();
    let plain = text.find(WILDCARDS).map_or(text, |at| &text[..at]);
    let folder = Path::new(&plain[..=plain.rfind('/').unwrap_or(0)]);
    let root = Path::new("/");
    if folder == root {
        // A wildcard right below the root means all of it.
        return Ok(if glob.is_literal() { text.into() } else { root.to_owned() });
    }
    let there = folder.ancestors().find(|above| above.exists()).filter(|above| *above != root);
    there.map(Path::to_owned).ok_or_else(|| folder.to_owned())
}

/// Folders that a configuration grants and a confinement does not reach.
pub(super) fn beyond(reaches: &Confinement, config: &ConfigFile) -> Vec<PathBuf> {
    let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
    let reached: Vec<PathBuf> = reaches.read.iter().chain(&reaches.write).map(real).collect();
    let mut found: Vec<PathBuf> = Vec::new();
    for place in granted(config).into_iter().map(below) {
        let place = place.unwrap_or_else(|nowhere| nowhere);
        let is_reached = reached.iter().any(|above| real(&place).starts_with(above));
        if !is_reached && !found.contains(&place) {
            found.push(place);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> ConfigFile {
        serde_json::from_value(serde_json::json!({"version": 1, "agent": {"collectors": [
            {"slot": "a", "plugin": "x/y", "grants": {"files": {"paths": [text]}}},
        ]}}))
        .unwrap()
    }

    #[test]
    fn a_grant_reaches_the_folder_in_which_its_files_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().display();
        let folder = dir.path().to_owned();
        for (glob, reached) in [
            (format!("{there}/x.pid"), Ok(folder.clone())),
            (format!("{there}/*.log"), Ok(folder.clone())),
            (format!("{there}/not/yet/*/x"), Ok(folder)),
            ("/usr/lib*/x".to_owned(), Ok("/usr/".into())),
            ("/motd".to_owned(), Ok("/motd".into())),
            ("/**".to_owned(), Ok("/".into())),
            ("/not-there/x/y".to_owned(), Err("/not-there/x/".into())),
        ] {
            let found = below(&glob.parse().unwrap());
            assert_eq!(found.map(real), reached.map(real), "{glob}");
        }
        fn real(path: PathBuf) -> PathBuf {
            path.canonicalize().unwrap_or(path)
        }
    }

    #[test]
    fn what_a_later_configuration_grants_beyond_is_found_and_what_links_lead_to_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
        for folder in [&inside, &outside] {
            std::fs::create_dir(folder).unwrap();
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&inside, &link).unwrap();
        let reaches = Confinement { read: vec![link.clone()], ..Confinement::default() };
        let found = |folder: &Path| beyond(&reaches, &config(&format!("{}/*", folder.display())));
        assert!(found(&inside).is_empty() && found(&link).is_empty());
        assert!(found(&inside.join("deeper")).is_empty());
        assert_eq!(found(&outside).len(), 1);
    }

    #[test]
    fn certificates_that_the_address_of_the_store_names_are_reached() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sentinel.yaml");
        for (store, reached) in [
            (
                "postgres://u:p@h/d?sslmode=verify-full&sslrootcert=%2Fa%2Fca.pem&sslkey=/b/key",
                "/a,/b",
            ),
            ("postgres://u@h/d?host=/run/postgresql", ""),
            ("embedded", ""),
        ] {
            std::fs::write(&file, format!("version: 1\nstore: {store}\n")).unwrap();
            let found: Vec<_> = of_store(&file).iter().map(|p| p.display().to_string()).collect();
            assert_eq!(found.join(","), reached, "{store}");
        }
    }

    #[test]
    fn a_configuration_reaches_what_it_names_and_what_ceilings_allow() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sentinel.yaml");
        let there = dir.path().display();
        let text = format!(
            "version: 1\ntls: {{certificate: /c/cert.pem, key: /c/key.pem}}\nca: /d/ca.pem\n\
             nats: {{credentials: /e/user.creds}}\nagent:\n  ceiling: {{files: {{paths: ['{there}/logs/*']}}}}\n"
        );
        std::fs::write(&file, text).unwrap();
        let reach =
            Reach::default().configuration(&file).listening(["127.0.0.1:7".parse().unwrap()]);
        let to = reach.into_confinement();
        for path in ["/c", "/d/ca.pem", "/e", &there.to_string()] {
            assert!(to.read.iter().any(|one| one == Path::new(path)), "{path} in {:?}", to.read);
        }
        assert_eq!(to.listen, [7]);
    }
}
