//! A registry as a process, and a user who owns it, publishes to it and operates.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use super::{Commands, Said, User};

/// A `sentinel registry` that runs. Killed when it is dropped.
pub(crate) struct Registry {
    pub(crate) child: Child,
    pub(crate) url: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    pub(crate) fn start(user: &User) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sentinel"))
            .args(["registry", "--data", "registry", "--listen", "127.0.0.1:0"])
            .current_dir(user.path(""))
            .env_clear()
            .env("HOME", user.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = lines.by_ref().map(Result::unwrap).find_map(|line| {
            let (_, rest) = line.split_once("running on ")?;
            Some(rest.split_once(". ")?.0.to_owned())
        });
        // Whatever else it says has a reader, so that it never waits for one.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url: url.expect("the registry says where it runs") }
    }
}

/// A user who owns a registry, publishes and operates.
pub(crate) struct Everybody {
    pub(crate) user: User,
    pub(crate) registry: Registry,
}

impl Everybody {
    pub(crate) fn new() -> Self {
        let user = User::new();
        let init = user.done(&["registry", "--data", "registry", "init", "--offline", "offline"]);
        assert!(
            init.talk.contains("move ~/offline") || init.talk.contains("move offline"),
            "{}",
            init.talk
        );
        let registry = Registry::start(&user);
        Self { user, registry }
    }

    /// Lets acme publish with a new key, and gives it a token.
    pub(crate) fn approve_acme(&self) -> String {
        let key = self.done(&["plugin", "keygen", "--publisher", "acme", "--out", "acme.key"]);
        let key = key.data.trim().to_owned();
        self.done(&["registry", "approve", "acme", &key, "--key", "offline/targets.key"]);
        let token = self.done(&["registry", "--data", "registry", "token", "create", "acme"]);
        let token = self.user.write("token", token.data);
        std::fs::set_permissions(token, std::fs::Permissions::from_mode(0o600)).unwrap();
        key
    }
}

impl Commands for Everybody {
    fn run(&self, arguments: &[&str]) -> Said {
        let environment = [
            ("SENTINEL_REGISTRY", self.registry.url.as_str()),
            ("SENTINEL_ENROLMENT", "registry/enrolment.json"),
            ("SENTINEL_REGISTRY_TOKEN_FILE", "token"),
        ];
        self.user.run_with(arguments, &environment, "")
    }
}
