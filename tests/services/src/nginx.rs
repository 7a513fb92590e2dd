//! A real nginx.

use crate::{Process, Services, get, steady_port, wait};
use anyhow::Result;
use std::path::Path;

/// nginx with a `stub_status` page, and the files of the folder `files` in its own.
#[derive(Debug)]
pub struct Nginx {
    port: u16,
    _process: Process,
}

impl Nginx {
    /// Starts it in a folder of its own, which is made, and waits until it answers.
    ///
    /// # Errors
    /// Where it is not among the services or does not come up.
    pub fn start(services: &Services, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (port, root) = (steady_port()?, folder.display());
        let config = format!(
            "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;
             events {{ worker_connections 256; }}
             http {{
               access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
               client_body_temp_path {root}/a; proxy_temp_path {root}/b; fastcgi_temp_path {root}/c;
               uwsgi_temp_path {root}/d; scgi_temp_path {root}/e;
               server {{ listen 127.0.0.1:{port}; location = /stub_status {{ stub_status; }}
                 location /files/ {{ root {root}; }} }}
             }}"
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, config)?;
        let mut command = services.command("nginx")?;
        command.arg("-p").arg(folder).arg("-c").arg(file);
        let process = Process::start(&mut command, &folder.join("log"))?;
        wait("nginx", || get(port, "/stub_status").is_ok_and(|text| text.contains("Active")))?;
        Ok(Self { port, _process: process })
    }

    /// Its origin.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its status page.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/stub_status", self.origin())
    }
}
