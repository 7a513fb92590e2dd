use super::*;

#[test]
fn a_list_counts_only_while_every_program_in_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("services.json");
    let write = |layout: u32, program: &str| {
        let service = Service {
            program: program.into(),
            library_path: String::new(),
            version: "1".to_owned(),
        };
        let services =
            Services { layout, services: BTreeMap::from([("nginx".to_owned(), service)]) };
        fs::write(&list, serde_json::to_vec(&services).unwrap()).unwrap();
    };
    assert!(recorded(&list).is_none());
    write(LAYOUT, "/bin/sh");
    assert!(recorded(&list).is_some());
    write(LAYOUT, "/nowhere/nginx");
    assert!(recorded(&list).is_none());
    write(LAYOUT + 1, "/bin/sh");
    assert!(recorded(&list).is_none());
}
