//! The functions of each kind.

use std::sync::Arc;

use sentinel_model::alert::Notification;
use sentinel_model::batch::Batch;
use sentinel_model::columns::Columns;
use sentinel_trust::Kind;

use super::{Collected, Inner, Slot, convert};
use crate::bindings::exports::sentinel::plugin::evaluate as contract;
use crate::bindings::exports::sentinel::plugin::notify::DeliveryError;
use crate::bindings::sentinel::plugin::types;
use crate::call::{Instance, Setup, work};
use crate::error::{CallError, Cause, LoadCause};
use crate::evaluator::{CheckError, Condition, Failure, MAX_CONDITION_BYTES, Outcome, Plan};
use crate::generation::{Generation, OwnExports};
use crate::host::columns::{Lent, ReshapeParams, ReshapeResult, Returned};
use crate::notifier::{NotifyError, Receipt};

/// Most parts of one collection.
const MAX_PARTS: usize = 64;

/// The conditions that an evaluator is to have loaded.
#[derive(Clone, Default)]
pub(super) struct Conditions {
    /// Counts loads; 0 while nothing was loaded.
    version: u64,
    list: Arc<Vec<contract::Condition>>,
}

/// What stands for an export that the kind does not have; a slot's kind is looked at before.
fn other_kind<R>() -> wasmtime::Result<Result<R, Cause>> {
    Ok(Err(Cause::NotCallable("the plugin does not export the function".into())))
}

fn batch(returned: Returned) -> Result<Batch, Cause> {
    Batch::new(Columns::from(returned))
        .map_err(|error| Cause::Malformed(format!("a batch: {error}")))
}

impl Slot {
    fn expect(&self, kind: Kind, export: &'static str) -> Result<(), CallError> {
        if self.0.kind == kind {
            return Ok(());
        }
        let cause = Cause::NotCallable(format!("it is a {}, not a {kind}", self.0.kind));
        Err(self.0.error(export, cause))
    }

    /// Collects once, all parts under one time limit. Calls wait for each other.
    ///
    /// # Errors
    /// [`CallError`]; nothing of the collection is then to be kept.
    pub async fn collect(&self) -> Result<Collected, CallError> {
        self.expect(Kind::Collector, "collect")?;
        let run = work(|instance| {
            Box::pin(async move {
                let OwnExports::Collect(function) = &instance.exports.own else {
                    return other_kind();
                };
                if let Some(files) = &instance.store.data().gates.files {
                    files.start_call();
                }
                let mut batches = Vec::new();
                loop {
                    let (answer,) = function.call_async(&mut instance.store, ()).await?;
                    let part = match answer {
                        Ok(part) => part,
                        Err(failure) => return Ok(Err(failure.into())),
                    };
                    match batch(part.batch) {
                        Ok(batch) => batches.push(batch),
                        Err(cause) => return Ok(Err(cause)),
                    }
                    if !part.more {
                        return Ok(Ok(batches));
                    }
                    if batches.len() == MAX_PARTS {
                        let why = format!("a collection of more than {MAX_PARTS} parts");
                        return Ok(Err(Cause::Malformed(why)));
                    }
                }
            })
        });
        let (batches, kv) = self.0.call(Setup::of("collect"), run).await?;
        Ok(Collected { batches, kv })
    }

    /// Transforms a batch. Calls run side by side, as many as there are threads.
    ///
    /// # Errors
    /// [`CallError`]; [`Cause::Rejected`] says that this batch can never be transformed.
    pub async fn reshape(&self, input: Arc<Batch>) -> Result<Batch, CallError> {
        self.expect(Kind::Transform, "reshape")?;
        let run = work(move |instance| {
            Box::pin(async move {
                let OwnExports::Reshape(function) = &instance.exports.own else {
                    return other_kind();
                };
                let function =
                    function.typed::<ReshapeParams<'_>, ReshapeResult>(&instance.store)?;
                let lent = Lent::from(&*input);
                let (answer,) = function.call_async(&mut instance.store, (lent,)).await?;
                Ok(answer.map_err(Cause::from).and_then(batch))
            })
        });
        Ok(self.0.call(Setup::of("reshape"), run).await?.0)
    }

    /// Checks a condition's text without loading it.
    ///
    /// # Errors
    /// [`CheckError::Refused`] with what is wrong with the text, [`CheckError::Call`] if the
    /// evaluator failed.
    pub async fn check(&self, text: &str) -> Result<Plan, CheckError> {
        self.expect(Kind::Evaluator, "check")?;
        if text.len() > MAX_CONDITION_BYTES {
            let why = format!("it has {} bytes; at most {MAX_CONDITION_BYTES}", text.len());
            return Err(CheckError::Refused(vec![convert::whole(why)]));
        }
        let text = text.to_owned();
        let run = work(move |instance| {
            Box::pin(async move {
                let OwnExports::Evaluate(evaluator) = &instance.exports.own else {
                    return other_kind();
                };
                let answer = evaluator.call_check(&mut instance.store, &text).await?;
                Ok(answer.map_err(convert::refused))
            })
        });
        let called = self.0.call(Setup::of("check"), run).await;
        let (plan, _) = called.map_err(check_error)?;
        convert::plan(plan, &mut self.0.shared.selectors.lock()).map_err(CheckError::Refused)
    }

    /// Replaces all conditions; every text must have passed [`Slot::check`]. They outlive
    /// restarts and swaps of the plugin.
    ///
    /// # Errors
    /// As [`Slot::check`]; the conditions before stay.
    pub async fn load_conditions(&self, conditions: Vec<Condition>) -> Result<(), CheckError> {
        self.expect(Kind::Evaluator, "load")?;
        let list: Arc<Vec<_>> =
            Arc::new(conditions.into_iter().map(contract::Condition::from).collect());
        let slot = Arc::clone(&self.0);
        let run = work(move |instance| {
            Box::pin(async move {
                let version = slot.conditions.lock().version + 1;
                let conditions = Conditions { version, list };
                if let Err(cause) = load(instance, &conditions).await? {
                    return Ok(Err(cause));
                }
                // Under the slot's only permit: no evaluation sees the one without the other.
                *slot.conditions.lock() = conditions;
                Ok(Ok(()))
            })
        });
        self.0.call(Setup::of("load"), run).await.map(|_| ()).map_err(check_error)
    }

    /// Evaluates loaded conditions by their index, as of `at` (unix milliseconds). One result
    /// for each index, in order.
    ///
    /// # Errors
    /// [`CallError`] if the evaluator as a whole failed.
    pub async fn evaluate(
        &self,
        indexes: Vec<u32>,
        at: i64,
    ) -> Result<Vec<Result<Outcome, Failure>>, CallError> {
        self.expect(Kind::Evaluator, "evaluate")?;
        let slot = Arc::clone(&self.0);
        let run = work(move |instance| {
            Box::pin(async move {
                let conditions = slot.conditions.lock().clone();
                if instance.conditions != conditions.version
                    && let Err(cause) = load(instance, &conditions).await?
                {
                    return Ok(Err(cause));
                }
                let OwnExports::Evaluate(evaluator) = &instance.exports.own else {
                    return other_kind();
                };
                let answers = evaluator.call_evaluate(&mut instance.store, &indexes, at).await?;
                if answers.len() != indexes.len() {
                    let (got, asked) = (answers.len(), indexes.len());
                    let why = format!("{got} outcomes for {asked} conditions");
                    return Ok(Err(Cause::Malformed(why)));
                }
                Ok(Ok(answers))
            })
        });
        let setup = Setup { at, ..Setup::of("evaluate") };
        let (answers, _) = self.0.call(setup, run).await?;
        Ok(answers.into_iter().map(convert::outcome).collect())
    }

    /// Delivers a notification. `attempt` counts from 1; `may_be_repeat` says that an earlier
    /// attempt may have reached the receiver; `link` is where a person can look.
    ///
    /// # Errors
    /// [`NotifyError`], whose variant decides what happens next.
    pub async fn notify(
        &self,
        notification: &Notification,
        attempt: u32,
        may_be_repeat: bool,
        link: &str,
    ) -> Result<Receipt, NotifyError> {
        self.expect(Kind::Notifier, "notify")?;
        let told = convert::notification(notification, attempt, may_be_repeat, link);
        let run = work(move |instance| {
            Box::pin(async move {
                let OwnExports::Notify(notifier) = &instance.exports.own else {
                    return other_kind();
                };
                Ok(Ok(notifier.call_notify(&mut instance.store, &told).await?))
            })
        });
        let (answer, kv) = self.0.call(Setup::of("notify"), run).await?;
        match answer {
            Ok(receipt) => Ok(Receipt {
                message: convert::cut(receipt.message),
                reference: receipt.reference.map(convert::cut),
                kv,
            }),
            Err(DeliveryError::Retry(retry)) => Err(NotifyError::Retry {
                message: convert::cut(retry.message),
                after_ms: retry.after_ms,
            }),
            Err(DeliveryError::Unknown(why)) => Err(NotifyError::Unknown(convert::cut(why))),
            Err(DeliveryError::Permanent(why)) => Err(NotifyError::Permanent(convert::cut(why))),
        }
    }
}

fn check_error(error: CallError) -> CheckError {
    match error.cause {
        Cause::Misconfigured(said) => CheckError::Refused(said),
        _ => CheckError::Call(error),
    }
}

/// Loads conditions into an instance.
async fn load(
    instance: &mut Instance,
    conditions: &Conditions,
) -> wasmtime::Result<Result<(), Cause>> {
    let OwnExports::Evaluate(evaluator) = &instance.exports.own else {
        return other_kind();
    };
    // What an instance has loaded after a refusal is not known.
    instance.conditions = 0;
    let answer = evaluator.call_load(&mut instance.store, &conditions.list).await?;
    if answer.is_ok() {
        instance.conditions = conditions.version;
    }
    Ok(answer.map_err(convert::refused))
}

impl Inner {
    /// An evaluator takes the slot's conditions before it takes the place of another.
    pub(super) async fn with_conditions(
        self: &Arc<Self>,
        generation: &Arc<Generation>,
        mut instance: Instance,
    ) -> Result<Instance, LoadCause> {
        let conditions = self.conditions.lock().clone();
        if conditions.version == 0 {
            return Ok(instance);
        }
        let tick = self.runtime.ticker.guard();
        let generation = Arc::clone(generation);
        let task = self.runtime.threads.spawn(async move {
            let (_tick, _generation) = (tick, generation);
            let run =
                work(move |instance| Box::pin(async move { load(instance, &conditions).await }));
            let loaded = instance.run(Setup::of("load"), run).await.result;
            loaded.map(|()| instance)
        });
        match task.await {
            Ok(Ok(instance)) => Ok(instance),
            Ok(Err(cause)) => Err(LoadCause::Call { export: "load", cause }),
            Err(error) => Err(LoadCause::Instantiate(format!("the host failed: {error}"))),
        }
    }
}

impl From<types::Failure> for Cause {
    fn from(failure: types::Failure) -> Self {
        match failure {
            types::Failure::Unavailable(why) => Self::Unavailable(convert::cut(why)),
            types::Failure::Misconfigured(said) => convert::refused(said),
            types::Failure::Rejected(why) => Self::Rejected(convert::cut(why)),
        }
    }
}
