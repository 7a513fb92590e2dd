//! From a verified component to a generation that is ready for calls: grants, imports, code,
//! instance, description, config. Nothing of it touches what runs in the slot.

use std::sync::Arc;

use sentinel_trust::{Capabilities, Need, effective, need_of_import, unused_grants};
use serde_json::Value;
use wasmtime::component::Linker;
use wasmtime::component::types::ComponentItem;

use crate::call::{Instance, Setup, work};
use crate::capabilities::files::FileGate;
use crate::capabilities::http::HttpGate;
use crate::capabilities::mac::MacGate;
use crate::capabilities::mail::MailGate;
use crate::engine::MAX_INSTANCES;
use crate::error::{Cause, Diagnostic, LoadCause, Severity};
use crate::generation::{Generation, Indices, Parts, Unmade};
use crate::host::{Gates, Host, SlotShared};
use crate::runtime::{Compiled, Runtime};
use crate::slot::SlotSpec;
use crate::{imports, wasi};

/// Most bytes of a config as JSON (1 MiB).
const MAX_CONFIG_BYTES: usize = 1 << 20;
/// Most problems of a config that are told.
const MAX_PROBLEMS: usize = 50;

/// Makes a generation with one instance that has its config. Guests run on the runtime's own
/// threads.
pub(crate) async fn load(
    runtime: &Arc<Runtime>,
    shared: &Arc<SlotShared>,
    spec: SlotSpec,
) -> Result<(Arc<Generation>, Instance), LoadCause> {
    let manifest = spec.component.manifest();
    runtime.admit(&spec.component)?;
    let problems = spec.grants.problems();
    if !problems.is_empty() {
        return Err(LoadCause::BadGrants(problems));
    }
    let capabilities = effective(&manifest.requests, &spec.grants)?;
    for unused in unused_grants(&manifest.requests, &spec.grants) {
        tracing::warn!(slot = %shared.name, plugin = %manifest.name, "grant without effect: {unused}");
    }
    let config = config_text(&spec)?;
    let compiled = runtime.compiled(&spec.component).await?;
    // As long as the code is held, nobody needs the bytes that it was made of.
    let component = Arc::new(spec.component.without_bytes());
    let spec = SlotSpec { component: Arc::clone(&component), ..spec };
    let manifest = component.manifest();
    let uses_wasi = check_imports(runtime, &compiled, &capabilities)?;
    let linker = link(runtime, &capabilities, uses_wasi)?;
    let pre = linker
        .instantiate_pre(compiled.component())
        .map_err(|error| LoadCause::Imports(vec![format!("{error:#}")]))?;
    let indices = Indices::find(manifest.kind, &pre)
        .map_err(|error| LoadCause::Exports(format!("{error:#}")))?;
    let generation = Arc::new(Generation::new(Parts {
        limits: manifest.limits.overridden(&spec.grants.limits),
        gates: gates(runtime, shared, &capabilities),
        shared: Arc::clone(shared),
        config,
        pre,
        indices,
        uses_wasi,
        compiled,
        spec,
    }));
    let instance = first_instance(runtime, &generation).await?;
    Ok((generation, instance))
}

/// The config as the plugin gets it, after the manifest's schema found nothing to say.
fn config_text(spec: &SlotSpec) -> Result<String, LoadCause> {
    let schema = Value::Object(spec.component.manifest().config_schema.clone());
    let diagnostic = |path: &str, message: String| Diagnostic {
        path: path.to_owned(),
        message,
        severity: Severity::Error,
    };
    let validator = jsonschema::draft202012::new(&schema).map_err(|error| {
        LoadCause::Description(format!("its config schema is not a schema: {error}"))
    })?;
    let problems: Vec<_> = validator
        .iter_errors(&spec.config)
        .take(MAX_PROBLEMS)
        .map(|error| diagnostic(error.instance_path().as_str(), error.to_string()))
        .collect();
    if !problems.is_empty() {
        return Err(LoadCause::Config(problems));
    }
    let text = spec.config.to_string();
    if text.len() > MAX_CONFIG_BYTES {
        let message = format!("it has {} bytes; at most {MAX_CONFIG_BYTES}", text.len());
        return Err(LoadCause::Config(vec![diagnostic("", message)]));
    }
    Ok(text)
}

/// Checks every import before anything is linked. Whether there are WASI imports among them.
fn check_imports(
    runtime: &Runtime,
    compiled: &Compiled,
    capabilities: &Capabilities,
) -> Result<bool, LoadCause> {
    let (mut refused, mut uses_wasi) = (Vec::new(), false);
    for (name, item) in compiled.component().component_type().imports(&runtime.engine) {
        // A type gives nothing to do.
        if matches!(item.ty, ComponentItem::Type(_)) {
            continue;
        }
        uses_wasi |= name.starts_with("wasi:");
        match need_of_import(name) {
            Need::Nothing => {}
            Need::Capability(capability) if !capabilities.has(capability) => refused.push(format!(
                "`{name}` needs the capability `{capability}`, which its manifest does not request"
            )),
            Need::Capability(_) => {}
            Need::OtherContract => refused.push(format!(
                "`{name}` is of another version of the contract; this host has {}",
                sentinel_trust::CONTRACT
            )),
            Need::Unknown => refused.push(format!("`{name}` is not known to this host")),
        }
    }
    if refused.is_empty() { Ok(uses_wasi) } else { Err(LoadCause::Imports(refused)) }
}

fn link(
    runtime: &Runtime,
    capabilities: &Capabilities,
    uses_wasi: bool,
) -> Result<Linker<Host>, LoadCause> {
    let mut linker = Linker::new(&runtime.engine);
    imports::add_to_linker(&mut linker, capabilities)
        .and_then(
            |()| if uses_wasi { wasi::add_to_linker(&mut linker, capabilities) } else { Ok(()) },
        )
        .map_err(|error| LoadCause::Instantiate(format!("{error:#}")))?;
    Ok(linker)
}

fn gates(runtime: &Runtime, shared: &SlotShared, capabilities: &Capabilities) -> Gates {
    let (secrets, outside) = (&shared.services.secrets, &shared.services.outside);
    Gates {
        http: capabilities.http().map(|http| {
            let gate = HttpGate::new(http, Arc::clone(secrets), Arc::clone(&runtime.http));
            Arc::new(gate.facing(outside.clone()))
        }),
        mail: capabilities.mail().map(|grant| {
            let (slot, resolver) = (shared.name.as_str(), runtime.http.resolver());
            let gate = MailGate::new(grant, slot, Arc::clone(secrets), resolver);
            Arc::new(gate.facing(outside.clone()))
        }),
        files: capabilities
            .files()
            .map(|files| Arc::new(FileGate::new(files, &shared.services.forbidden_paths))),
        system: capabilities.system().then(|| Arc::clone(&runtime.system)),
        mac: capabilities.mac().map(|keys| MacGate::new(keys, Arc::clone(secrets))),
        kv_bytes: capabilities.kv_bytes(),
    }
}

/// The first instance: says what it is, which must be what its manifest says, and takes its
/// config.
async fn first_instance(
    runtime: &Arc<Runtime>,
    generation: &Arc<Generation>,
) -> Result<Instance, LoadCause> {
    let tick = runtime.ticker.guard();
    let generation = Arc::clone(generation);
    let work = async move {
        let _tick = tick;
        let mut instance = generation.raw().await.map_err(|unmade| match unmade {
            Unmade::Full => {
                LoadCause::Call { export: "describe", cause: Cause::Full { places: MAX_INSTANCES } }
            }
            Unmade::Instantiate(why) => LoadCause::Instantiate(why),
            Unmade::Exports(why) => LoadCause::Exports(why),
        })?;
        describe(&mut instance, &generation.spec).await?;
        match generation.configure(&mut instance).await {
            Ok(()) => Ok(instance),
            Err(Cause::Misconfigured(said)) => Err(LoadCause::Config(said)),
            Err(cause) => Err(LoadCause::Call { export: "configure", cause }),
        }
    };
    match runtime.threads.spawn(work).await {
        Ok(result) => result,
        Err(error) => Err(LoadCause::Instantiate(format!("the host failed: {error}"))),
    }
}

async fn describe(instance: &mut Instance, spec: &SlotSpec) -> Result<(), LoadCause> {
    let run = work(|instance| {
        Box::pin(async move {
            let plugin = &instance.exports.plugin;
            Ok(Ok(plugin.call_describe(&mut instance.store).await?))
        })
    });
    let said = instance
        .run(Setup::of("describe"), run)
        .await
        .result
        .map_err(|cause| LoadCause::Call { export: "describe", cause })?;
    let signed = &spec.component.manifest().config_schema;
    match serde_json::from_str::<Value>(&said.config_schema) {
        Ok(Value::Object(schema)) if schema == *signed => Ok(()),
        Ok(_) => Err(LoadCause::Description(
            "describe: its config schema differs from the one in its signed manifest; \
             pack it again with `sentinel plugin pack`"
                .into(),
        )),
        Err(error) => Err(LoadCause::Description(format!(
            "describe: its config schema is not JSON: {error}; pack it again"
        ))),
    }
}
