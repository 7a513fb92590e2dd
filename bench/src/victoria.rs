//! Debian's VictoriaMetrics, fed the same samples: what one takes on its disk, as a yardstick.

use crate::worker::{AGENTS, Generator, ROWS};
use anyhow::{Result, ensure};
use sentinel_test_services::{Process, Services, free_port, get, wait};
use serde_json::{Map, Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

/// Series of one request.
const SERIES: usize = 200;

/// Labels, values, and their times.
type Series = (Map<String, Value>, Vec<f64>, Vec<i64>);

/// Bytes a sample on its disk, after it has merged what it has.
pub(crate) fn bytes_per_sample(services: &Services, folder: &Path, ticks: i64) -> Result<f64> {
    let (port, data) = (free_port()?, folder.join("victoria"));
    // A program of the package that has vmagent.
    let mut command = services.command_beside("vmagent", "victoria-metrics")?;
    command.arg(format!("-storageDataPath={}", data.display()));
    command.arg(format!("-httpListenAddr=127.0.0.1:{port}"));
    command.arg("-retentionPeriod=100y");
    let _server = Process::start(&mut command, &folder.join("victoria.log"))?;
    wait("VictoriaMetrics", || get(port, "/health").is_ok_and(|said| said.contains("OK")))?;
    for body in bodies(ticks)? {
        post(port, &body)?;
    }
    get(port, "/internal/force_flush")?;
    let samples = (ticks * (AGENTS * ROWS) as i64) as f64;
    wait("all samples in VictoriaMetrics", || {
        sum(port, "vm_rows{type=\"storage/").is_ok_and(|rows| rows == samples)
    })?;
    // All samples are of one month, which becomes one part. What merges already is left out of a
    // forced merge: then one more is needed.
    wait("VictoriaMetrics to merge", || {
        let merging = sum(port, "vm_active_merges{type=\"storage/");
        let merged = sum(port, "vm_parts{type=\"storage/").is_ok_and(|parts| parts == 1.0);
        if !merged && merging.is_ok_and(|merges| merges == 0.0) {
            // Asked again where it was not heard.
            let _ = get(port, "/internal/force_merge");
        }
        merged
    })?;
    // As it counts itself: what it has merged lies beside the outcome for a while.
    Ok(sum(port, "vm_data_size_bytes{")? / samples)
}

/// The sum of its metrics whose lines begin so.
fn sum(port: u16, begin: &str) -> Result<f64> {
    let text = get(port, "/metrics")?;
    let lines = text.lines().filter(|line| line.starts_with(begin));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

/// All samples as its import takes them, a line a series.
fn bodies(ticks: i64) -> Result<Vec<String>> {
    let mut generator = Generator::new();
    let mut series: Vec<Series> = Vec::new();
    for tick in 1..=ticks {
        for agent in 0..AGENTS {
            let batch = generator.batch(agent, tick);
            for row in 0..ROWS {
                if tick == 1 {
                    let (mut labels, row) = (Map::new(), batch.row(row));
                    labels.insert("__name__".into(), json!(row.name()));
                    labels.extend(row.labels().map(|(k, v)| (k.to_owned(), json!(v))));
                    labels.insert("agent".into(), json!(format!("agent-{agent}")));
                    series.push((labels, Vec::new(), Vec::new()));
                }
                let (_, values, times) = &mut series[agent * ROWS + row];
                values.push(batch.value[row]);
                times.push(batch.time[row]);
            }
        }
    }
    let mut bodies = Vec::new();
    for some in series.chunks(SERIES) {
        let mut body = Vec::new();
        for (metric, values, timestamps) in some {
            let line = json!({ "metric": metric, "values": values, "timestamps": timestamps });
            serde_json::to_writer(&mut body, &line)?;
            body.push(b'\n');
        }
        bodies.push(String::from_utf8(body)?);
    }
    Ok(bodies)
}

fn post(port: u16, body: &str) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let length = body.len();
    write!(
        stream,
        "POST /api/v1/import HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    ensure!(said.split(' ').nth(1) == Some("204"), "VictoriaMetrics said {said}");
    Ok(())
}
