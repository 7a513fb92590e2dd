use super::*;

#[test]
fn this_machine_has_every_reading() {
    let gate = SystemGate::new();
    // Twice: the second time over what the first one kept.
    for _ in 0..2 {
        let cores = gate.cpu_times().unwrap();
        assert!(!cores.is_empty());
        assert!(cores.iter().all(|core| core.modes.len() >= 4));
        let memory = gate.memory().unwrap();
        assert!(memory.total > 0 && memory.available <= memory.total);
        assert_eq!(memory.used, memory.total - memory.available);
        assert!(gate.uptime().unwrap() > 0.0);
        assert!(gate.load_average().unwrap().0 >= 0.0);
        assert!(gate.networks().unwrap().iter().any(|network| network.device == "lo"));
        gate.disks().unwrap();
        let machine = gate.identity().unwrap();
        assert!(!machine.hostname.is_empty() && !machine.kernel.is_empty());
        assert!(!machine.arch.is_empty());
        gate.temperatures().unwrap();
        for filesystem in gate.filesystems().unwrap() {
            assert!(filesystem.available_bytes <= filesystem.total_bytes, "{filesystem:?}");
            assert!(filesystem.mount_point.starts_with('/'), "{filesystem:?}");
        }
    }
}

#[test]
fn this_process_and_its_threads_are_counted() {
    let processes = SystemGate::new().processes().unwrap();
    let counted: u32 = processes.by_state.iter().map(|(_, count)| count).sum();
    assert!(counted >= 1);
    assert!(processes.threads.unwrap() >= u64::from(counted));
    assert!(processes.created.unwrap() >= 1);
}

#[test]
fn file_systems_that_hang_make_later_readings_fail_and_not_wait() {
    let gate = SystemGate::new();
    let _hanging = gate.mounts.lock();
    assert!(matches!(gate.filesystems(), Err(SystemError::Failed(_))));
    assert!(gate.memory().is_ok());
}

/// Not a bound, a figure to look at: `cargo test -- --nocapture what_a_reading_costs`.
#[test]
fn what_a_reading_costs_is_printed_in_cpu_time() {
    let gate = SystemGate::new();
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
    };
    let cost = |name: &str, reading: &dyn Fn() -> bool| {
        assert!(reading(), "{name}");
        let rounds = 20;
        let start = now();
        assert!((0..rounds).all(|_| reading()), "{name}");
        println!("{name}: {:.1} us", (now() - start) / f64::from(rounds));
    };
    cost("cpu_times", &|| gate.cpu_times().is_ok());
    cost("memory", &|| gate.memory().is_ok());
    cost("filesystems", &|| gate.filesystems().is_ok());
    cost("disks", &|| gate.disks().is_ok());
    cost("networks", &|| gate.networks().is_ok());
    cost("load_average", &|| gate.load_average().is_ok());
    cost("processes", &|| gate.processes().is_ok());
    cost("uptime", &|| gate.uptime().is_ok());
    cost("temperatures", &|| gate.temperatures().is_ok());
    cost("identity", &|| gate.identity().is_ok());
}
