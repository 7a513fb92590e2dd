//! Changes of a desired set, as functions from one set to the next. No I/O and no clock.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sentinel_model::ids::SlotName;
use sentinel_trust::fleet::{DesiredSet, Group, Wish};
use sentinel_trust::{Kind, PluginName};

/// Labels that a host must have, `role=web,zone=a`; `*` for every host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selector(pub(crate) BTreeMap<String, String>);

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::default());
        }
        let mut labels = BTreeMap::new();
        for pair in text.split(',') {
            let (key, value) = pair
                .split_once('=')
                .filter(|(key, value)| !key.is_empty() && !value.is_empty())
                .ok_or_else(|| format!("{pair:?} is no label: write role=web,zone=a, or '*'"))?;
            if labels.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(format!("the label {key:?} is there twice"));
            }
        }
        Ok(Self(labels))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = Group { on: self.0.clone(), slots: Vec::new() };
        f.write_str(&group.selector())
    }
}

/// Which slots of a set are meant: those that fit all that is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Which {
    pub(crate) plugin: Option<PluginName>,
    pub(crate) slot: Option<String>,
    pub(crate) on: Option<Selector>,
}

impl Which {
    fn fits(&self, group: &Group, wish: &Wish) -> bool {
        self.on.as_ref().is_none_or(|on| on.0 == group.on)
            && self.slot.as_ref().is_none_or(|slot| *slot == wish.slot)
            && self.plugin.as_ref().is_none_or(|plugin| *plugin == wish.plugin)
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.slot, &self.plugin) {
            (Some(slot), _) => write!(f, "slot {slot}")?,
            (None, Some(plugin)) => write!(f, "slot with {plugin}")?,
            (None, None) => f.write_str("slot")?,
        }
        self.on.as_ref().map_or(Ok(()), |on| write!(f, " on {on}"))
    }
}

/// Why a change cannot be made. The set stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EditError {
    /// The slot has another plugin, or the same.
    #[error(
        "slot {slot} on {on} has {plugin} already; change it with --replace, or choose another name with --slot"
    )]
    Taken {
        /// The slot.
        slot: String,
        /// The group.
        on: String,
        /// What is there.
        plugin: String,
    },
    /// No slot fits.
    #[error("the fleet has no {which}{}", listed(.there))]
    Nothing {
        /// What was looked for.
        which: Box<Which>,
        /// What there is instead.
        there: Vec<String>,
    },
    /// A collector without a selector.
    #[error(
        "{plugin} is a collector, which agents run: say on which with --on role=web, or --on '*' for all"
    )]
    NoSelector {
        /// The plugin.
        plugin: PluginName,
    },
    /// Going back to what is in force.
    #[error("set {number} is what is in force: nothing would change")]
    Same {
        /// The number.
        number: u64,
    },
    /// The set would not be one that can be signed.
    #[error("the change cannot be meant:\n  {}", .0.join("\n  "))]
    Problems(Vec<String>),
}

fn listed(there: &[String]) -> String {
    if there.is_empty() {
        return "; nothing is installed by it yet".to_owned();
    }
    format!("; it has:\n  {}", there.join("\n  "))
}

/// Whether two plugins of these kinds run on the same hosts: collectors on agents, the rest
/// on workers.
const fn same_hosts(a: Kind, b: Kind) -> bool {
    matches!(a, Kind::Collector) == matches!(b, Kind::Collector)
}

/// Puts a wish into the group of a selector. Without one, what workers run is for all of them.
///
/// # Errors
/// [`EditError::Taken`] unless `replace`; [`EditError::NoSelector`].
pub(crate) fn install(
    set: &DesiredSet,
    on: Option<&Selector>,
    wish: Wish,
    replace: bool,
) -> Result<DesiredSet, EditError> {
    if on.is_none() && wish.kind == Kind::Collector {
        return Err(EditError::NoSelector { plugin: wish.plugin });
    }
    let on = on.cloned().unwrap_or_default();
    let mut next = set.clone();
    let at = next.groups.iter().position(|group| group.on == on.0).unwrap_or_else(|| {
        next.groups.push(Group { on: on.0.clone(), slots: Vec::new() });
        next.groups.len() - 1
    });
    let slots = &mut next.groups[at].slots;
    let there =
        slots.iter_mut().find(|one| one.slot == wish.slot && same_hosts(one.kind, wish.kind));
    match there {
        None => slots.push(wish),
        Some(there) if replace => *there = wish,
        Some(there) => {
            return Err(EditError::Taken {
                slot: wish.slot,
                on: on.to_string(),
                plugin: format!("{}@{}", there.plugin, there.version),
            });
        }
    }
    Ok(next)
}

/// The wishes that are meant, each with its group's selector.
///
/// # Errors
/// [`EditError::Nothing`].
pub(crate) fn find<'a>(
    set: &'a DesiredSet,
    which: &Which,
) -> Result<Vec<(Selector, &'a Wish)>, EditError> {
    let all = || set.groups.iter().flat_map(|group| group.slots.iter().map(move |w| (group, w)));
    let found: Vec<_> = all()
        .filter(|(group, wish)| which.fits(group, wish))
        .map(|(group, wish)| (Selector(group.on.clone()), wish))
        .collect();
    if found.is_empty() {
        let shown = |(group, wish): (&Group, &Wish)| {
            format!("{} on {}: {}@{}", wish.slot, group.selector(), wish.plugin, wish.version)
        };
        let there = all().map(shown).collect();
        return Err(EditError::Nothing { which: Box::new(which.clone()), there });
    }
    Ok(found)
}

/// Changes each wish that is meant.
///
/// # Errors
/// [`EditError::Nothing`]; what `change` says.
pub(crate) fn change<E: From<EditError>>(
    set: &DesiredSet,
    which: &Which,
    mut change: impl FnMut(&Selector, &mut Wish) -> Result<(), E>,
) -> Result<DesiredSet, E> {
    find(set, which)?;
    let mut next = set.clone();
    for group in &mut next.groups {
        let on = Selector(group.on.clone());
        let meant: Vec<bool> = group.slots.iter().map(|wish| which.fits(group, wish)).collect();
        for (wish, _) in group.slots.iter_mut().zip(meant).filter(|(_, meant)| *meant) {
            change(&on, wish)?;
        }
    }
    Ok(next)
}

/// Switches slots off, or on again as they were.
///
/// # Errors
/// [`EditError::Nothing`].
pub(crate) fn disable(
    set: &DesiredSet,
    which: &Which,
    disabled: bool,
) -> Result<DesiredSet, EditError> {
    change(set, which, |_, wish| {
        wish.disabled = disabled;
        Ok(())
    })
}

/// Takes slots out, and groups that are left empty.
///
/// # Errors
/// [`EditError::Nothing`].
pub(crate) fn uninstall(set: &DesiredSet, which: &Which) -> Result<DesiredSet, EditError> {
    find(set, which)?;
    let mut next = set.clone();
    for group in &mut next.groups {
        let on = group.on.clone();
        group.slots.retain(|wish| {
            let group = Group { on: on.clone(), slots: Vec::new() };
            !which.fits(&group, wish)
        });
    }
    next.groups.retain(|group| !group.slots.is_empty());
    Ok(next)
}

/// Takes a notifier out wherever it is, and groups that are left empty. What else has the name, such
/// as an agent's collector, stays.
///
/// # Errors
/// [`EditError::Nothing`].
pub(crate) fn without_notifier(set: &DesiredSet, slot: &SlotName) -> Result<DesiredSet, EditError> {
    let is_meant = |wish: &Wish| wish.kind == Kind::Notifier && wish.slot == slot.as_str();
    let mut next = set.clone();
    next.groups.iter_mut().for_each(|group| group.slots.retain(|wish| !is_meant(wish)));
    next.groups.retain(|group| !group.slots.is_empty());
    if next.groups == set.groups {
        let which = Which { slot: Some(slot.to_string()), ..Which::default() };
        let notifiers = set.groups.iter().flat_map(|group| &group.slots);
        let notifiers = notifiers.filter(|wish| wish.kind == Kind::Notifier);
        let there =
            notifiers.map(|wish| format!("{}: {}@{}", wish.slot, wish.plugin, wish.version));
        return Err(EditError::Nothing { which: Box::new(which), there: there.collect() });
    }
    Ok(next)
}

/// The content of an older set, to be decided anew under the next number.
///
/// # Errors
/// [`EditError::Same`] where the two say the same.
pub(crate) fn rollback(set: &DesiredSet, older: &DesiredSet) -> Result<DesiredSet, EditError> {
    if older.groups == set.groups {
        return Err(EditError::Same { number: set.number });
    }
    Ok(DesiredSet { groups: older.groups.clone(), ..set.clone() })
}

/// Who decides, when and why.
#[derive(Debug, Clone)]
pub(crate) struct Stamp {
    pub(crate) by: String,
    /// Unix milliseconds.
    pub(crate) at: i64,
    pub(crate) note: String,
}

/// The set after `before`, with the content of `edited`.
///
/// # Errors
/// [`EditError::Problems`]: it could not be signed.
pub(crate) fn next(
    before: &DesiredSet,
    edited: DesiredSet,
    stamp: &Stamp,
) -> Result<DesiredSet, EditError> {
    let next = DesiredSet {
        number: before.number + 1,
        made_at: stamp.at,
        by: stamp.by.clone(),
        note: stamp.note.clone(),
        ..edited
    };
    let problems = next.problems();
    if problems.is_empty() { Ok(next) } else { Err(EditError::Problems(problems)) }
}

#[cfg(test)]
mod tests;
