//! Child processes: output read line by line as it comes, bounded in time.

use std::ffi::OsStr;
use std::io::{BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Lines that may wait between a child and us; a child that is faster waits for us.
const LINES_IN_FLIGHT: usize = 1024;

/// A line longer than this is cut into pieces.
const LINE_BYTES: usize = 16 << 20;

/// Which of a child's two streams a line came on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Its stdout.
    Out,
    /// Its stderr.
    Err,
}

/// Runs `command`, giving each line to `on_line`. Past `limit` the child and its children are
/// killed and that is an error; a failing exit status is not.
pub(crate) fn watch(
    command: &mut Command,
    limit: Option<Duration>,
    mut on_line: impl FnMut(Stream, &str),
) -> Result<ExitStatus> {
    let shown = show(command);
    if limit.is_some() {
        // A group of its own, so that the deadline reaches grandchildren too.
        command.process_group(0);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let (lines, incoming) = sync_channel(LINES_IN_FLIGHT);
    let out = child.stdout.take().context("stdout is piped")?;
    let err = child.stderr.take().context("stderr is piped")?;
    let to = lines.clone();
    thread::spawn(move || read_lines(Stream::Out, out, &to));
    thread::spawn(move || read_lines(Stream::Err, err, &lines));
    let deadline = limit.map(|limit| Instant::now() + limit);
    loop {
        let next = match deadline {
            None => incoming.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => incoming.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match next {
            Ok((stream, line)) => on_line(stream, &line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                kill_group(&mut child);
                bail!(
                    "`{shown}` took longer than {} s and was stopped",
                    limit.unwrap_or_default().as_secs()
                );
            }
        }
    }
    child.wait().with_context(|| format!("cannot wait for `{shown}`"))
}

/// Runs `command` to its end and returns its stdout; a failure carries its stderr.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!(
            "`{shown}` failed ({}):\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `command` with its output kept back; a failure carries both streams.
pub(crate) fn quietly(command: &mut Command, limit: Option<Duration>) -> Result<()> {
    let shown = show(command);
    let mut said = String::new();
    let status = watch(command, limit, |_, line| {
        said.push_str(line);
        said.push('\n');
    })?;
    if !status.success() {
        bail!("`{shown}` failed ({status}):\n{}", said.trim_end());
    }
    Ok(())
}

/// Whether `program` can be found on PATH.
pub(crate) fn on_path(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| is_program(file))
}

/// Whether `file` is a file that may be executed.
pub(crate) fn is_program(file: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// A command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let quote = |word: &OsStr| {
        let word = word.to_string_lossy().into_owned();
        if word.contains(char::is_whitespace) || word.is_empty() {
            format!("'{word}'")
        } else {
            word
        }
    };
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(quote)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Ends a child that was started in a group of its own, with all that it started.
pub(crate) fn kill_group(child: &mut Child) {
    signal_group(child, rustix::process::Signal::KILL);
    // Reaped here, so that no zombie is left; it cannot refuse KILL.
    let _ = child.wait();
}

/// Sends `signal` to the group a child leads.
pub(crate) fn signal_group(child: &Child, signal: rustix::process::Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        // A group that is gone already is what was wanted.
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

/// A line ends at `\n`, or at the `\r` with which a progress bar starts over.
pub(crate) fn read_lines(stream: Stream, from: impl Read, to: &SyncSender<(Stream, String)>) {
    let mut from = BufReader::with_capacity(64 << 10, from);
    let mut line = Vec::new();
    let mut after_return = false;
    let mut buffer = [0u8; 8 << 10];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        for &byte in &buffer[..read] {
            if byte == b'\n' || byte == b'\r' || line.len() >= LINE_BYTES {
                if !line.is_empty() || (byte == b'\n' && !after_return) {
                    let text = String::from_utf8_lossy(&line).into_owned();
                    if to.send((stream, text)).is_err() {
                        return;
                    }
                }
                line.clear();
                if byte != b'\n' && byte != b'\r' {
                    line.push(byte);
                }
            } else {
                line.push(byte);
            }
            after_return = byte == b'\r';
        }
    }
    if !line.is_empty() {
        let _ = to.send((stream, String::from_utf8_lossy(&line).into_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_come_from_both_streams_and_a_carriage_return_ends_one() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = watch(
            &mut shell(r"printf 'a\r\nb\n'; printf '1/2\r2/2\rend' >&2; exit 3"),
            None,
            |stream, line| match stream {
                Stream::Out => out.push(line.to_owned()),
                Stream::Err => err.push(line.to_owned()),
            },
        )
        .unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(out, ["a", "b"]);
        assert_eq!(err, ["1/2", "2/2", "end"]);
    }

    #[test]
    fn a_child_past_its_deadline_is_stopped_with_its_children() {
        let begun = Instant::now();
        let error = quietly(&mut shell("sleep 300 & sleep 300"), Some(Duration::from_millis(200)))
            .unwrap_err();
        assert!(error.to_string().contains("was stopped"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_failure_carries_what_the_child_said() {
        let error = quietly(&mut shell("echo why >&2; exit 1"), None).unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
    }
}
