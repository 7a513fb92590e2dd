//! `kill -9` of a real process: this test runs itself as the child. `SENTINEL_KILLS` scales how often (default 5).

mod harness;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use harness::{payload, tag_of};
use sentinel_wal::{Epoch, Item, Log, Options};

const FOLDER: &str = "SENTINEL_KILL_FOLDER";

fn options() -> Options {
    Options { segment_bytes: 64 << 10, ..Options::default() }
}

/// The child: four threads append and print what was acknowledged, until somebody kills it.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let (log, _) = Log::open(Path::new(&folder), options()).unwrap();
    let log = Arc::new(log);
    let threads: Vec<_> = (0..4u64)
        .map(|writer| {
            let log = log.clone();
            std::thread::spawn(move || {
                for n in 0u64.. {
                    let tag = writer << 32 | n;
                    let position =
                        log.append_blocking(&payload(tag, 100 + (n % 7) as usize * 500)).unwrap();
                    println!("acknowledged {} {} {tag}", position.epoch, position.seq);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
}

#[test]
fn after_kill_9_every_acknowledged_record_is_there() {
    let kills: u64 = std::env::var("SENTINEL_KILLS").ok().and_then(|s| s.parse().ok()).unwrap_or(5);
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<(String, u64), u64> = BTreeMap::new();
    let mut last_kept: Option<Epoch> = None;
    for round in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_that_appends_until_it_is_killed",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(FOLDER, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = 50 + round * 37 % 200;
        let mut seen = 0;
        for line in lines {
            let line = line.unwrap();
            // The harness prints the test's name without a line break before the first line.
            let Some(at) = line.find("acknowledged ") else { continue };
            let mut words = line[at..].split(' ').skip(1);
            // The last line may be cut by the kill.
            let (Some(epoch), Some(seq), Some(tag)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            if let (Ok(seq), Ok(tag)) = (seq.parse(), tag.parse()) {
                seen += 1;
                if seen <= wanted {
                    acknowledged.insert((epoch.to_owned(), seq), tag);
                }
            }
            if seen == wanted {
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success());
        assert!(seen >= wanted, "round {round}: the child ended by itself after {seen} records");

        let (log, recovery) = Log::open(dir.path(), options()).unwrap();
        assert!(!recovery.clean && recovery.gaps.is_empty(), "round {round}: {recovery:?}");
        let mut found = BTreeMap::new();
        let mut reader = log.reader();
        while let Some(item) = reader.try_next().unwrap() {
            match item {
                Item::Record { position, payload } => {
                    found.insert((position.epoch.to_string(), position.seq), tag_of(&payload));
                }
                gap => panic!("round {round}: {gap:?}"),
            }
        }
        for (at, tag) in &acknowledged {
            assert_eq!(found.get(at), Some(tag), "round {round}: {at:?} was acknowledged");
        }
        if round % 2 == 1 {
            // Let one epoch go, and see that the others are not touched.
            let oldest = log.offsets()[0];
            assert_ne!(Some(oldest.epoch), last_kept);
            log.commit(oldest.epoch, oldest.synced).unwrap();
            acknowledged.retain(|(epoch, _), _| *epoch != oldest.epoch.to_string());
            last_kept = Some(oldest.epoch);
            log.close().unwrap();
            // The next round's check wants an unclean shutdown: it is, the child is killed.
        }
    }
}
