//! What a module must look like before the compiler sees it.
//!
//! Compilation happens before there is any fuel, so its cost is bounded here: bytes, functions, bytes of a function,
//! depth of nesting. Then the module is validated against the features that this host has, then its imports, its
//! exports and their types are compared with the ABI.

use holo_core::limits;
use wasmparser::{
    ConstExpr, DataKind, ExternalKind, FuncType, Imports, Operator, Parser, Payload, TypeRef,
    ValType, Validator, WasmFeatures, types::EntityType,
};

use super::{
    abi,
    host::{IMPORTS, PLANNED_IMPORTS, TABLE_ELEMENTS_MAX, capability_of},
};
use crate::ExecError;

/// WebAssembly 2.0: fixed-width SIMD, bulk memory, several results, reference types. No threads, 64-bit or several
/// memories, tail calls, exceptions, garbage collection or relaxed SIMD.
const FEATURES: WasmFeatures = WasmFeatures::WASM2;

/// What a module that may be compiled says about itself.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Names of imported host functions.
    pub(super) imports: Vec<String>,
    /// Names of exports, in order.
    pub(super) exports: Vec<String>,
    /// Bytes of memory that it starts with.
    pub(super) memory_bytes_min: u64,
}

/// Checks everything about `bytes` that can be checked without compiling.
pub(super) fn admit(bytes: &[u8], memory_bytes_max: u64) -> Result<Admitted, ExecError> {
    within("bytes", bytes.len() as u64, limits::MODULE_BYTES_MAX as u64)?;
    let outline = Outline::read(bytes)?;
    let memory_bytes_min = outline.memory_bytes_min()?;
    within("bytes of initial memory", memory_bytes_min, memory_bytes_max)?;
    let types = Validator::new_with_features(FEATURES).validate_all(bytes).map_err(invalid)?;
    let mut kernel = false;
    for export in &outline.exports {
        let entity = types.as_ref().entity_type_from_export(export);
        let function = match entity {
            Some(EntityType::Func(id)) => Some(types[id].unwrap_func()),
            _ => None,
        };
        check_export(export.name, export.kind, function)?;
        kernel |= matches!(export.name, abi::TILE | abi::TASK);
    }
    outline.check_abi_version()?;
    if !kernel {
        return Err(refuse(format!("it exports neither {} nor {}", abi::TILE, abi::TASK)));
    }
    Ok(Admitted {
        exports: outline.exports.iter().map(|export| export.name.to_owned()).collect(),
        imports: outline.imports,
        memory_bytes_min,
    })
}

#[derive(Default)]
struct Outline<'a> {
    imports: Vec<String>,
    exports: Vec<wasmparser::Export<'a>>,
    memories: Vec<u64>,
    globals: Vec<(wasmparser::GlobalType, Option<i32>)>,
    segments: Vec<(u32, &'a [u8])>,
}

impl<'a> Outline<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, ExecError> {
        let mut outline = Self::default();
        for payload in Parser::new(0).parse_all(bytes) {
            outline.visit(payload.map_err(invalid)?)?;
        }
        Ok(outline)
    }

    fn visit(&mut self, payload: Payload<'a>) -> Result<(), ExecError> {
        match payload {
            Payload::ImportSection(section) => {
                for imports in section {
                    match imports.map_err(invalid)? {
                        Imports::Single(_, import) => self.visit_import(&import)?,
                        _ => return Err(refuse("imports are in a compact form".into())),
                    }
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    let elements = table.map_err(invalid)?.ty.initial;
                    within("table elements", elements, TABLE_ELEMENTS_MAX as u64)?;
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory.map_err(invalid)?;
                    self.memories.push(memory.initial.saturating_mul(65_536));
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let global = global.map_err(invalid)?;
                    self.globals.push((global.ty, constant(&global.init_expr)));
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    self.exports.push(export.map_err(invalid)?);
                }
            }
            Payload::DataSection(section) => {
                for data in section {
                    let data = data.map_err(invalid)?;
                    if let DataKind::Active { offset_expr, .. } = &data.kind
                        && let Some(offset) = constant(offset_expr)
                    {
                        self.segments.push((offset.cast_unsigned(), data.data));
                    }
                }
            }
            Payload::CodeSectionStart { count, .. } => {
                let limit = u64::from(limits::MODULE_FUNCTIONS_MAX);
                within("functions", u64::from(count), limit)?;
            }
            Payload::CodeSectionEntry(body) => check_body(&body)?,
            _ => {}
        }
        Ok(())
    }

    fn visit_import(&mut self, import: &wasmparser::Import<'_>) -> Result<(), ExecError> {
        let name = format!("{}.{}", import.module, import.name);
        let function = matches!(import.ty, TypeRef::Func(_)) && import.module == IMPORTS;
        if function && PLANNED_IMPORTS.contains(&import.name) {
            return Err(ExecError::ImportNotYet { import: name });
        }
        if !function || capability_of(import.name).is_none() {
            return Err(ExecError::ImportUnknown { import: name });
        }
        self.imports.push(import.name.to_owned());
        Ok(())
    }

    fn memory_bytes_min(&self) -> Result<u64, ExecError> {
        match self.memories.as_slice() {
            [bytes] => Ok(*bytes),
            memories => {
                Err(refuse(format!("it has {} memories, exactly one is needed", memories.len())))
            }
        }
    }

    /// The version is an immutable global with the constant 1 or, as compilers export constants, the address of a
    /// 32-bit 1 in the module's data.
    fn check_abi_version(&self) -> Result<(), ExecError> {
        let export = self.exports.iter().find(|export| export.name == abi::ABI);
        let Some(export) = export.filter(|export| export.kind == ExternalKind::Global) else {
            return Err(refuse(format!("it exports no global {}", abi::ABI)));
        };
        let value = match self.globals.get(export.index as usize) {
            Some((global, Some(value)))
                if !global.mutable && global.content_type == ValType::I32 =>
            {
                *value
            }
            _ => return Err(refuse(format!("{} is no constant i32", abi::ABI))),
        };
        let found = self.constant_at(value.cast_unsigned()).unwrap_or(value);
        if found != abi::ABI_VERSION {
            let known = abi::ABI_VERSION;
            return Err(refuse(format!("it speaks version {found} of the ABI, this host {known}")));
        }
        Ok(())
    }

    fn constant_at(&self, address: u32) -> Option<i32> {
        let aligned = address != 0 && address.is_multiple_of(4);
        self.segments.iter().filter(|_| aligned).find_map(|(offset, data)| {
            let start = address.checked_sub(*offset)? as usize;
            let bytes = data.get(start..start.checked_add(4)?)?;
            Some(i32::from_le_bytes(bytes.try_into().ok()?))
        })
    }
}

fn check_body(body: &wasmparser::FunctionBody<'_>) -> Result<(), ExecError> {
    let bytes = body.range().len() as u64;
    within("bytes in one function", bytes, limits::MODULE_FUNCTION_BYTES_MAX as u64)?;
    let mut depth = 0u32;
    for operator in body.get_operators_reader().map_err(invalid)? {
        match operator.map_err(invalid)? {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                depth += 1;
                let limit = u64::from(limits::MODULE_NESTING_MAX);
                within("nested blocks", u64::from(depth), limit)?;
            }
            Operator::End => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Exports of the ABI's names must have the ABI's types; others are the module's own business.
fn check_export(
    name: &str,
    kind: ExternalKind,
    function: Option<&FuncType>,
) -> Result<(), ExecError> {
    let parameters = match name {
        abi::MEMORY if kind == ExternalKind::Memory => return Ok(()),
        abi::MEMORY => return Err(refuse("the export memory is no memory".into())),
        abi::TILE => 1,
        abi::RESERVE | abi::INIT | abi::FINISH | abi::TASK => 2,
        abi::COMBINE => 6,
        _ => return Ok(()),
    };
    let i32s = |types: &[ValType], count| {
        types.len() == count && types.iter().all(|ty| *ty == ValType::I32)
    };
    match function {
        Some(function) if i32s(function.params(), parameters) && i32s(function.results(), 1) => {
            Ok(())
        }
        _ => {
            Err(refuse(format!("{name} must be a function of {parameters} i32 with an i32 result")))
        }
    }
}

/// The value of a lone `i32.const`.
fn constant(expression: &ConstExpr<'_>) -> Option<i32> {
    let mut operators = expression.get_operators_reader();
    match (operators.read().ok()?, operators.read().ok()?) {
        (Operator::I32Const { value }, Operator::End) => Some(value),
        _ => None,
    }
}

fn within(what: &'static str, size: u64, limit: u64) -> Result<(), ExecError> {
    if size > limit {
        return Err(ExecError::ModuleTooLarge { what, size, limit });
    }
    Ok(())
}

fn invalid(error: wasmparser::BinaryReaderError) -> ExecError {
    ExecError::ModuleInvalid { why: format!("not a valid module: {error}") }
}

fn refuse(why: String) -> ExecError {
    ExecError::ModuleInvalid {
        why: format!("not a module for ABI `holo` v{}: {why}", abi::ABI_VERSION),
    }
}
