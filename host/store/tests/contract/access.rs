use crate::{DAY, T0};
use sentinel_store::access::{ApiToken, Asker, EnrolmentToken, NewAudit, Spent};
use sentinel_store::agents::Claim;
use sentinel_store::{Store, StoreError};

fn api(id: &str, hash: u8) -> ApiToken {
    ApiToken {
        id: id.into(),
        hash: [hash; 32],
        name: "ci \u{0} of \u{e000}".into(),
        role: "operator".into(),
        made_by: "owner".into(),
        made_at: T0,
        expires_at: (hash == 2).then_some(T0 + DAY),
    }
}

pub(crate) async fn an_api_token_is_found_by_its_hash_until_it_is_revoked(store: &dyn Store) {
    assert_eq!(store.api_tokens().await.unwrap(), []);
    store.save_api_token(api("a", 1)).await.unwrap();
    store.save_api_token(api("b", 2)).await.unwrap();
    let taken = store.save_api_token(api("a", 3)).await;
    assert!(matches!(taken, Err(StoreError::Conflict(_))), "{taken:?}");
    assert_eq!(store.api_tokens().await.unwrap(), [api("a", 1), api("b", 2)]);
    assert_eq!(store.api_token(&[2; 32]).await.unwrap(), Some(api("b", 2)));
    assert_eq!(store.api_token(&[3; 32]).await.unwrap(), None);
    assert!(store.revoke_api_token("b").await.unwrap());
    assert!(!store.revoke_api_token("b").await.unwrap());
    assert_eq!(store.api_token(&[2; 32]).await.unwrap(), None);
    assert_eq!(store.api_tokens().await.unwrap(), [api("a", 1)]);
}

fn enrolment(id: &str, hash: u8, uses: u32) -> EnrolmentToken {
    EnrolmentToken {
        id: id.into(),
        hash: [hash; 32],
        uses_left: uses,
        expires_at: T0 + 100,
        made_by: "owner".into(),
        made_at: T0 + i64::from(hash),
        waiting: false,
        asked: None,
    }
}

pub(crate) async fn an_enrolment_token_serves_as_often_and_as_long_as_it_says(store: &dyn Store) {
    let spend = |hash: u8, claim: u8, now: i64| {
        store.spend_enrolment_token([hash; 32], Claim([claim; 32]), now)
    };
    store.save_enrolment_token(enrolment("two", 1, 2), T0).await.unwrap();
    store.save_enrolment_token(enrolment("one", 2, 1), T0).await.unwrap();
    for (hash, claim, at, expected) in [
        (9, 1, 0, Spent::Refused),
        (1, 1, 0, Spent::Taken),
        (1, 1, 0, Spent::Taken),
        (1, 2, 0, Spent::Taken),
        (1, 3, 0, Spent::Refused),
        (1, 2, 99, Spent::Taken),
        (1, 2, 100, Spent::Refused),
        (2, 1, 100, Spent::Refused),
        (2, 1, 99, Spent::Taken),
    ] {
        assert_eq!(spend(hash, claim, T0 + at).await.unwrap(), expected, "{hash} {claim} {at}");
    }
    let open = store.enrolment_tokens(T0 + 99).await.unwrap();
    assert_eq!(open, [enrolment("two", 1, 0), enrolment("one", 2, 0)]);
    assert_eq!(store.enrolment_tokens(T0 + 100).await.unwrap(), []);
    assert!(store.revoke_enrolment_token("two").await.unwrap());
    assert_eq!(spend(1, 1, T0).await.unwrap(), Spent::Refused);
    // What has expired makes room, also for the same again.
    store.save_enrolment_token(enrolment("one", 2, 1), T0 + 100).await.unwrap();
}

pub(crate) async fn a_token_that_an_agent_asked_for_serves_once_it_is_approved(store: &dyn Store) {
    let asked =
        Asker { agent: "web-1".into(), hostname: "web\u{0}1".into(), address: "192.0.2.1".into() };
    let waits = EnrolmentToken {
        waiting: true,
        made_by: String::new(),
        asked: Some(asked),
        ..enrolment("CODE", 1, 1)
    };
    store.save_enrolment_token(waits.clone(), T0).await.unwrap();
    store.save_enrolment_token(waits.clone(), T0).await.unwrap();
    let stranger = EnrolmentToken { hash: [2; 32], ..waits.clone() };
    let taken = store.save_enrolment_token(stranger, T0).await;
    assert!(matches!(taken, Err(StoreError::Conflict(_))), "another with its code: {taken:?}");
    let spend = |now| store.spend_enrolment_token([1; 32], Claim([1; 32]), now);
    assert_eq!(spend(T0).await.unwrap(), Spent::Waiting);
    let approve = |id, now| store.approve_enrolment_token(id, "ann", now, T0 + 500);
    assert!(!approve("OTHER", T0).await.unwrap());
    assert!(!approve("CODE", T0 + 100).await.unwrap(), "too late");
    assert!(approve("CODE", T0).await.unwrap());
    assert!(!approve("CODE", T0).await.unwrap(), "once");
    assert_eq!(spend(T0 + 499).await.unwrap(), Spent::Taken);
    let taken = store.save_enrolment_token(waits.clone(), T0).await;
    assert!(matches!(taken, Err(StoreError::Conflict(_))), "it served: {taken:?}");
    let open = store.enrolment_tokens(T0).await.unwrap();
    let approved = EnrolmentToken {
        waiting: false,
        made_by: "ann".into(),
        uses_left: 0,
        expires_at: T0 + 500,
        ..waits
    };
    assert_eq!(open, [approved]);
}

pub(crate) async fn a_change_is_written_down_before_it_is_made(store: &dyn Store) {
    let entry = |at: i64| NewAudit {
        at,
        who: "ann".into(),
        role: "admin".into(),
        address: "[::1]:1".into(),
        what: "POST /v1/agents/web\u{0}/block".into(),
    };
    let first = store.begin_audit(entry(T0)).await.unwrap();
    let second = store.begin_audit(entry(T0 + 1)).await.unwrap();
    assert!(second > first);
    store.end_audit(second, "200").await.unwrap();
    store.end_audit(second, "500").await.unwrap();
    let all = store.audit(i64::MAX, 9).await.unwrap();
    let shown: Vec<_> = all.iter().map(|it| (it.id, it.outcome.as_deref())).collect();
    assert_eq!(shown, [(second, Some("200")), (first, None)], "what was said first stays");
    assert_eq!(all[1].entry, entry(T0));
    assert_eq!(store.audit(second, 9).await.unwrap()[0].id, first);
    assert_eq!(store.audit(i64::MAX, 1).await.unwrap().len(), 1);
    let late = T0 + 91 * DAY;
    while store.maintain(late).await.unwrap().1 {}
    assert_eq!(store.audit(i64::MAX, 9).await.unwrap(), [], "it ages out with the history");
}
