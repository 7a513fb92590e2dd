//! The contract's own worlds: what wit-component makes of them is what this crate expects.

mod fixture;

use std::path::Path;

use fixture::{Signed, manifest_of};
use sentinel_trust::{
    Asked, Capability, FilesRequest, HttpMethod, HttpRequest, Kind, KvRequest, Need, Requests,
    need_of_import,
};
use wasm_encoder::{
    CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection,
    MemorySection, MemoryType, Module, TypeSection, ValType,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::abi::{AbiVariant, WasmSignature, WasmType};
use wit_parser::{IndexMap, Resolve, WorldId, WorldItem, WorldKey};

/// The contract, and the world of a kind in it.
fn world(kind: Kind) -> (Resolve, WorldId) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/sentinel-plugin-0.1.0");
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(&folder).expect("the contract parses");
    let world =
        resolve.select_world(&[package], Some(kind.as_str())).expect("each kind is a world");
    (resolve, world)
}

/// The functions of the interfaces among `items`: interface, function, core signature.
fn functions(
    resolve: &Resolve,
    items: &IndexMap<WorldKey, WorldItem>,
    abi: AbiVariant,
) -> Vec<(String, String, WasmSignature)> {
    let mut all = Vec::new();
    for (key, item) in items {
        if let WorldItem::Interface { id, .. } = item {
            for function in resolve.interfaces[*id].functions.values() {
                let signature = resolve.wasm_signature(abi, function);
                all.push((resolve.name_world_key(key), function.name.clone(), signature));
            }
        }
    }
    all
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

/// A component that imports and exports everything that the kind's world has.
fn whole_world(kind: Kind) -> Vec<u8> {
    let (resolve, world) = world(kind);
    let mut types = TypeSection::new();
    let mut imports = ImportSection::new();
    let imported = functions(&resolve, &resolve.worlds[world].imports, AbiVariant::GuestImport);
    for (at, (interface, name, signature)) in (0..).zip(&imported) {
        types.ty().function(core(&signature.params), core(&signature.results));
        imports.import(interface, name, EntityType::Function(at));
    }
    let mut made: Vec<_> =
        functions(&resolve, &resolve.worlds[world].exports, AbiVariant::GuestExport)
            .into_iter()
            .map(|(interface, name, signature)| {
                (format!("{interface}#{name}"), core(&signature.params), core(&signature.results))
            })
            .collect();
    made.push(("cabi_realloc".into(), vec![ValType::I32; 4], vec![ValType::I32]));
    let (mut declared, mut exports, mut code) =
        (FunctionSection::new(), ExportSection::new(), CodeSection::new());
    for (at, (name, params, results)) in (u32::try_from(imported.len()).unwrap()..).zip(made) {
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
    module
        .section(&types)
        .section(&imports)
        .section(&declared)
        .section(&memory)
        .section(&exports)
        .section(&code);
    let mut module = module.finish();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

fn everything(kind: Kind) -> Requests {
    let may = |capability| kind.capabilities().contains(&capability);
    Requests {
        system: may(Capability::System),
        http: may(Capability::Http)
            .then(|| HttpRequest { origins: Asked::FromConfig, methods: [HttpMethod::Get].into() }),
        files: may(Capability::Files).then_some(FilesRequest { paths: Asked::FromConfig }),
        mac: may(Capability::Mac),
        kv: may(Capability::Kv).then_some(KvRequest { max_bytes: 1000 }),
        series: may(Capability::Series),
    }
}

#[test]
fn a_component_of_each_world_is_verified_under_its_kind_and_no_other() {
    for kind in Kind::ALL {
        let component = whole_world(kind);
        Signed::new(&component, &manifest_of(kind, everything(kind))).verify().unwrap();
        for other in Kind::ALL {
            if other != kind {
                Signed::new(&component, &manifest_of(other, Requests::default()))
                    .verify()
                    .unwrap_err();
            }
        }
    }
}

#[test]
fn a_world_offers_exactly_the_capabilities_of_its_kind() {
    for kind in Kind::ALL {
        let (resolve, world) = world(kind);
        let mut offered: Vec<_> = resolve.worlds[world]
            .imports
            .iter()
            .filter_map(|(key, item)| match item {
                WorldItem::Interface { .. } => Some(resolve.name_world_key(key)),
                _ => None,
            })
            .filter_map(|name| match need_of_import(&name) {
                Need::Nothing => None,
                Need::Capability(capability) => Some(capability),
                need => panic!("{name}: {need:?}"),
            })
            .collect();
        offered.sort_unstable();
        let mut expected = kind.capabilities().to_vec();
        expected.sort_unstable();
        assert_eq!(offered, expected, "{kind}");
    }
}

#[test]
fn each_capability_that_is_imported_must_be_requested() {
    for kind in Kind::ALL {
        let component = whole_world(kind);
        let error = Signed::new(&component, &manifest_of(kind, Requests::default())).verify();
        match kind {
            Kind::Transform => assert!(error.is_ok()),
            _ => {
                let message = error.unwrap_err().to_string();
                for capability in kind.capabilities() {
                    assert!(message.contains(&format!("needs `{capability}`")), "{message}");
                }
            }
        }
    }
}
