//! A component of a whole world of the contract.

use std::path::Path;

use wasm_encoder::{
    CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection,
    MemorySection, MemoryType, Module, TypeSection, ValType,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::abi::{AbiVariant, WasmSignature, WasmType};
use wit_parser::{IndexMap, Resolve, WorldId, WorldItem, WorldKey};

/// A world and the contract that it stands in.
#[derive(Debug)]
pub struct World {
    resolve: Resolve,
    id: WorldId,
}

/// The world of a kind: `collector`, `transform`, `evaluator` or `notifier`.
///
/// # Panics
/// If the contract cannot be read or has no such world.
#[must_use]
pub fn world(kind: &str) -> World {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/sentinel-plugin-0.1.0");
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(&folder).expect("the contract parses");
    let id = resolve.select_world(&[package], Some(kind)).expect("each kind is a world");
    World { resolve, id }
}

/// A component that imports and exports everything that the kind's world has, and whose every
/// function traps.
#[must_use]
pub fn whole_world(kind: &str) -> Vec<u8> {
    world(kind).component(|_| true)
}

/// An interface's function and its core signature.
type Lowered = (String, String, WasmSignature);

impl World {
    /// The names of the interfaces that it imports, as a component has them.
    #[must_use]
    pub fn imports(&self) -> Vec<String> {
        let interface = |(key, item): (&WorldKey, &WorldItem)| match item {
            WorldItem::Interface { .. } => Some(self.resolve.name_world_key(key)),
            _ => None,
        };
        self.resolve.worlds[self.id].imports.iter().filter_map(interface).collect()
    }

    /// A component that imports what is `wanted` and exports everything; every function traps.
    ///
    /// # Panics
    /// If the encoder refuses it.
    #[must_use]
    pub fn component(&self, wanted: impl Fn(&str) -> bool) -> Vec<u8> {
        let world = &self.resolve.worlds[self.id];
        let mut imports = self.functions(&world.imports, AbiVariant::GuestImport);
        imports.retain(|(interface, ..)| wanted(interface));
        let mut module =
            module(&imports, self.functions(&world.exports, AbiVariant::GuestExport)).finish();
        embed_component_metadata(&mut module, &self.resolve, self.id, StringEncoding::UTF8)
            .expect("the world can be embedded");
        let encoder = ComponentEncoder::default().validate(true).module(&module);
        encoder.and_then(|mut encoder| encoder.encode()).expect("the module fits its world")
    }

    fn functions(&self, items: &IndexMap<WorldKey, WorldItem>, abi: AbiVariant) -> Vec<Lowered> {
        let mut all = Vec::new();
        for (key, item) in items {
            if let WorldItem::Interface { id, .. } = item {
                for function in self.resolve.interfaces[*id].functions.values() {
                    let signature = self.resolve.wasm_signature(abi, function);
                    let interface = self.resolve.name_world_key(key);
                    all.push((interface, function.name.clone(), signature));
                }
            }
        }
        all
    }
}

fn core(types: &[WasmType]) -> Vec<ValType> {
    let one = |ty: &WasmType| match ty {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => ValType::I32,
        WasmType::I64 | WasmType::PointerOrI64 => ValType::I64,
        WasmType::F32 => ValType::F32,
        WasmType::F64 => ValType::F64,
    };
    types.iter().map(one).collect()
}

fn module(imported: &[Lowered], exported: Vec<Lowered>) -> Module {
    let mut types = TypeSection::new();
    let mut imports = ImportSection::new();
    for (at, (interface, name, signature)) in (0..).zip(imported) {
        types.ty().function(core(&signature.params), core(&signature.results));
        imports.import(interface, name, EntityType::Function(at));
    }
    let mut made: Vec<_> = exported
        .into_iter()
        .map(|(interface, name, signature)| {
            (format!("{interface}#{name}"), core(&signature.params), core(&signature.results))
        })
        .collect();
    made.push(("cabi_realloc".into(), vec![ValType::I32; 4], vec![ValType::I32]));
    let (mut declared, mut exports, mut code) =
        (FunctionSection::new(), ExportSection::new(), CodeSection::new());
    for (at, (name, params, results)) in (u32::try_from(imported.len()).expect("few")..).zip(made) {
        types.ty().function(params, results);
        declared.function(at);
        exports.export(&name, ExportKind::Func, at);
        let mut body = Function::new([]);
        body.instructions().unreachable().end();
        code.function(&body);
    }
    let mut memory = MemorySection::new();
    memory.memory(MemoryType {
        minimum: 1,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    exports.export("memory", ExportKind::Memory, 0);
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&declared);
    module.section(&memory).section(&exports).section(&code);
    module
}
