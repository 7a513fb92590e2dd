//! Which NATS and which stream is used, and setting it up by hand.

use std::path::PathBuf;

use async_nats::jetstream as js;
use sentinel_bus::jetstream::{JetStreamBus, JetStreamOptions, set_up};
use sentinel_bus::{Bus, BusError};

use crate::contract::{message, publish};
use crate::rig::Rig;

#[tokio::test]
async fn a_stream_that_somebody_made_by_hand_is_marked_or_refused() {
    let rig = Rig::start();
    let operator = rig.operator().await;
    let by_hand = |retention| js::stream::Config {
        name: "sentinel_metrics".into(),
        subjects: vec!["sentinel.metrics.*".into()],
        discard: js::stream::DiscardPolicy::New,
        retention,
        ..Default::default()
    };
    operator.create_stream(by_hand(js::stream::RetentionPolicy::Limits)).await.unwrap();
    let Err(refused) = JetStreamBus::connect(rig.options()).await else { panic!("it is used") };
    assert!(refused.to_string().contains("its retention is Limits, not WorkQueue"), "{refused}");
    operator.delete_stream("sentinel_metrics").await.unwrap();
    operator.create_stream(by_hand(js::stream::RetentionPolicy::WorkQueue)).await.unwrap();
    let (one, two) = (rig.bus().await, rig.bus().await);
    assert_eq!(one.incarnation(), two.incarnation());
    publish(&one, "a", 1..=1).await;
    assert_eq!(two.depth().await.unwrap().messages, 1);
}

#[tokio::test]
async fn the_stream_is_set_up_checked_and_changed_by_hand() {
    let rig = Rig::start();
    let made = set_up(rig.options(), false).await.unwrap();
    assert_eq!((made.stream.as_str(), made.partitions, made.messages), ("sentinel_metrics", 4, 0));
    assert_eq!((made.differences.len(), made.partitions_differ), (0, None));
    let mut other = rig.options();
    other.stream.max_messages = 7;
    other.stream.partitions = 9;
    let said = ["max_messages: 1000000 instead of 7"];
    for check in [true, false] {
        let found = set_up(other.clone(), check).await.unwrap();
        assert_eq!(
            (found.incarnation, &found.differences[..]),
            (made.incarnation, &said.map(String::from)[..])
        );
        assert!(found.partitions_differ.unwrap().contains("4 partitions instead of 9"));
    }
    assert_eq!(set_up(other, true).await.unwrap().differences, Vec::<String>::new());
    publish(&rig.bus().await, "a", 1..=7).await;
    assert!(matches!(rig.bus().await.publish(message("a", 8)).await, Err(BusError::Busy { .. })));
}

#[tokio::test]
async fn who_is_not_let_in_is_told_without_the_password() {
    let rig = Rig::with("authorization { user: anna, password: \"s/cret\" }", "");
    let connect = async |login: &str| {
        let address = format!("nats://{login}127.0.0.1:{}", rig.nats.port());
        JetStreamBus::connect(JetStreamOptions::new(address.parse().unwrap())).await
    };
    let bus = connect("anna:s%2Fcret@").await.unwrap();
    publish(&bus, "a", 1..=1).await;
    for login in ["anna:wr%6Fng@", ""] {
        let Err(error) = connect(login).await else { panic!("{login} is let in") };
        let error = error.to_string();
        assert!(error.contains("authorization violation") && !error.contains("wrong"), "{error}");
    }
}

#[tokio::test]
async fn a_nats_that_is_not_fit_is_refused_with_what_to_do() {
    let refused = async |options: JetStreamOptions| match JetStreamBus::connect(options).await {
        Ok(_) => panic!("it is used"),
        Err(error) => error.to_string(),
    };
    let nobody = sentinel_test_services::free_port().unwrap();
    let address = format!("nats://127.0.0.1:{nobody}");
    let said = refused(JetStreamOptions::new(address.parse().unwrap())).await;
    assert!(said.contains(&address), "{said}");
    let mut rig = Rig::start();
    let mut missing = rig.options();
    missing.credentials = Some("/nowhere/user.creds".into());
    assert!(refused(missing).await.contains("credentials /nowhere/user.creds"));
    rig = Rig::with("max_payload: 1MB", "");
    let said = refused(rig.options()).await;
    assert!(said.contains("set max_payload: 8MB"), "{said}");
}

#[tokio::test]
async fn over_tls_only_a_nats_with_a_trusted_certificate_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let stranger = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let certificate = write("cert.pem", made.cert.pem());
    let key = write("key.pem", made.signing_key.serialize_pem());
    let other = write("other.pem", stranger.cert.pem());
    let tls = format!("tls {{ cert_file: {certificate:?}, key_file: {key:?} }}");
    let rig = Rig::with(&tls, "");
    let options = |ca: &PathBuf| {
        let address = format!("nats://localhost:{}", rig.nats.port());
        let ca = Some(ca.clone());
        JetStreamOptions { ca, ..JetStreamOptions::new(address.parse().unwrap()) }
    };
    let bus = JetStreamBus::connect(options(&certificate)).await.unwrap();
    publish(&bus, "a", 1..=1).await;
    assert!(JetStreamBus::connect(options(&other)).await.is_err());
    let nowhere = JetStreamBus::connect(options(&folder.path().join("none.pem"))).await;
    assert!(nowhere.is_err());
    // And where TLS is asked for, a server without it is not used.
    let plain = Rig::start();
    let address = format!("tls://127.0.0.1:{}", plain.nats.port());
    assert!(JetStreamBus::connect(JetStreamOptions::new(address.parse().unwrap())).await.is_err());
}
