use sentinel_sdk::config as json;
use sentinel_sdk::log::Level;
use sentinel_sdk::system::{
    CpuTime, DiskIo, Filesystem, MemoryUsage, Network, ProcessCounts, SystemError, Temperature,
};
use sentinel_sdk::testing::{self, Host};

use super::*;

fn filesystem(device: &str, mount_point: &str, fs_type: &str) -> Filesystem {
    Filesystem {
        device: device.to_owned(),
        mount_point: mount_point.to_owned(),
        fs_type: fs_type.to_owned(),
        total_bytes: 1_000,
        available_bytes: 400,
        read_only: false,
    }
}

fn disk(device: &str) -> DiskIo {
    DiskIo {
        device: device.to_owned(),
        read_bytes: 10,
        written_bytes: 20,
        reads: Some(1),
        writes: None,
        io_time: Some(0.5),
    }
}

fn network(device: &str) -> Network {
    Network {
        device: device.to_owned(),
        received_bytes: 1,
        transmitted_bytes: 2,
        received_packets: 3,
        transmitted_packets: 4,
        receive_errors: 5,
        transmit_errors: 6,
        receive_drops: Some(7),
        transmit_drops: None,
    }
}

fn temperature(sensor: &str, critical: Option<f64>) -> Temperature {
    Temperature { sensor: sensor.to_owned(), celsius: 40.5, critical }
}

fn machine() -> testing::System {
    testing::System {
        cpu_times: Ok((0..2)
            .map(|cpu| CpuTime {
                cpu,
                modes: vec![("user".to_owned(), 1.5), ("idle".to_owned(), f64::from(cpu))],
            })
            .collect()),
        memory: Ok(MemoryUsage {
            total: 1_000,
            free: 200,
            available: 600,
            used: 400,
            cached: Some(300),
            buffers: Some(50),
            swap_total: 100,
            swap_free: 90,
        }),
        filesystems: Ok(vec![
            filesystem("/dev/sda1", "/", "ext4"),
            filesystem("tmpfs", "/tmp", "tmpfs"),
            filesystem("overlay", "/var/lib/docker/overlay2/x", "overlay"),
            filesystem("/dev/sdb1", "/data", "xfs"),
            filesystem("/dev/sdc1", "/data", "btrfs"),
        ]),
        disks: Ok(["sda", "sda1", "loop0", "nvme0n1", "nvme0n1p1"].map(disk).to_vec()),
        networks: Ok(["lo", "eth0", "veth12ab"].map(network).to_vec()),
        load_average: Ok((0.1, 0.2, 0.3)),
        processes: Ok(ProcessCounts {
            by_state: vec![("running".to_owned(), 1), ("sleeping".to_owned(), 99)],
            created: Some(1_000),
            threads: Some(250),
        }),
        uptime: Ok(12.5),
        temperatures: Ok(vec![temperature("core", Some(100.0)), temperature("core", None)]),
        ..testing::System::default()
    }
}

fn plugin(config: &str) -> System {
    System::configure(json::parse(config).unwrap()).unwrap()
}

fn lines(plugin: &mut System) -> Vec<String> {
    let collected = plugin.collect().unwrap();
    collected
        .parts()
        .flat_map(|part| part.samples().map(|sample| sample.to_string()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn a_whole_machine_reads_as_expected() {
    let _host = Host::new().at(1_000).system(machine()).install();
    insta::assert_snapshot!(lines(&mut plugin("{}")).join("\n"));
}

#[test]
fn every_row_is_of_a_metric_that_the_plugin_announces() {
    let _host = Host::new().system(machine()).install();
    let announced = System::metrics();
    let collected = plugin("{}").collect().unwrap();
    let mut made = std::collections::BTreeSet::new();
    for sample in collected.parts().next().unwrap().samples() {
        let metric = announced.iter().find(|metric| metric.name == sample.name).unwrap();
        assert_eq!(metric.kind, sample.kind, "{}", sample.name);
        assert_eq!(sample.name.ends_with("_total"), sample.kind == sentinel_sdk::Kind::Counter);
        made.insert(sample.name.to_owned());
    }
    assert_eq!(made.len(), announced.len());
}

#[test]
fn no_two_rows_are_of_one_series() {
    let _host = Host::new().system(machine()).install();
    let lines = lines(&mut plugin("{}"));
    let series: std::collections::BTreeSet<_> =
        lines.iter().map(|line| line.rsplit_once(' ').unwrap().0).collect();
    assert_eq!(series.len(), lines.len());
}

#[test]
fn a_group_that_fails_loses_no_other() {
    let host = Host::new().system(machine()).install();
    let mut plugin = plugin(r#"{"groups": ["uptime", "load"]}"#);
    host.change_system(|system| system.load_average = Err(SystemError::Failed("EIO".into())));
    let failing = [
        r#"sentinel_collector_group_up{group="load"} 0"#,
        "system_uptime_seconds 12.5",
        r#"sentinel_collector_group_up{group="uptime"} 1"#,
    ];
    assert_eq!(lines(&mut plugin), failing);
    assert_eq!(lines(&mut plugin), failing);
    host.change_system(|system| system.load_average = Ok((1.0, 2.0, 3.0)));
    assert_eq!(lines(&mut plugin).len(), 6);
    // Once when it began, once when it was over.
    assert_eq!(
        host.logs(),
        [
            (Level::Warn, "group load cannot be read: EIO".to_owned()),
            (Level::Info, "group load can be read again".to_owned()),
        ]
    );
}

#[test]
fn a_machine_that_can_read_nothing_says_so_for_every_group() {
    let host = Host::new().install();
    let lines = lines(&mut plugin("{}"));
    assert_eq!(lines.len(), Group::ALL.len());
    assert!(lines.iter().all(|line| line.starts_with(metrics::GROUP_UP) && line.ends_with(" 0")));
    assert_eq!(host.logs().len(), Group::ALL.len());
}

#[test]
fn devices_are_chosen_by_pattern() {
    let _host = Host::new().system(machine()).install();
    let mut plugin = plugin(
        r#"{
            "groups": ["disk", "network", "filesystem"],
            "disks": {"include": ["sd*"], "partitions": true},
            "networks": {"exclude": ["eth*"]},
            "filesystems": {"include": ["/tmp"], "exclude_types": []}
        }"#,
    );
    let lines = lines(&mut plugin);
    let has = |part: &str| lines.iter().any(|line| line.contains(part));
    assert!(has(r#"device="sda1""#) && has(r#"device="lo""#) && has(r#"mountpoint="/tmp""#));
    assert!(!has("nvme") && !has("eth0") && !has(r#"mountpoint="/""#));
}

#[test]
fn a_wrong_config_is_refused_with_its_place() {
    for (config, path, message) in [
        (r#"{"groups": []}"#, "/groups", "names no group"),
        (r#"{"groups": ["cpus"]}"#, "/groups/0", "unknown variant `cpus`"),
        (r#"{"disks": {"exclude": "sda"}}"#, "/disks/exclude", "expected a sequence"),
        (r#"{"disk": {}}"#, "/disk", "unknown field `disk`"),
    ] {
        let diagnostics = json::parse(config).and_then(System::configure).unwrap_err();
        assert_eq!(diagnostics[0].path, path);
        assert!(diagnostics[0].message.contains(message), "{}", diagnostics[0]);
    }
}
