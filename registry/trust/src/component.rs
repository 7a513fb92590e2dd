//! Reading a component without running or compiling anything, and embedding a manifest.
//!
//! Only the outermost level is read: section headers, names of imports and exports, custom
//! sections. Nested modules and components are stepped over. Arbitrary bytes give an error,
//! never a panic, and cost time and memory in proportion to their length.

use std::ops::Range;

use wasmparser::{Chunk, ComponentExternalKind, ComponentTypeRef, Parser, Payload, TypeBounds};

use crate::capability::MANIFEST_SECTION;
use crate::manifest::{Manifest, ManifestError};
use crate::text::message;

/// Most bytes of a component (64 MiB).
pub const MAX_COMPONENT_BYTES: usize = 64 << 20;
/// Most imports, and most exports, of a component.
pub const MAX_EXTERNS: usize = 1_000;
/// Most sections at the outermost level of a component.
pub const MAX_SECTIONS: usize = 100_000;

/// What kind of thing a name is imported or exported as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExternKind {
    /// An instance: what an interface of WIT becomes.
    Instance,
    /// A type that is equal to another: gives nothing to do.
    Type,
    /// Anything else: a function, a resource, a module, a component, a value.
    Other,
}

/// A name that a component imports or exports.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Extern {
    /// The name, for example `sentinel:plugin/http@0.1.0`. Comes out of the file unchecked.
    pub name: String,
    /// What it stands for.
    pub kind: ExternKind,
}

/// What can be seen of a component from outside.
#[derive(Debug, Clone)]
pub struct ComponentShape {
    imports: Vec<Extern>,
    exports: Vec<Extern>,
    custom_sections: Vec<String>,
    manifest_sections: Vec<ManifestSection>,
}

#[derive(Debug, Clone)]
struct ManifestSection {
    /// The section whole: its id, its size, its contents.
    whole: Range<usize>,
    data: Range<usize>,
}

/// Why bytes could not be read as a component, or a manifest not embedded.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// Larger than [`MAX_COMPONENT_BYTES`].
    #[error(
        "the component has {bytes} bytes; at most {MAX_COMPONENT_BYTES} are allowed: strip debug information and data"
    )]
    TooBig {
        /// Its size.
        bytes: usize,
    },
    /// A core module, as compilers write it.
    #[error(
        "this is a core WebAssembly module, not a component: `sentinel plugin pack` makes a component of it"
    )]
    CoreModule,
    /// Not WebAssembly at all.
    #[error(
        "this is not a WebAssembly component: it does not start as one; give the `.wasm` file that `sentinel plugin pack` wrote"
    )]
    NotWasm,
    /// Starts as a component but is broken further on.
    #[error("the component is damaged at byte {offset}: {why}; build it again or fetch it again")]
    Malformed {
        /// Where, from the start of the file.
        offset: usize,
        /// What the parser found.
        why: String,
    },
    /// No section `sentinel:manifest`.
    #[error(
        "the component has no section `{MANIFEST_SECTION}`: embed a manifest with `sentinel plugin pack --manifest plugin.yaml`"
    )]
    NoManifest,
    /// More than one section `sentinel:manifest`.
    #[error(
        "the component has {0} sections `{MANIFEST_SECTION}` where exactly one is allowed: pack it again"
    )]
    ManyManifests(usize),
    /// The manifest was refused.
    #[error("the manifest was refused: {0}")]
    Manifest(ManifestError),
}

impl From<ManifestError> for ComponentError {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(error)
    }
}

impl ComponentShape {
    /// Reads the outermost level of a component.
    ///
    /// # Errors
    ///
    /// [`ComponentError::TooBig`], [`ComponentError::CoreModule`],
    /// [`ComponentError::NotWasm`] or [`ComponentError::Malformed`].
    pub fn read(bytes: &[u8]) -> Result<Self, ComponentError> {
        if bytes.len() > MAX_COMPONENT_BYTES {
            return Err(ComponentError::TooBig { bytes: bytes.len() });
        }
        if Parser::is_core_wasm(bytes) {
            return Err(ComponentError::CoreModule);
        }
        if !Parser::is_component(bytes) {
            return Err(ComponentError::NotWasm);
        }
        let mut shape = Self {
            imports: Vec::new(),
            exports: Vec::new(),
            custom_sections: Vec::new(),
            manifest_sections: Vec::new(),
        };
        let mut parser = Parser::new(0);
        let mut at = 0;
        for _ in 0..MAX_SECTIONS {
            let (payload, consumed) = match parser.parse(&bytes[at..], true).map_err(damaged)? {
                Chunk::Parsed { payload, consumed } => (payload, consumed),
                Chunk::NeedMoreData(_) => return Err(malformed(bytes.len(), "it ends too early")),
            };
            let start = at;
            at += consumed;
            match payload {
                Payload::End(_) => return Ok(shape),
                Payload::ModuleSection { unchecked_range, .. }
                | Payload::ComponentSection { unchecked_range, .. } => {
                    // The parent parser already counts the nested bytes as its own.
                    if unchecked_range.start != at || unchecked_range.end > bytes.len() {
                        return Err(malformed(
                            start,
                            "a nested module or component does not end within the file",
                        ));
                    }
                    at = unchecked_range.end;
                }
                payload => shape.take(payload, start..at)?,
            }
        }
        Err(malformed(at, &format!("more than {MAX_SECTIONS} sections")))
    }

    fn take(&mut self, payload: Payload<'_>, whole: Range<usize>) -> Result<(), ComponentError> {
        match payload {
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import.map_err(damaged)?;
                    let kind = match import.ty {
                        ComponentTypeRef::Instance(_) => ExternKind::Instance,
                        ComponentTypeRef::Type(TypeBounds::Eq(_)) => ExternKind::Type,
                        _ => ExternKind::Other,
                    };
                    push(&mut self.imports, import.name.name, kind, whole.start)?;
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export.map_err(damaged)?;
                    let kind = match export.kind {
                        ComponentExternalKind::Instance => ExternKind::Instance,
                        ComponentExternalKind::Type => ExternKind::Type,
                        _ => ExternKind::Other,
                    };
                    push(&mut self.exports, export.name.name, kind, whole.start)?;
                }
            }
            Payload::CustomSection(section) => {
                if section.name() == MANIFEST_SECTION {
                    let data = section.data_offset()..section.data_offset() + section.data().len();
                    self.manifest_sections.push(ManifestSection { whole, data });
                }
                if self.custom_sections.len() < MAX_EXTERNS {
                    self.custom_sections.push(section.name().to_owned());
                }
            }
            Payload::UnknownSection { id, .. } => {
                return Err(malformed(whole.start, &format!("a section of unknown kind {id}")));
            }
            _ => {}
        }
        Ok(())
    }

    /// Imports in the order of the file.
    #[must_use]
    pub fn imports(&self) -> &[Extern] {
        &self.imports
    }

    /// Exports in the order of the file.
    #[must_use]
    pub fn exports(&self) -> &[Extern] {
        &self.exports
    }

    /// Names of the custom sections in the order of the file (at most [`MAX_EXTERNS`]).
    #[must_use]
    pub fn custom_sections(&self) -> &[String] {
        &self.custom_sections
    }

    /// Whether there is a section `sentinel:manifest` at all.
    #[must_use]
    pub fn has_manifest(&self) -> bool {
        !self.manifest_sections.is_empty()
    }

    /// The manifest in `bytes`, the same bytes that this shape was read from.
    ///
    /// # Errors
    ///
    /// [`ComponentError::NoManifest`], [`ComponentError::ManyManifests`] or
    /// [`ComponentError::Manifest`].
    pub fn manifest(&self, bytes: &[u8]) -> Result<Manifest, ComponentError> {
        match self.manifest_sections.as_slice() {
            [] => Err(ComponentError::NoManifest),
            [section] => {
                let json = bytes.get(section.data.clone()).ok_or(ComponentError::NoManifest)?;
                Ok(Manifest::from_json(json)?)
            }
            many => Err(ComponentError::ManyManifests(many.len())),
        }
    }
}

fn push(
    list: &mut Vec<Extern>,
    name: &str,
    kind: ExternKind,
    at: usize,
) -> Result<(), ComponentError> {
    if list.len() == MAX_EXTERNS {
        return Err(malformed(at, &format!("more than {MAX_EXTERNS} imports or exports")));
    }
    list.push(Extern { name: name.to_owned(), kind });
    Ok(())
}

fn malformed(offset: usize, why: &str) -> ComponentError {
    ComponentError::Malformed { offset, why: message(&why) }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err calls")]
fn damaged(error: wasmparser::Error) -> ComponentError {
    malformed(error.offset(), error.message())
}

/// The component with `manifest` as its only manifest, at the end; one that is there already
/// is replaced. All other bytes stay as they are.
///
/// # Errors
///
/// If the bytes are not a component, if the manifest is refused, if its config schema cannot
/// be compiled, or if the result would be too big.
pub fn embed(component: &[u8], manifest: &Manifest) -> Result<Vec<u8>, ComponentError> {
    let shape = ComponentShape::read(component)?;
    let json = manifest.to_json()?;
    manifest.check_schema_compiles()?;
    let mut out = Vec::with_capacity(component.len() + json.len() + 64);
    let mut kept = 0;
    for section in &shape.manifest_sections {
        out.extend_from_slice(&component[kept..section.whole.start]);
        kept = section.whole.end;
    }
    out.extend_from_slice(&component[kept..]);
    wasm_encoder::ComponentSection::append_to_component(
        &wasm_encoder::CustomSection {
            name: MANIFEST_SECTION.into(),
            data: json.as_slice().into(),
        },
        &mut out,
    );
    if out.len() > MAX_COMPONENT_BYTES {
        return Err(ComponentError::TooBig { bytes: out.len() });
    }
    Ok(out)
}
