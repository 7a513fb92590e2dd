//! A real PostgreSQL with TLS: who answers is proved, and who asks.

#[path = "server/mod.rs"]
mod server;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use sentinel_store::postgres::{PostgresOptions, PostgresStore, PostgresUrl};
use sentinel_store::{Store, StoreError};
use sentinel_test_services::{Postgres, Services};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// As whom the tests' servers run where the tests are root.
const NOBODY: u32 = 65_534;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Files that both the tests and the server read.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        path
    }

    /// A certificate for a common name and a name in addresses; where it and its key are.
    fn issue(&self, by: &Authority, common: &str, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, common);
        let certificate = params.signed_by(&key, by).unwrap();
        let cert = self.write(&format!("{common}.pem"), &certificate.pem());
        let key = self.write(&format!("{common}.key"), &key.serialize_pem());
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        (cert, key)
    }
}

/// PostgreSQL wants its key to be its own.
fn give_to_server(key: &Path) {
    if fs::metadata(key).unwrap().uid() == 0 {
        chown(key, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

struct Rig {
    files: Files,
    ours: Authority,
    server: Postgres,
    /// Under its first address the server has a certificate, under the second another's.
    addresses: [String; 2],
}

/// A server that answers over TLS alone, at addresses that no other test has.
fn rig(asks_for_certificate: bool) -> Rig {
    let (files, ours) = (Files::new(), authority("ours"));
    let unique = std::process::id() ^ u32::from(asks_for_certificate) << 15;
    let [.., high, low] = unique.to_be_bytes();
    let addresses = [91, 92].map(|second| format!("127.{second}.{high}.{}", low.max(1)));
    files.write("ca.pem", &ours.pem());
    files.write("other-ca.pem", &authority("other").pem());
    let (cert, key) = files.issue(&ours, "server", &addresses[0]);
    give_to_server(&key);
    let how = if asks_for_certificate { "cert" } else { "trust" };
    let hba = format!("local all all trust\nhostssl all all 127.0.0.0/8 {how}\n");
    let hba = files.write("hba.conf", &hba);
    let file = |name: &str| files.0.path().join(name).display().to_string();
    let settings = [
        format!("listen_addresses={}", addresses.join(",")),
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", cert.display()),
        format!("ssl_key_file={}", key.display()),
        format!("ssl_ca_file={}", file("ca.pem")),
        format!("hba_file={}", hba.display()),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let server = Postgres::start(&Services::here().unwrap(), &settings).unwrap();
    Rig { files, ours, server, addresses }
}

impl Rig {
    fn file(&self, name: &str) -> String {
        self.files.0.path().join(name).display().to_string()
    }

    /// Opens the store with what stands behind the database in its address.
    async fn open(&self, address: usize, options: &str) -> Result<PostgresStore, StoreError> {
        let host = &self.addresses[address];
        let url = format!("postgres://sentinel:s3cret@{host}/postgres?{options}");
        let options = PostgresOptions {
            acquire_timeout: Duration::from_secs(60),
            ..PostgresOptions::default()
        };
        PostgresStore::open(PostgresUrl::new(&url).unwrap(), options).await
    }

    async fn refused(&self, address: usize, options: &str) -> String {
        let error = self.open(address, options).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        let said = error.to_string();
        assert!(!said.contains("s3cret") && !format!("{error:?}").contains("s3cret"), "{said}");
        said
    }

    fn encrypted(&self) -> String {
        let sql = "SELECT count(*) > 0 AND bool_and(s.ssl) FROM pg_stat_activity a \
                   JOIN pg_stat_ssl s USING (pid) WHERE a.application_name = 'sentinel'";
        self.server.query("postgres", sql).unwrap()
    }
}

#[tokio::test]
async fn a_server_is_believed_by_its_name_and_its_authority_alone() {
    let rig = rig(false);
    let ours = format!("sslmode=verify-full&sslrootcert={}", rig.file("ca.pem"));
    let store = rig.open(0, &ours).await.unwrap();
    assert_eq!(store.metric_names("").await.unwrap(), Vec::<String>::new());
    assert_eq!(rig.encrypted(), "t", "every connection of the store");
    store.close().await.unwrap();
    let said = rig.refused(1, &ours).await;
    assert!(said.contains("for another name than its address has"), "{said}");
    let other = format!("sslmode=verify-full&sslrootcert={}", rig.file("other-ca.pem"));
    let said = rig.refused(0, &other).await;
    assert!(said.contains("from no authority that sslrootcert names"), "{said}");
    let said = rig.refused(0, "sslmode=verify-full").await;
    assert!(said.contains("from no authority"), "{said}");
    // Encrypted, whoever answers; and where nothing is said, since the server offers it.
    for mode in ["sslmode=require", ""] {
        let store = rig.open(1, mode).await.unwrap();
        assert_eq!(rig.encrypted(), "t", "{mode}");
        store.close().await.unwrap();
    }
    let said = rig.refused(0, "sslmode=disable").await;
    assert!(said.contains("no encryption"), "{said}");
}

#[tokio::test]
async fn a_server_that_asks_who_we_are_is_shown_our_certificate() {
    let rig = rig(true);
    let ours = format!("sslmode=verify-full&sslrootcert={}", rig.file("ca.pem"));
    let said = rig.refused(0, &ours).await;
    assert!(said.contains("certificate"), "{said}");
    rig.files.issue(&rig.ours, "sentinel", "client.example");
    let own = |name: &str| {
        format!(
            "&sslcert={}&sslkey={}",
            rig.file(&format!("{name}.pem")),
            rig.file(&format!("{name}.key"))
        )
    };
    let store = rig.open(0, &format!("{ours}{}", own("sentinel"))).await.unwrap();
    assert_eq!(rig.encrypted(), "t");
    store.close().await.unwrap();
    // Somebody else's certificate names no user of the database.
    rig.files.issue(&rig.ours, "somebody", "client.example");
    let said = rig.refused(0, &format!("{ours}{}", own("somebody"))).await;
    assert!(said.contains("authentication failed"), "{said}");
    rig.files.issue(&authority("other"), "stranger", "client.example");
    let said = rig.refused(0, &format!("{ours}{}", own("stranger"))).await;
    assert!(said.contains("UnknownCA") || said.contains("alert"), "{said}");
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_the_address_asks_for_it() {
    let server = server::shared();
    let socket = server.url("postgres");
    let url = PostgresUrl::new(&format!("{socket}&sslmode=verify-full")).unwrap();
    let error = PostgresStore::open(url, PostgresOptions::default()).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains("server does not support TLS"), "{said}");
}
