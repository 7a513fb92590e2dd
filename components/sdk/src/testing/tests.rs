use super::*;
use crate::mail::{Mailbox, one_line};
use crate::series::{Aggregate, MatchOp, Matcher, Query, Selector};
use crate::{clock, files, http, kv, log, mac, mail, series, system};

fn ask(aggregate: Aggregate, op: MatchOp, value: &str) -> Vec<(u64, f64)> {
    let query = Query {
        selector: Selector {
            name: "a".to_owned(),
            matchers: vec![Matcher { label: "k".to_owned(), op, value: value.to_owned() }],
        },
        window_ms: 10_000,
        offset_ms: 0,
        aggregate,
    };
    let answer = series::ask(&[query]).remove(0).unwrap();
    answer.series.into_iter().zip(answer.value).collect()
}

#[test]
fn nothing_is_granted_where_no_host_is_installed() {
    assert_eq!(files::read("/etc/passwd", 10), Err(FileError::NotFound));
    assert!(matches!(http::send(&Request::get("http://x/")), Err(HttpError::Denied(_))));
    assert_eq!(mac::sign("k", b""), Err(MacError::Denied));
    assert!(system::uptime().is_err());
    assert_eq!(clock::now(), 0);
    assert!(matches!(mail::send(&message()), Err(MailError::Denied(_))));
}

fn message() -> Message {
    let to = vec![Mailbox::new("on-call@example.com").named("On call")];
    Message::new("n-1", Mailbox::new("ops@example.com"), to, "It is hot", "Machine 2 is hot.")
}

#[test]
fn messages_are_handed_to_the_relay_and_kept_for_the_test() {
    let host = Host::new().takes_mail().install();
    let sent = message().html("<b>hot</b>").cc(vec![Mailbox::new("a@b")]).in_reply_to("n-0");
    assert_eq!(mail::send(&sent).unwrap().message_id, "n-1@test");
    assert_eq!(host.mails(), [sent]);
    let host = Host::new().relay(|_| Err(MailError::Throttled(5))).install();
    let error = mail::send(&message()).unwrap_err();
    assert_eq!(mail::describe_error(&error), "too many messages; the next in 5 ms");
    assert_eq!(host.mails().len(), 1);
}

#[test]
fn a_text_in_one_line_fits_a_subject() {
    assert_eq!(one_line("a\r\nBcc: b\u{85}", 100), "a  Bcc: b ");
    assert_eq!(one_line("äöü", 3), "ä");
}

#[test]
fn files_are_read_whole_in_part_and_listed() {
    let _host = Host::new()
        .file("/sys/a/x", "12345")
        .file("/sys/a/y/z", "")
        .file_error("/sys/b", FileError::Denied)
        .install();
    assert_eq!(files::read_text("/sys/a/x", 5).unwrap(), "12345");
    assert_eq!(files::read("/sys/a/x", 4), Err(FileError::TooLarge(5)));
    assert_eq!(files::read_at("/sys/a/x", 3, 9).unwrap(), b"45");
    assert_eq!(files::read("/sys/b", 9), Err(FileError::Denied));
    let names: Vec<_> = files::list_directory("/sys/a").unwrap();
    assert_eq!(names[0].kind, EntryKind::File);
    assert_eq!((names[1].name.as_str(), names[1].kind), ("y", EntryKind::Directory));
}

#[test]
fn requests_and_messages_are_kept_for_the_test() {
    let host = Host::new()
        .answer("http://x/", 503, "down")
        .server(|request| Err(HttpError::Connect(request.url.clone())))
        .install();
    assert_eq!(http::send(&Request::get("http://x/")).unwrap().text(), "down");
    assert!(http::send(&Request::post("http://y/", "body")).is_err());
    log::warn("look");
    assert_eq!(host.requests()[1].body, b"body");
    assert_eq!(host.logs(), [(Level::Warn, "look".to_owned())]);
}

#[test]
fn signatures_are_real() {
    // RFC 4231, test case 2.
    let _host = Host::new().key("k", "Jefe").install();
    let code = mac::sign("k", b"what do ya want for nothing?").unwrap();
    assert_eq!(code[..4], [0x5b, 0xdc, 0xc1, 0x46]);
}

#[test]
fn state_is_bounded_as_in_the_host() {
    let host = Host::new().kv("a/1", "x").kv_limit(10).install();
    assert_eq!(kv::set("a/2", b"123"), Ok(()));
    assert_eq!(kv::set("a/3", b"1"), Err(KvError::Full));
    assert_eq!(kv::set("a/2", b"12"), Ok(()));
    assert_eq!(kv::set(&"k".repeat(129), b""), Err(KvError::TooLarge));
    assert_eq!(kv::keys("a/"), ["a/1", "a/2"]);
    kv::delete("a/1");
    assert_eq!(host.kv("a/1"), None);
}

#[test]
fn what_a_failed_call_wrote_is_forgotten() {
    let host = Host::new().kv("a", "1").install();
    let write = |value: &str| kv::set("a", value.as_bytes());
    assert_eq!(host.call(|| write("2").map_err(drop).and(Err::<(), ()>(()))), Err(()));
    assert_eq!(host.kv("a").unwrap(), b"1");
    assert_eq!(host.call(|| write("3")), Ok(()));
    assert_eq!(host.kv("a").unwrap(), b"3");
}

#[test]
fn numbers_that_are_none_and_infinities_count_as_at_the_host() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let _host = Host::new()
        .series("a", &[], &[(1_000, nan), (2_000, 1.0), (3_000, nan), (4_000, 7.0)])
        .series("b", &[], &[(1_000, inf), (2_000, inf)])
        .at(5_000)
        .install();
    let of = |name: &str, aggregate| {
        let selector = Selector { name: name.to_owned(), matchers: vec![] };
        let query = Query { selector, aggregate, window_ms: 60_000, offset_ms: 0 };
        series::ask(&[query])[0].as_ref().unwrap().value[0]
    };
    assert_eq!(of("a", Aggregate::Increase), 6.0);
    assert_eq!(of("a", Aggregate::Rate), 3.0);
    assert_eq!(of("a", Aggregate::Quantile(0.5)), 4.0);
    assert!(of("b", Aggregate::Increase).is_nan() && of("b", Aggregate::Rate).is_nan());
    assert_eq!(of("b", Aggregate::Quantile(0.5)), inf);
}

#[test]
fn series_answer_as_the_contract_says() {
    let host = Host::new()
        .series("a", &[("k", "x")], &[(1_000, 5.0), (2_000, 9.0), (3_000, 2.0)])
        .series("a", &[("k", "y")], &[(12_000, 1.0)])
        .series("b", &[], &[(3_000, 1.0)])
        .at(10_999)
        .install();
    for (aggregate, expect) in [
        (Aggregate::Last, 2.0),
        (Aggregate::Avg, 16.0 / 3.0),
        (Aggregate::Min, 2.0),
        (Aggregate::Max, 9.0),
        (Aggregate::Sum, 16.0),
        (Aggregate::Count, 3.0),
        (Aggregate::Increase, 6.0),
        (Aggregate::Rate, 3.0),
        (Aggregate::Quantile(0.5), 5.0),
        (Aggregate::Quantile(0.75), 7.0),
    ] {
        assert_eq!(ask(aggregate, MatchOp::Regex, "x|z"), [(1, expect)], "{aggregate:?}");
    }
    assert_eq!(ask(Aggregate::Count, MatchOp::NotEqual, "x"), []);
    // The window is open at its start.
    host.set_time(11_000);
    assert_eq!(ask(Aggregate::Count, MatchOp::Equal, "x"), [(1, 2.0)]);
    host.set_time(12_000);
    assert_eq!(ask(Aggregate::Last, MatchOp::NotRegex, "x"), [(2, 1.0)]);
    assert_eq!(series::labels_of(&[2, 9]), [vec![("k".to_owned(), "y".to_owned())], vec![]]);
}
