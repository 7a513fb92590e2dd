//! A real server that speaks S3: `moto`'s.

use crate::{Process, get, steady_port, wait};
use anyhow::{Result, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

/// A server that speaks S3, which forgets everything when it ends.
#[derive(Debug)]
pub struct S3 {
    port: u16,
    _process: Process,
}

impl S3 {
    /// Starts the program `moto_server`, its log in a folder that is there.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start(program: &Path, folder: &Path) -> Result<Self> {
        let port = steady_port()?;
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let process = Process::start(&mut command, &folder.join("s3.log"))?;
        wait("moto", || get(port, "/moto-api/").is_ok_and(|text| text.contains("200")))?;
        Ok(Self { port, _process: process })
    }

    /// Its address.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// Where the server refuses.
    pub fn make(&self, bucket: &str) -> Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        write!(stream, "PUT /{bucket} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.lines().next().unwrap_or_default();
        ensure!(status.contains(" 200 "), "no bucket {bucket}: {answer}");
        Ok(())
    }
}
