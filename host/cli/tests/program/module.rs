//! A core module of the world `transform`, as a compiler would write it, with nothing in it
//! but what `describe` says.

use wasm_encoder::{
    CodeSection, ConstExpr, DataSection, ExportKind, ExportSection, Function, FunctionSection,
    MemorySection, MemoryType, Module, TypeSection, ValType,
};

/// Where `describe` leaves its result: four words.
const RESULT: u32 = 1024;
/// Where the only metric lies: seven words.
const METRIC: u32 = 1040;
/// Where texts begin.
const TEXTS: u32 = 2048;

/// A module whose config schema is this text.
pub(crate) fn transform(schema: &str) -> Vec<u8> {
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
    module.section(&types);
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
        exports.export(name, ExportKind::Func, u32::try_from(at).unwrap());
    }
    module.section(&exports);
    let mut code = CodeSection::new();
    let mut describe = Function::new([]);
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
    with_world(module.finish())
}

/// Names the world that the module was built for, as bindings do.
fn with_world(mut module: Vec<u8>) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_dir(super::contract()).unwrap();
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
