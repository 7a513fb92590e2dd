//! A component of empty instances.

use wasm_encoder::{
    Component, ComponentExportKind, ComponentExportSection, ComponentInstanceSection,
};

/// A component that exports `plugin` and an interface of its kind (`collect`, `reshape`, ...)
/// as instances without functions. The caller adds what else it wants and finishes it.
#[must_use]
pub fn hollow(interface: &str) -> Component {
    let mut instances = ComponentInstanceSection::new();
    let nothing: [(&str, ComponentExportKind, u32); 0] = [];
    instances.export_items(nothing);
    let mut exports = ComponentExportSection::new();
    for name in ["plugin", interface] {
        let name = format!("sentinel:plugin/{name}@0.1.0");
        exports.export(&name, ComponentExportKind::Instance, 0, None);
    }
    let mut component = Component::new();
    component.section(&instances).section(&exports);
    component
}
