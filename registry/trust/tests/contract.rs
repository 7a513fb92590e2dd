//! The contract's own worlds: what wit-component makes of them is what this crate expects.

mod fixture;

use fixture::{Signed, manifest_of};
use sentinel_trust::{
    Asked, Capability, FilesRequest, HttpMethod, HttpRequest, Kind, KvRequest, Need, Requests,
    need_of_import,
};

fn whole_world(kind: Kind) -> Vec<u8> {
    sentinel_test_components::whole_world(kind.as_str())
}

fn everything(kind: Kind) -> Requests {
    let may = |capability| kind.capabilities().contains(&capability);
    Requests {
        system: may(Capability::System),
        http: may(Capability::Http)
            .then(|| HttpRequest { origins: Asked::FromConfig, methods: [HttpMethod::Get].into() }),
        mail: may(Capability::Mail),
        files: may(Capability::Files).then_some(FilesRequest { paths: Asked::FromConfig }),
        mac: may(Capability::Mac),
        kv: may(Capability::Kv).then_some(KvRequest { max_bytes: 1000 }),
        series: may(Capability::Series),
    }
}

#[test]
fn a_component_of_each_world_is_verified_under_its_kind_and_no_other() {
    for kind in Kind::ALL {
        let component = whole_world(kind);
        Signed::new(&component, &manifest_of(kind, everything(kind))).verify().unwrap();
        for other in Kind::ALL {
            if other != kind {
                Signed::new(&component, &manifest_of(other, Requests::default()))
                    .verify()
                    .unwrap_err();
            }
        }
    }
}

#[test]
fn a_world_offers_exactly_the_capabilities_of_its_kind() {
    for kind in Kind::ALL {
        let mut offered: Vec<_> = sentinel_test_components::world(kind.as_str())
            .imports()
            .iter()
            .filter_map(|name| match need_of_import(name) {
                Need::Nothing => None,
                Need::Capability(capability) => Some(capability),
                need => panic!("{name}: {need:?}"),
            })
            .collect();
        offered.sort_unstable();
        let mut expected = kind.capabilities().to_vec();
        expected.sort_unstable();
        assert_eq!(offered, expected, "{kind}");
    }
}

#[test]
fn each_capability_that_is_imported_must_be_requested() {
    for kind in Kind::ALL {
        let component = whole_world(kind);
        let error = Signed::new(&component, &manifest_of(kind, Requests::default())).verify();
        match kind {
            Kind::Transform => assert!(error.is_ok()),
            _ => {
                let message = error.unwrap_err().to_string();
                for capability in kind.capabilities() {
                    assert!(message.contains(&format!("needs `{capability}`")), "{message}");
                }
            }
        }
    }
}
