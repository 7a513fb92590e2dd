//! A real nginx.

use crate::{eventually, given};
use anyhow::{Context, Result};
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// nginx with a `stub_status` page on a free port. Killed when it is dropped.
pub struct Nginx {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Nginx {
    /// Starts it.
    ///
    /// # Errors
    /// Where it is not among the services or does not come up.
    pub async fn start() -> Result<Self> {
        let list = given("SENTINEL_SERVICES", "services/services.json");
        let list: Value = serde_json::from_slice(&std::fs::read(list)?)?;
        let service = &list["services"]["nginx"];
        let program = service["program"].as_str().context("nginx is not among the services")?;
        let dir = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let root = dir.path().display();
        let config = format!(
            "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;
             events {{ worker_connections 64; }}
             http {{
               access_log off;
               client_body_temp_path {root}/a; proxy_temp_path {root}/b; fastcgi_temp_path {root}/c;
               uwsgi_temp_path {root}/d; scgi_temp_path {root}/e;
               server {{ listen 127.0.0.1:{port}; location = /stub_status {{ stub_status; }} }}
             }}"
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, config)?;
        let mut command = Command::new(program);
        command.arg("-p").arg(dir.path()).arg("-c").arg(&file).stdin(Stdio::null());
        if let Some(libraries) = service["library_path"].as_str() {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let child = command.spawn().with_context(|| format!("{program} cannot be started"))?;
        let nginx = Self { child, port, _dir: dir };
        eventually("nginx answers", Duration::from_secs(20), || async {
            Ok(reqwest::get(nginx.url()).await?.status().is_success().then_some(()))
        })
        .await?;
        Ok(nginx)
    }

    /// Its origin.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its status page.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/stub_status", self.origin())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
