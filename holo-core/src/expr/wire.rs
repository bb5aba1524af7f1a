//! Programs as bytes: a versioned, flat list of nodes in protobuf.
//!
//! What comes in is not trusted: it is bounded by its length, and [`Program::new`] checks it as it checks any program.

use prost::Message;

use crate::expr::{BinaryOp, CompareOp, Input, NodeIndex, Op, Program, Reduction, UnaryOp};
use crate::wire::Decode;
use crate::{DType, ErrorCode, Failure, Scalar, limits};

const VERSION: u32 = 1;

/// Kinds of nodes. Numbers are never reused, here and in the tables below.
const INPUT: u32 = 1;
const INDEX: u32 = 2;
const CONST: u32 = 3;
const UNARY: u32 = 4;
const BINARY: u32 = 5;
const COMPARE: u32 = 6;
const SELECT: u32 = 7;
const CAST: u32 = 8;
const REINTERPRET: u32 = 9;

const UNARY_OPS: &[(u32, UnaryOp)] = &[
    (1, UnaryOp::Neg),
    (2, UnaryOp::Abs),
    (3, UnaryOp::Not),
    (4, UnaryOp::Sqrt),
    (5, UnaryOp::Floor),
    (6, UnaryOp::Ceil),
    (7, UnaryOp::Trunc),
    (8, UnaryOp::Round),
    (9, UnaryOp::Exp),
    (10, UnaryOp::Log),
    (11, UnaryOp::Sin),
    (12, UnaryOp::Cos),
    (13, UnaryOp::Tanh),
];

const BINARY_OPS: &[(u32, BinaryOp)] = &[
    (1, BinaryOp::Add),
    (2, BinaryOp::Sub),
    (3, BinaryOp::Mul),
    (4, BinaryOp::Div),
    (5, BinaryOp::FloorDiv),
    (6, BinaryOp::Rem),
    (7, BinaryOp::Min),
    (8, BinaryOp::Max),
    (9, BinaryOp::Pow),
    (10, BinaryOp::And),
    (11, BinaryOp::Or),
    (12, BinaryOp::Xor),
    (13, BinaryOp::Shl),
    (14, BinaryOp::Shr),
];

const COMPARE_OPS: &[(u32, CompareOp)] = &[
    (1, CompareOp::Eq),
    (2, CompareOp::Ne),
    (3, CompareOp::Lt),
    (4, CompareOp::Le),
    (5, CompareOp::Gt),
    (6, CompareOp::Ge),
];

const REDUCTIONS: &[(u32, Reduction)] =
    &[(1, Reduction::Sum), (2, Reduction::Prod), (3, Reduction::Min), (4, Reduction::Max)];

impl Program {
    /// The program's bytes, for [`crate::wire::RunShards`].
    pub fn encode(&self) -> Vec<u8> {
        let body = ProgramBody {
            version: VERSION,
            inputs: self
                .inputs()
                .iter()
                .map(|input| InputBody {
                    name: input.name.clone(),
                    dtype: u32::from(input.dtype.to_byte()),
                })
                .collect(),
            nodes: self.nodes().iter().map(|(op, _)| NodeBody::from(op)).collect(),
            root: self.root().0,
            reduction: self.reduction().map_or(0, |reduction| number(REDUCTIONS, reduction)),
        };
        body.encode_to_vec()
    }

    /// Reads and checks a program.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`], [`ErrorCode::TooLarge`], [`ErrorCode::VersionMismatch`], or
    /// [`ErrorCode::ExpressionInvalid`] when it is well formed and makes no sense.
    pub fn decode(bytes: &[u8]) -> Result<Self, Failure> {
        let body = ProgramBody::decode_body(bytes)?;
        if body.version != VERSION {
            let message = format!("expression version {}, this side knows {VERSION}", body.version);
            return Err(Failure::new(ErrorCode::VersionMismatch, message)
                .help("run the same release on both sides"));
        }
        if body.nodes.len() > limits::EXPR_NODES_MAX {
            let message = format!("an expression of {} nodes", body.nodes.len());
            return Err(Failure::new(ErrorCode::TooLarge, message));
        }
        let inputs = body
            .inputs
            .into_iter()
            .map(|input| Ok(Input { dtype: DType::from_byte(input.dtype)?, name: input.name }));
        let inputs: Vec<Input> = inputs.collect::<Result<_, Failure>>()?;
        let ops: Vec<Op> = body.nodes.iter().map(Op::try_from).collect::<Result<_, _>>()?;
        let reduction = match body.reduction {
            0 => None,
            code => Some(known(REDUCTIONS, code, "reduction")?),
        };
        Self::new(inputs, ops, NodeIndex(body.root), reduction)
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct ProgramBody {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, repeated, tag = "2")]
    inputs: Vec<InputBody>,
    #[prost(message, repeated, tag = "3")]
    nodes: Vec<NodeBody>,
    #[prost(uint32, tag = "4")]
    root: u32,
    /// 0 for none.
    #[prost(uint32, tag = "5")]
    reduction: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct InputBody {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    dtype: u32,
}

/// One node; which fields count depends on its kind.
#[derive(Clone, PartialEq, prost::Message)]
struct NodeBody {
    #[prost(uint32, tag = "1")]
    kind: u32,
    /// Number of the operation, or of the input.
    #[prost(uint32, tag = "2")]
    code: u32,
    #[prost(uint32, tag = "3")]
    a: u32,
    #[prost(uint32, tag = "4")]
    b: u32,
    #[prost(uint32, tag = "5")]
    c: u32,
    #[prost(uint32, tag = "6")]
    dtype: u32,
    #[prost(fixed64, tag = "7")]
    bits: u64,
}

impl From<&Op> for NodeBody {
    fn from(op: &Op) -> Self {
        let dtype_byte = |dtype: DType| u32::from(dtype.to_byte());
        match *op {
            Op::Input(input) => Self { kind: INPUT, code: u32::from(input), ..Self::default() },
            Op::Index => Self { kind: INDEX, ..Self::default() },
            Op::Const(value) => Self {
                kind: CONST,
                dtype: dtype_byte(value.dtype()),
                bits: value.bits(),
                ..Self::default()
            },
            Op::Unary(op, a) => {
                Self { kind: UNARY, code: number(UNARY_OPS, op), a: a.0, ..Self::default() }
            }
            Op::Binary(op, a, b) => {
                let code = number(BINARY_OPS, op);
                Self { kind: BINARY, code, a: a.0, b: b.0, ..Self::default() }
            }
            Op::Compare(op, a, b) => {
                let code = number(COMPARE_OPS, op);
                Self { kind: COMPARE, code, a: a.0, b: b.0, ..Self::default() }
            }
            Op::Select { condition, yes, no } => {
                Self { kind: SELECT, a: condition.0, b: yes.0, c: no.0, ..Self::default() }
            }
            Op::Cast(dtype, a) => {
                Self { kind: CAST, a: a.0, dtype: dtype_byte(dtype), ..Self::default() }
            }
            Op::Reinterpret(dtype, a) => {
                Self { kind: REINTERPRET, a: a.0, dtype: dtype_byte(dtype), ..Self::default() }
            }
        }
    }
}

impl TryFrom<&NodeBody> for Op {
    type Error = Failure;

    fn try_from(node: &NodeBody) -> Result<Self, Failure> {
        let (a, b, c) = (NodeIndex(node.a), NodeIndex(node.b), NodeIndex(node.c));
        let dtype = || DType::from_byte(node.dtype);
        Ok(match node.kind {
            INPUT => Self::Input(u16::try_from(node.code).map_err(|source| {
                Failure::new(ErrorCode::Malformed, format!("input {}: {source}", node.code))
            })?),
            INDEX => Self::Index,
            CONST => Self::Const(Scalar::from_bits(dtype()?, node.bits)),
            UNARY => Self::Unary(known(UNARY_OPS, node.code, "operation")?, a),
            BINARY => Self::Binary(known(BINARY_OPS, node.code, "operation")?, a, b),
            COMPARE => Self::Compare(known(COMPARE_OPS, node.code, "comparison")?, a, b),
            SELECT => Self::Select { condition: a, yes: b, no: c },
            CAST => Self::Cast(dtype()?, a),
            REINTERPRET => Self::Reinterpret(dtype()?, a),
            kind => {
                return Err(Failure::new(
                    ErrorCode::Malformed,
                    format!("{kind} is no kind of node"),
                ));
            }
        })
    }
}

/// The number of an operation; every one is in its table, which a test checks.
fn number<T: PartialEq>(table: &[(u32, T)], value: T) -> u32 {
    table.iter().find(|(_, known)| *known == value).map_or(0, |(code, _)| *code)
}

fn known<T: Copy>(table: &[(u32, T)], code: u32, what: &str) -> Result<T, Failure> {
    let found = table.iter().find(|(known, _)| *known == code);
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| Failure::new(ErrorCode::Malformed, format!("{code} is no {what}")))
}

#[cfg(test)]
mod tests;
