//! What `wit-bindgen` makes of the contract: the host's interfaces once, and each exported
//! interface apart. An export macro joins two of them (`plugin` and the kind's own), and
//! `wit-component` joins their types, so that a component exports its own world and imports
//! no more than it calls.
//!
//! Authors use the modules of the crate root; only the export macros reach in here.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    rust_2018_idioms,
    reason = "the code is generated; the WIT documents it"
)]

/// The host's interfaces, whatever the world. A component imports those that it calls.
pub mod host {
    wit_bindgen::generate!({
        inline: "
            package sentinel:sdk;
            world host {
                import sentinel:plugin/types@0.1.0;
                import sentinel:plugin/log@0.1.0;
                import sentinel:plugin/clock@0.1.0;
                import sentinel:plugin/system@0.1.0;
                import sentinel:plugin/http@0.1.0;
                import sentinel:plugin/mail@0.1.0;
                import sentinel:plugin/files@0.1.0;
                import sentinel:plugin/mac@0.1.0;
                import sentinel:plugin/kv@0.1.0;
                import sentinel:plugin/series@0.1.0;
            }
        ",
        path: "../../wit/sentinel-plugin-0.1.0",
        generate_all,
        generate_unused_types: true,
        pub_export_macro: true,
        additional_derives: [PartialEq],
        merge_structurally_equal_types: false,
    });
}

macro_rules! export {
    ($module:ident, $wit:literal, $path:literal $(, $interface:literal = $name:ident)*) => {
        pub mod $module {
            wit_bindgen::generate!({
                inline: $wit,
                path: "../../wit/sentinel-plugin-0.1.0",
                pub_export_macro: true,
                default_bindings_module: $path,
                additional_derives: [PartialEq],
                with: {
                    "sentinel:plugin/types@0.1.0": crate::bindings::host::sentinel::plugin::types,
                    $($interface: crate::bindings::host::sentinel::plugin::$name,)*
                },
            });
        }
    };
}

export!(
    plugin,
    "package sentinel:sdk; world plugin { export sentinel:plugin/plugin@0.1.0; }",
    "::sentinel_sdk::bindings::plugin"
);
export!(
    collect,
    "package sentinel:sdk; world collect { export sentinel:plugin/collect@0.1.0; }",
    "::sentinel_sdk::bindings::collect"
);
export!(
    reshape,
    "package sentinel:sdk; world reshape { export sentinel:plugin/reshape@0.1.0; }",
    "::sentinel_sdk::bindings::reshape"
);
export!(
    evaluate,
    "package sentinel:sdk; world evaluate { export sentinel:plugin/evaluate@0.1.0; }",
    "::sentinel_sdk::bindings::evaluate",
    "sentinel:plugin/series@0.1.0" = series
);
export!(
    notify,
    "package sentinel:sdk; world notify { export sentinel:plugin/notify@0.1.0; }",
    "::sentinel_sdk::bindings::notify"
);
/// Uses no types of the contract, hence apart.
pub mod state {
    wit_bindgen::generate!({
        inline: "package sentinel:sdk; world state { export sentinel:plugin/state@0.1.0; }",
        path: "../../wit/sentinel-plugin-0.1.0",
        pub_export_macro: true,
        default_bindings_module: "::sentinel_sdk::bindings::state",
    });
}
