//! Types and linkage of the contract 0.1.0, generated from the WIT. The hot functions
//! (`collect`, `reshape`) are not called through these but through [`crate::host::columns`].

wasmtime::component::bindgen!({
    path: "../../wit/sentinel-plugin-0.1.0",
    inline: "
        package sentinel:host;
        world host {
            import sentinel:plugin/log@0.1.0;
            import sentinel:plugin/clock@0.1.0;
            import sentinel:plugin/system@0.1.0;
            import sentinel:plugin/http@0.1.0;
            import sentinel:plugin/mail@0.1.0;
            import sentinel:plugin/files@0.1.0;
            import sentinel:plugin/mac@0.1.0;
            import sentinel:plugin/kv@0.1.0;
            import sentinel:plugin/series@0.1.0;
            export sentinel:plugin/plugin@0.1.0;
            export sentinel:plugin/evaluate@0.1.0;
            export sentinel:plugin/notify@0.1.0;
            export sentinel:plugin/state@0.1.0;
        }
    ",
    world: "sentinel:host/host",
    imports: { default: async | trappable },
    exports: { default: async },
});
