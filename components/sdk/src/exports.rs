//! Between the contract's exports and the traits: one adapter a kind, and the export macros.

use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;

use crate::bindings::{collect, evaluate, notify, plugin, reshape, state};
use crate::kinds::{Collector, Evaluator, Metric, Notifier, State, Transform};
use crate::{Batch, Collected, Diagnostic, Failure, config};

use collect::exports::sentinel::plugin::collect as collect_export;
use evaluate::exports::sentinel::plugin::evaluate as evaluate_export;
use notify::exports::sentinel::plugin::notify as notify_export;
use plugin::exports::sentinel::plugin::plugin as plugin_export;
use reshape::exports::sentinel::plugin::reshape as reshape_export;
use state::exports::sentinel::plugin::state as state_export;

thread_local! {
    /// The configured plugin of this instance. A component is single-threaded and is never
    /// entered while it runs.
    static PLUGIN: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
    /// Parts of a collection that the host has not fetched yet.
    static LEFT: RefCell<Collected> = const { RefCell::new(Collected::none()) };
}

fn put<T: 'static>(made: Result<T, Vec<Diagnostic>>) -> Result<(), Vec<Diagnostic>> {
    let made = made?;
    PLUGIN.with_borrow_mut(|slot| *slot = Some(Box::new(made)));
    Ok(())
}

fn with<T: 'static, R>(work: impl FnOnce(&mut T) -> R) -> R {
    PLUGIN.with_borrow_mut(|slot| {
        let plugin = slot
            .as_mut()
            .and_then(|plugin| plugin.downcast_mut())
            .expect("the host calls `configure` before anything else");
        work(plugin)
    })
}

fn description<C: schemars::JsonSchema>(metrics: Vec<Metric>) -> plugin_export::Description {
    plugin_export::Description {
        config_schema: config::schema::<C>(),
        metrics: metrics
            .into_iter()
            .map(|metric| plugin_export::Metric {
                name: metric.name,
                kind: metric.kind as u8,
                unit: metric.unit,
                help: metric.help,
            })
            .collect(),
    }
}

macro_rules! adapter {
    ($(#[$doc:meta])* $name:ident, $kind:ident, $metrics:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<T>(PhantomData<T>);

        impl<T: $kind> plugin_export::Guest for $name<T> {
            fn describe() -> plugin_export::Description {
                description::<T::Config>($metrics)
            }

            fn configure(text: String) -> Result<(), Vec<Diagnostic>> {
                crate::panics::report_to_log();
                put(config::parse(&text).and_then(T::configure))
            }
        }
    };
}

adapter!(
    /// A [`Collector`] behind the exports `plugin` and `collect`.
    CollectorExport,
    Collector,
    T::metrics()
);
adapter!(
    /// A [`Transform`] behind the exports `plugin` and `reshape`.
    TransformExport,
    Transform,
    T::metrics()
);
adapter!(
    /// An [`Evaluator`] behind the exports `plugin` and `evaluate`.
    EvaluatorExport,
    Evaluator,
    Vec::new()
);
adapter!(
    /// A [`Notifier`] behind the exports `plugin` and `notify`.
    NotifierExport,
    Notifier,
    Vec::new()
);

impl<T: Collector> collect_export::Guest for CollectorExport<T> {
    fn collect() -> Result<collect_export::Collected, Failure> {
        let mut collected = LEFT.take();
        if collected.is_drained() {
            collected = with(T::collect)?;
        }
        let (batch, more) = collected.next_part();
        LEFT.set(collected);
        Ok(collect_export::Collected { batch, more })
    }
}

impl<T: Transform> reshape_export::Guest for TransformExport<T> {
    fn reshape(input: Batch) -> Result<Batch, Failure> {
        with(|plugin: &mut T| plugin.reshape(input))
    }
}

impl<T: Evaluator> evaluate_export::Guest for EvaluatorExport<T> {
    fn check(text: String) -> Result<evaluate_export::Plan, Vec<Diagnostic>> {
        with(|plugin: &mut T| plugin.check(&text))
    }

    fn load(conditions: Vec<evaluate_export::Condition>) -> Result<(), Vec<Diagnostic>> {
        with(|plugin: &mut T| plugin.load(conditions))
    }

    fn evaluate(indexes: Vec<u32>, at: i64) -> Vec<Result<evaluate_export::Outcome, Failure>> {
        with(|plugin: &mut T| plugin.evaluate(&indexes, at))
    }
}

impl<T: Notifier> notify_export::Guest for NotifierExport<T> {
    fn notify(
        notification: notify_export::Notification,
    ) -> Result<notify_export::Receipt, notify_export::DeliveryError> {
        with(|plugin: &mut T| plugin.notify(notification))
    }
}

macro_rules! stateful {
    ($name:ident, $kind:ident) => {
        impl<T: $kind + State> state_export::Guest for $name<T> {
            fn snapshot() -> Vec<u8> {
                with(|plugin: &mut T| plugin.snapshot())
            }

            fn restore(version: String, state: Vec<u8>) -> Result<(), String> {
                with(|plugin: &mut T| plugin.restore(&version, &state))
            }
        }
    };
}

stateful!(CollectorExport, Collector);
stateful!(EvaluatorExport, Evaluator);

/// Makes the exports of a kind; natively it only checks that the type implements the trait,
/// so that several plugins can be linked into one test program.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_kind {
    ($plugin:ty, $kind:ident, $adapter:ident, $interface:ident) => {
        const _: () = {
            const fn is_of_the_kind<T: $crate::$kind>() {}
            is_of_the_kind::<$plugin>();
        };
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Export = $crate::exports::$adapter<$plugin>;
    $crate::bindings::plugin::export!(Export with_types_in $crate::bindings::plugin);
            $crate::bindings::$interface::export!(
                Export with_types_in $crate::bindings::$interface
            );
        };
    };
}

/// Makes the export of a plugin that keeps state.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_state {
    ($plugin:ty, $adapter:ident) => {
        const _: () = {
            const fn keeps_state<T: $crate::State>() {}
            keeps_state::<$plugin>();
        };
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Export = $crate::exports::$adapter<$plugin>;
    $crate::bindings::state::export!(Export with_types_in $crate::bindings::state);
        };
    };
}

/// Makes a component of world `collector` out of a [`Collector`]; with `, state` one that keeps
/// its [`State`] over a swap.
#[macro_export]
macro_rules! export_collector {
    ($plugin:ty) => {
        $crate::__export_kind!($plugin, Collector, CollectorExport, collect);
    };
    ($plugin:ty, state) => {
        $crate::export_collector!($plugin);
        $crate::__export_state!($plugin, CollectorExport);
    };
}

/// Makes a component of world `transform` out of a [`Transform`].
#[macro_export]
macro_rules! export_transform {
    ($plugin:ty) => {
        $crate::__export_kind!($plugin, Transform, TransformExport, reshape);
    };
}

/// Makes a component of world `evaluator` out of an [`Evaluator`]; with `, state` one that keeps
/// its [`State`] over a swap.
#[macro_export]
macro_rules! export_evaluator {
    ($plugin:ty) => {
        $crate::__export_kind!($plugin, Evaluator, EvaluatorExport, evaluate);
    };
    ($plugin:ty, state) => {
        $crate::export_evaluator!($plugin);
        $crate::__export_state!($plugin, EvaluatorExport);
    };
}

/// Makes a component of world `notifier` out of a [`Notifier`].
#[macro_export]
macro_rules! export_notifier {
    ($plugin:ty) => {
        $crate::__export_kind!($plugin, Notifier, NotifierExport, notify);
    };
}
