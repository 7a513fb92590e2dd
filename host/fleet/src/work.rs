//! A piece of work: fetching plugins, and giving them to the slots.

use crate::keeper::{ApplyError, Keeping, SlotKeeper, Wanted};
use crate::machine::Outcome;
use futures::StreamExt;
use sentinel_registry_client::PluginSource;
use sentinel_trust::VerifiedComponent;
use sentinel_trust::fleet::Wish;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Plugins of a set that are fetched at once.
const FETCHES: usize = 4;
/// Longest that one plugin of a new set is fetched.
const FETCH: Duration = Duration::from_secs(120);
/// As [`FETCH`], of the last good set: a host that starts without a network is not to wait
/// long for what is not there.
const FETCH_KEPT: Duration = Duration::from_secs(10);

/// Ends when it is told so; a sender that is gone means the same.
pub(crate) async fn told(receiver: &mut watch::Receiver<bool>) {
    let _ = receiver.wait_for(|told| *told).await;
}

/// The plugin of a wish; none for one that is disabled.
async fn fetched(
    plugins: &dyn PluginSource,
    wish: &Wish,
    within: Duration,
) -> Result<Option<Arc<VerifiedComponent>>, String> {
    if wish.disabled {
        return Ok(None);
    }
    let about = |why: String| format!("slot `{}`: {}: {why}", wish.slot, wish.plugin);
    let fetch = tokio::time::timeout(within, plugins.fetch(&wish.plugin, wish.digest));
    let component = match fetch.await {
        Ok(Ok(component)) => component,
        Ok(Err(error)) => return Err(about(error.to_string())),
        Err(_) => return Err(about(format!("not fetched within {within:?}"))),
    };
    // The digest decides what runs; the rest is what the operator was shown when it was chosen.
    let manifest = component.manifest();
    if component.digest() != wish.digest || *component.name() != wish.plugin {
        return Err(about(format!("{} was given instead of {}", component.digest(), wish.digest)));
    }
    if manifest.kind != wish.kind || *component.version() != wish.version {
        let (kind, version) = (manifest.kind, component.version());
        let (wanted, of) = (wish.kind, &wish.version);
        return Err(about(format!("it is a {kind} {version}; the set says {wanted} {of}")));
    }
    Ok(Some(component))
}

/// Fetches all, then changes all slots or none.
pub(crate) async fn apply(
    wishes: Vec<Wish>,
    plugins: Arc<dyn PluginSource>,
    keeper: Arc<dyn SlotKeeper>,
    mut hurry: watch::Receiver<bool>,
) -> Outcome {
    let fetching = async {
        let mut set = Vec::with_capacity(wishes.len());
        let each = wishes.into_iter().map(|wish| async {
            let component = fetched(&*plugins, &wish, FETCH).await?;
            Ok::<_, String>(Wanted { wish, component })
        });
        let mut each = futures::stream::iter(each).buffered(FETCHES);
        while let Some(one) = each.next().await {
            set.push(one?);
        }
        Ok::<_, String>(set)
    };
    let set = tokio::select! {
        () = told(&mut hurry) => return Outcome::Overtaken,
        set = fetching => set,
    };
    match set {
        Err(why) => Outcome::NotFetched(why),
        Ok(set) => match keeper.apply(set).await {
            Ok(()) => Outcome::Applied,
            Err(ApplyError(why)) => Outcome::NotApplied(why),
        },
    }
}

/// Fetches what can be had, and keeps that running.
pub(crate) async fn keep(
    wishes: Vec<Wish>,
    plugins: Arc<dyn PluginSource>,
    keeper: Arc<dyn SlotKeeper>,
    hurry: watch::Receiver<bool>,
) -> Outcome {
    let set = at_hand(wishes, plugins, hurry).await;
    Outcome::Kept(keeper.keep(set).await)
}

/// Puts what can be had in place of what runs: all of it at one moment if it can be.
pub(crate) async fn roll_back(
    wishes: Vec<Wish>,
    plugins: Arc<dyn PluginSource>,
    keeper: Arc<dyn SlotKeeper>,
    hurry: watch::Receiver<bool>,
) -> Outcome {
    let set = at_hand(wishes, plugins, hurry).await;
    let ready = |one: &Keeping| match one {
        Keeping::Ready(wanted) => Some(wanted.clone()),
        Keeping::Waiting { .. } => None,
    };
    if let Some(whole) = set.iter().map(ready).collect::<Option<Vec<Wanted>>>() {
        match keeper.apply(whole).await {
            Ok(()) => return Outcome::Applied,
            Err(ApplyError(why)) => {
                tracing::error!(why, "not rolled back as a whole; each slot goes back for itself");
            }
        }
    }
    Outcome::Kept(keeper.keep(set).await)
}

async fn at_hand(
    wishes: Vec<Wish>,
    plugins: Arc<dyn PluginSource>,
    hurry: watch::Receiver<bool>,
) -> Vec<Keeping> {
    let each = wishes.into_iter().map(|wish| {
        let (plugins, mut hurry) = (Arc::clone(&plugins), hurry.clone());
        async move {
            let component = tokio::select! {
                biased;
                component = fetched(&*plugins, &wish, FETCH_KEPT) => component,
                () = told(&mut hurry) => Err("a newer set came first".to_owned()),
            };
            match component {
                Ok(component) => Keeping::Ready(Wanted { wish, component }),
                Err(why) => Keeping::Waiting { wish, why },
            }
        }
    });
    futures::stream::iter(each).buffered(FETCHES).collect().await
}
