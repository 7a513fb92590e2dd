//! A core module of the world `transform`, as a compiler would write it, with nothing in it
//! but what `describe` says.

use wasm_encoder::{
    CodeSection, ConstExpr, DataSection, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, ImportSection, MemorySection, MemoryType, Module, TypeSection, ValType,
};

/// Where `describe` leaves its result: four words.
const RESULT: u32 = 1024;
/// Where the only metric lies: seven words.
const METRIC: u32 = 1040;
/// Where texts begin.
const TEXTS: u32 = 2048;

/// WASI as a compiler of another language would ask for it: of a version of its own.
const CLOCK: &str = "package wasi:clocks@0.2.9; interface monotonic-clock { now: func() -> u64; }";
const KEYVALUE: &str = "package wasi:keyvalue@0.2.0; interface store { now: func() -> u64; }";

/// A module whose config schema is this text.
pub(crate) fn transform(schema: &str) -> Vec<u8> {
    with_world(module(schema, None), None)
}

/// The same for WASI: its `describe` asks for the time first, as runtimes do.
pub(crate) fn transform_of_wasi(schema: &str) -> Vec<u8> {
    let clock = "wasi:clocks/monotonic-clock@0.2.9";
    with_world(module(schema, Some(clock)), Some((CLOCK, clock)))
}

/// The same with a part of WASI that hosts do not have.
pub(crate) fn transform_of_wasi_keyvalue(schema: &str) -> Vec<u8> {
    let store = "wasi:keyvalue/store@0.2.0";
    with_world(module(schema, Some(store)), Some((KEYVALUE, store)))
}

/// `describe` calls `now` of what is imported first.
fn module(schema: &str, import: Option<&str>) -> Vec<u8> {
    let mut texts = String::new();
    let mut text = |value: &str| {
        let place =
            [TEXTS + u32::try_from(texts.len()).unwrap(), u32::try_from(value.len()).unwrap()];
        texts.push_str(value);
        place
    };
    let ([schema_at, schema_len], name, unit, help) =
        (text(schema), text("made_total"), text("1"), text("What it made."));
    let result = [schema_at, schema_len, METRIC, 1];
    let metric = [name[0], name[1], 1, unit[0], unit[1], help[0], help[1]];

    let mut module = Module::new();
    let mut types = TypeSection::new();
    let words = |count: usize| vec![ValType::I32; count];
    for arguments in [0, 2, 16, 4] {
        types.ty().function(words(arguments), words(1));
    }
    types.ty().function([], [ValType::I64]);
    module.section(&types);
    let mut imports = ImportSection::new();
    if let Some(interface) = import {
        imports.import(interface, "now", EntityType::Function(4));
    }
    module.section(&imports);
    let mut functions = FunctionSection::new();
    (0..4).for_each(|at| {
        functions.function(at);
    });
    module.section(&functions);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: 1,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    module.section(&memories);
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    for (at, name) in [
        "sentinel:plugin/plugin@0.1.0#describe",
        "sentinel:plugin/plugin@0.1.0#configure",
        "sentinel:plugin/reshape@0.1.0#reshape",
        "cabi_realloc",
    ]
    .into_iter()
    .enumerate()
    {
        exports.export(name, ExportKind::Func, u32::try_from(at).unwrap() + imports.len());
    }
    module.section(&exports);
    let mut code = CodeSection::new();
    let mut describe = Function::new([]);
    if import.is_some() {
        describe.instructions().call(0).drop();
    }
    describe.instructions().i32_const(RESULT.cast_signed()).end();
    code.function(&describe);
    for _ in 0..3 {
        let mut trap = Function::new([]);
        trap.instructions().unreachable().end();
        code.function(&trap);
    }
    module.section(&code);
    let mut data = DataSection::new();
    let bytes =
        |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    data.active(0, &ConstExpr::i32_const(RESULT.cast_signed()), bytes(&result));
    data.active(0, &ConstExpr::i32_const(METRIC.cast_signed()), bytes(&metric));
    data.active(0, &ConstExpr::i32_const(TEXTS.cast_signed()), texts.into_bytes());
    module.section(&data);
    module.finish()
}

/// Names the world that the module was built for, as bindings do: the contract's, with an
/// interface of WASI (its package and its name) where there is one.
fn with_world(mut module: Vec<u8>, wasi: Option<(&str, &str)>) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    let (mut package, _) = resolve.push_dir(super::contract()).unwrap();
    if let Some((text, import)) = wasi {
        resolve.push_str("wasi.wit", text).unwrap();
        let world = format!(
            "package acme:guest;
            world transform {{ import {import}; include sentinel:plugin/transform@0.1.0; }}"
        );
        package = resolve.push_str("guest.wit", &world).unwrap();
    }
    let world = resolve.select_world(&[package], Some("transform")).unwrap();
    wit_component::embed_component_metadata(
        &mut module,
        &resolve,
        world,
        wit_component::StringEncoding::UTF8,
    )
    .unwrap();
    module
}
