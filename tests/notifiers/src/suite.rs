//! What holds of every notifier that makes a message of a notification, whatever its service.
//!
//! A plugin names itself and its fake as a [`Chat`], and `suite!` makes the tests.

use crate::notifications::{NOW, alert, notification, wild};
use crate::{Fault, Faulty, Service, Shared, answering, deliver};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use sentinel_sdk::Notifier;
use sentinel_sdk::testing::{Host, Installed};

/// Notifications of one run with faults.
const TOLD: usize = 8;
/// Of 256 requests, so many meet a fault.
const OFTEN: u8 = 120;

/// A notifier and the fake of its service.
pub trait Chat {
    /// The fake.
    type Fake: Service + Default;
    /// The plugin.
    type Plugin: Notifier;
    /// For how long it wants to wait, in milliseconds, when the service says two seconds.
    const WISH_MS: u64;
    /// The plugin, configured.
    fn plugin() -> Self::Plugin;
    /// The messages that the fake took, in order.
    fn messages(fake: &Self::Fake) -> Vec<String>;
    /// What it refused as malformed.
    fn refused(fake: &Self::Fake) -> Vec<String>;
}

type Channel<C> = Shared<Faulty<<C as Chat>::Fake>>;

fn installed<C: Chat>(faulty: Faulty<C::Fake>) -> (Channel<C>, Installed) {
    let channel = Shared::new(faulty);
    let host = Host::new().at(NOW).server(answering(&channel)).install();
    (channel, host)
}

fn first<C: Chat>(faults: &[Fault]) -> (Channel<C>, Installed) {
    installed::<C>(Faulty::first(C::Fake::default(), faults))
}

fn says_that_it_may_be_a_repeat(message: &str) -> bool {
    message.contains("Possible repeat")
}

/// More alerts than fit are counted, beside a link to all of them.
///
/// # Panics
/// Where they are not.
pub fn a_long_list_is_counted_beside_its_link<C: Chat>() {
    let (channel, host) = first::<C>(&[]);
    let alerts = (0..100).map(|at| alert(&at.to_string(), "disk")).collect();
    let delivered = deliver(&host, &mut C::plugin(), &notification("n", alerts));
    assert!(delivered.last.is_ok(), "{delivered:?}");
    let told = channel.look(|faulty| C::messages(&faulty.service).remove(0));
    assert!(told.contains("more alerts") && told.contains("https://sentinel.example/alerts"));
}

/// Each fault costs an attempt; the wish of the service is heeded, and what may have arrived is
/// said to be a possible repeat.
///
/// # Panics
/// Where it is not so.
pub fn an_attempt_that_failed_is_made_again_after_the_wish_of_the_service<C: Chat>() {
    for (fault, wish, in_doubt) in [
        (Fault::Limited, C::WISH_MS, false),
        (Fault::Unavailable, 0, false),
        (Fault::Untrusted, 0, false),
        (Fault::Lost, 0, true),
        (Fault::TakenAndSilent, 0, true),
        (Fault::TakenAndHalf, 0, true),
        (Fault::TakenAndClosed, 0, true),
    ] {
        let (channel, host) = first::<C>(&[fault]);
        let told = notification("n", vec![alert("a", "disk")]);
        let delivered = deliver(&host, &mut C::plugin(), &told);
        assert_eq!((delivered.attempts, delivered.in_doubt), (2, in_doubt), "{delivered:?}");
        assert_eq!(delivered.longest_wish, wish, "{fault:?}");
        let messages = channel.look(|faulty| C::messages(&faulty.service));
        let last = messages.last().expect("it is told");
        assert_eq!(says_that_it_may_be_a_repeat(last), in_doubt, "{fault:?}: {last}");
    }
}

/// No alert makes a message that the service refuses.
///
/// # Panics
/// Where one does.
pub fn whatever_alerts_come_the_message_is_taken<C: Chat>() {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) };
    let checked = TestRunner::new(config).run(&wild(), |told| {
        let (channel, host) = first::<C>(&[]);
        let delivered = deliver(&host, &mut C::plugin(), &told.0);
        let refused = channel.look(|faulty| C::refused(&faulty.service));
        prop_assert!(delivered.last.is_ok(), "{:?} {:?}", delivered, refused);
        prop_assert_eq!(channel.look(|faulty| C::messages(&faulty.service).len()), 1);
        Ok(())
    });
    checked.unwrap_or_else(|failed| panic!("{failed}"));
}

/// With faults by a seed each notification is told, and again only as a possible repeat.
///
/// # Panics
/// Where one is lost, or repeated silently.
pub fn whatever_fails_everything_is_told_and_only_repeats_that_say_so_come_twice<C: Chat>() {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) };
    let checked = TestRunner::new(config).run(&any::<u64>(), |seed| {
        let (channel, host) = installed::<C>(Faulty::seeded(C::Fake::default(), seed, OFTEN));
        let mut plugin = C::plugin();
        for at in 0..TOLD {
            let before = channel.look(|faulty| C::messages(&faulty.service).len());
            let told = notification(&format!("n{at}"), vec![alert("a", "disk")]);
            let delivered = deliver(&host, &mut plugin, &told);
            prop_assert!(delivered.last.is_ok(), "{:?}", delivered);
            let new = channel.look(|faulty| C::messages(&faulty.service).split_off(before));
            prop_assert!(!new.is_empty(), "{} was never told", at);
            let silent = new[1..].iter().find(|one| !says_that_it_may_be_a_repeat(one));
            prop_assert!(silent.is_none(), "a silent repeat: {:?}", silent);
        }
        Ok(())
    });
    checked.unwrap_or_else(|failed| panic!("{failed}"));
}

/// The tests of a `suite::Chat`.
#[macro_export]
macro_rules! suite {
    ($chat:ty) => {
        $crate::suite!(
            $chat: a_long_list_is_counted_beside_its_link,
            an_attempt_that_failed_is_made_again_after_the_wish_of_the_service,
            whatever_alerts_come_the_message_is_taken,
            whatever_fails_everything_is_told_and_only_repeats_that_say_so_come_twice,
        );
    };
    ($chat:ty: $($test:ident,)+) => {
        $(
            #[test]
            fn $test() {
                $crate::suite::$test::<$chat>();
            }
        )+
    };
}
