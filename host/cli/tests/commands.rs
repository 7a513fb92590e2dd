//! What the program says before there is any server: help, usage, failures.

mod program;

use program::{Commands, User};

#[test]
fn every_command_has_help() {
    let user = User::new();
    insta::assert_snapshot!(user.run(&["--help"]).whole());
    for command in [
        "status",
        "query",
        "metrics",
        "alerts",
        "rules",
        "plugin",
        "agents",
        "token",
        "secret",
        "key",
        "wal",
        "logs",
        "force-send",
    ] {
        let said = user.done(&[command, "--help"]);
        assert!(said.data.contains("Usage: sentinel"), "{command}");
        assert_eq!(said.talk, "");
    }
}

#[test]
fn a_wrong_call_is_a_matter_of_usage() {
    let user = User::new();
    for (arguments, part) in [
        (&["statsu"][..], "unrecognized subcommand 'statsu'"),
        (&["query"], "<SELECTOR>"),
        (&["query", "a", "--last", "5x"], "\"5x\" is not a duration"),
        (&["plugin", "remove", "nginx"], "\"nginx\" is not a plugin"),
        (&["plugin", "keygen", "--publisher", "A", "--out", "k"], "`A` is not a name"),
        (&["agents", "approve", "../x"], "../x"),
        (&["key", "rotate"], "<AGENT>"),
        (&["force-send", "--epoch", "ab"], "--from"),
        (&["secret", "set", "name", "value"], "unexpected argument 'value'"),
    ] {
        let said = user.run(arguments);
        assert_eq!((said.code, said.data.as_str()), (2, ""), "{arguments:?}");
        assert!(said.talk.contains(part), "{arguments:?}: {}", said.talk);
    }
}

#[test]
fn without_a_server_every_command_says_how_to_start_one() {
    let user = User::new();
    user.write("rules.yaml", "version: 1\nrules: []\n");
    for arguments in [
        &["status"][..],
        &["query", "a"],
        &["metrics"],
        &["alerts"],
        &["alerts", "history"],
        &["alerts", "notifications"],
        &["rules", "show"],
        &["rules", "history"],
        &["rules", "apply", "rules.yaml"],
        &["agents"],
        &["key", "rotate", "--all"],
        &["agents", "block", "0123"],
        &["agents", "show", "0123"],
        &["token", "create"],
    ] {
        let said = user.run(arguments);
        assert_eq!((said.code, said.data.as_str()), (1, ""), "{arguments:?}");
        let expected = "error: no `sentinel up` of this user is running, and no server was named\nhint: start one with `sentinel up`";
        assert!(said.talk.starts_with(expected), "{arguments:?}: {}", said.talk);
    }
}

#[test]
fn a_server_that_is_none_is_refused_by_name() {
    let user = User::new();
    let said = user.run_with(&["status"], &[("SENTINEL_SERVER", "gopher://x")], "");
    insta::assert_snapshot!(said.whole());
    let said = user.run_with(
        &["status", "--server", "http://mon.example:8080"],
        &[("SENTINEL_TOKEN", "t")],
        "",
    );
    insta::assert_snapshot!(said.whole());
}

#[test]
fn secrets_come_from_standard_input_and_only_their_names_are_shown() {
    let user = User::new();
    std::fs::create_dir(user.path("data")).unwrap();
    let secret = |arguments: &[&str], input: &str| {
        let all = [&["secret", "--data", "data"], arguments].concat();
        user.run_with(&all, &[], input)
    };
    assert_eq!(
        secret(&["list"], "").whole(),
        "exit: 0\n--- stdout\n--- stderr\nthere are no secrets in data\n"
    );
    assert_eq!(secret(&["set", "token"], "").code, 1);
    let set = secret(&["set", "token"], "hunter2\n");
    assert_eq!(set.code, 0, "{}", set.talk);
    assert!(!set.whole().contains("hunter2"));
    assert_eq!(secret(&["list"], "").data, "token\n");
    assert_eq!(secret(&["list", "--json"], "").data, "[\n  \"token\"\n]\n");
    assert_eq!(secret(&["remove", "token"], "").code, 0);
    assert_eq!(secret(&["remove", "token"], "").code, 1);
    let store = sentinel_agent::secrets::SecretStore::open(&user.path("data")).unwrap();
    assert!(store.names().unwrap().is_empty());
}

#[test]
fn a_data_folder_that_is_none_is_refused() {
    let user = User::new();
    insta::assert_snapshot!(user.run(&["secret", "list", "--data", "nowhere"]).whole());
    insta::assert_snapshot!(user.run(&["secret", "list"]).whole());
}

#[test]
fn completions_name_the_commands_and_not_the_hidden_one() {
    let user = User::new();
    for shell in ["bash", "zsh", "fish"] {
        let said = user.done(&["completions", shell]);
        assert!(said.data.contains("notifications"), "{shell}");
    }
}
