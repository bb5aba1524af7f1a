//! The typed intermediate representation.

use crate::{DType, ErrorCode, Failure, Scalar, limits};

/// A type-checked expression over elements that share an index.
///
/// # Invariants
///
/// Nodes are in topological order: an operand's index is smaller than its user's. Operands of a binary operation
/// and branches of a select have equal dtypes, conditions are bool, every [`Op::Input`] names an input that exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    inputs: Vec<Input>,
    nodes: Vec<(Op, DType)>,
    root: NodeIndex,
    reduction: Option<Reduction>,
}

impl Program {
    /// Checks the invariants.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ExpressionInvalid`], [`ErrorCode::TooLarge`] past [`limits::EXPR_NODES_MAX`] nodes,
    /// [`limits::EXPR_LOWERED_NODES_MAX`] nodes once lowered or [`limits::RUN_OPERANDS_MAX`] operands.
    pub fn new(
        inputs: Vec<Input>,
        ops: Vec<Op>,
        root: NodeIndex,
        reduction: Option<Reduction>,
    ) -> Result<Self, Failure> {
        let lowered: usize = ops.iter().map(Op::lowered_nodes_max).sum();
        if ops.len() > limits::EXPR_NODES_MAX
            || lowered > limits::EXPR_LOWERED_NODES_MAX
            || inputs.len() >= limits::RUN_OPERANDS_MAX
        {
            let message = format!(
                "{} nodes, {lowered} once exp, log, ** and their like are written out, over {} inputs",
                ops.len(),
                inputs.len()
            );
            return Err(
                Failure::new(ErrorCode::TooLarge, message).help("split the expression in two")
            );
        }
        Self::checked(inputs, ops, root, reduction)
    }

    /// Checks the invariants but not the limits, which [`crate::expr::lower`] may exceed.
    pub(super) fn checked(
        inputs: Vec<Input>,
        ops: Vec<Op>,
        root: NodeIndex,
        reduction: Option<Reduction>,
    ) -> Result<Self, Failure> {
        let mut program = Self { inputs, nodes: Vec::with_capacity(ops.len()), root, reduction };
        for op in ops {
            let dtype = program.dtype_of(&op)?;
            program.nodes.push((op, dtype));
        }
        if program.nodes.get(root.0 as usize).is_none() {
            return Err(invalid("the root is no node"));
        }
        Ok(program)
    }

    /// The arrays it reads, in binding order.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Operations with the dtype of their value, in topological order.
    pub fn nodes(&self) -> &[(Op, DType)] {
        &self.nodes
    }

    /// The node whose value is stored or reduced.
    pub fn root(&self) -> NodeIndex {
        self.root
    }

    /// How the root's values become one; `None` stores them element by element.
    pub fn reduction(&self) -> Option<Reduction> {
        self.reduction
    }

    /// Dtype of one node's value.
    pub fn dtype(&self, node: NodeIndex) -> DType {
        self.nodes[node.0 as usize].1
    }

    /// Dtype of the stored elements or of the reduced value.
    pub fn output_dtype(&self) -> DType {
        let element = self.dtype(self.root);
        self.reduction.map_or(element, |reduction| reduction.output_dtype(element))
    }

    fn dtype_of(&self, op: &Op) -> Result<DType, Failure> {
        let operand = |node: NodeIndex| {
            self.nodes
                .get(node.0 as usize)
                .map(|(_, dtype)| *dtype)
                .ok_or_else(|| invalid("an operand comes later"))
        };
        let same = |a: NodeIndex, b: NodeIndex| match (operand(a)?, operand(b)?) {
            (a, b) if a == b => Ok(a),
            (a, b) => Err(invalid(&format!("operands are {a} and {b}"))),
        };
        match *op {
            Op::Input(index) => {
                let input = self
                    .inputs
                    .get(usize::from(index))
                    .ok_or_else(|| invalid("an input is not bound"))?;
                Ok(input.dtype)
            }
            Op::Index => Ok(DType::I64),
            Op::Const(value) => Ok(value.dtype()),
            Op::Unary(op, a) => op.check(operand(a)?),
            Op::Binary(op, a, b) => op.check(same(a, b)?),
            Op::Compare(_, a, b) => same(a, b).map(|_| DType::Bool),
            Op::Select { condition, yes, no } => match operand(condition)? {
                DType::Bool => same(yes, no),
                other => Err(invalid(&format!("a condition is {other}, not bool"))),
            },
            Op::Cast(dtype, a) => operand(a).map(|_| dtype),
            Op::Reinterpret(dtype, a) => match operand(a)? {
                from if from.size() == dtype.size()
                    && from != DType::Bool
                    && dtype != DType::Bool =>
                {
                    Ok(dtype)
                }
                from => Err(invalid(&format!("{from} has not the bits of a {dtype}"))),
            },
        }
    }
}

/// One array that a program reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its name in the expression.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
}

/// Index of a node in [`Program::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u32);

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// The element of an input array.
    Input(u16),
    /// The flat C-order index of the element, `int64`.
    Index,
    /// The same value everywhere.
    Const(Scalar),
    /// One operand.
    Unary(UnaryOp, NodeIndex),
    /// Two operands of one dtype; the result has it too.
    Binary(BinaryOp, NodeIndex, NodeIndex),
    /// Two operands of one dtype; the result is bool.
    Compare(CompareOp, NodeIndex, NodeIndex),
    /// `condition ? yes : no`, element by element.
    Select {
        /// A bool.
        condition: NodeIndex,
        /// Value where true.
        yes: NodeIndex,
        /// Value where false.
        no: NodeIndex,
    },
    /// NumPy's `astype`: integers wrap, floats to integers truncate and saturate (NaN gives 0), anything nonzero is true.
    Cast(DType, NodeIndex),
    /// The same bits as another dtype of the same size.
    Reinterpret(DType, NodeIndex),
}

impl Op {
    /// The nodes whose values it uses, in order.
    pub fn operands(&self) -> [Option<NodeIndex>; 3] {
        match *self {
            Self::Input(_) | Self::Index | Self::Const(_) => [None; 3],
            Self::Unary(_, a) | Self::Cast(_, a) | Self::Reinterpret(_, a) => [Some(a), None, None],
            Self::Binary(_, a, b) | Self::Compare(_, a, b) => [Some(a), Some(b), None],
            Self::Select { condition, yes, no } => [Some(condition), Some(yes), Some(no)],
        }
    }

    /// The same operation on other nodes.
    #[must_use]
    pub fn with_operands(self, place: impl Fn(NodeIndex) -> NodeIndex) -> Self {
        match self {
            Self::Input(_) | Self::Index | Self::Const(_) => self,
            Self::Unary(op, a) => Self::Unary(op, place(a)),
            Self::Binary(op, a, b) => Self::Binary(op, place(a), place(b)),
            Self::Compare(op, a, b) => Self::Compare(op, place(a), place(b)),
            Self::Select { condition, yes, no } => {
                Self::Select { condition: place(condition), yes: place(yes), no: place(no) }
            }
            Self::Cast(dtype, a) => Self::Cast(dtype, place(a)),
            Self::Reinterpret(dtype, a) => Self::Reinterpret(dtype, place(a)),
        }
    }

    /// A bound on the nodes that [`crate::expr::lower`] makes of it.
    pub(super) fn lowered_nodes_max(&self) -> usize {
        match self {
            Self::Unary(UnaryOp::Exp, _) => 80,
            Self::Unary(UnaryOp::Log | UnaryOp::Sin | UnaryOp::Cos, _) => 120,
            Self::Unary(UnaryOp::Tanh, _) => 160,
            Self::Binary(BinaryOp::Pow, _, _) => 320,
            _ => 1,
        }
    }
}

/// Operations on one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// Arithmetic negation; integers wrap. Not for bool.
    Neg,
    /// Absolute value; the smallest signed integer stays as it is. Not for bool.
    Abs,
    /// Bits flipped for integers, logical not for bool. Not for floats.
    Not,
    /// Square root; floats only, as all below.
    Sqrt,
    /// Towards minus infinity.
    Floor,
    /// Towards plus infinity.
    Ceil,
    /// Towards zero.
    Trunc,
    /// To nearest, ties to even.
    Round,
    /// e to the power of.
    Exp,
    /// Natural logarithm.
    Log,
    /// Sine of radians.
    Sin,
    /// Cosine of radians.
    Cos,
    /// Hyperbolic tangent.
    Tanh,
}

impl UnaryOp {
    fn check(self, dtype: DType) -> Result<DType, Failure> {
        let fits = match self {
            Self::Neg | Self::Abs => dtype != DType::Bool,
            Self::Not => !dtype.is_float(),
            _ => dtype.is_float(),
        };
        if fits { Ok(dtype) } else { Err(invalid(&format!("{self:?} is not defined for {dtype}"))) }
    }
}

/// Operations on two values of one dtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// Sum; integers wrap. Not for bool.
    Add,
    /// Difference; integers wrap. Not for bool.
    Sub,
    /// Product; integers wrap. Not for bool.
    Mul,
    /// True division. Floats only.
    Div,
    /// Quotient towards minus infinity; an integer divided by 0 gives 0. Not for bool.
    FloorDiv,
    /// Remainder with the sign of the divisor; modulo integer 0 gives 0. Not for bool.
    Rem,
    /// The smaller one; NaN wins.
    Min,
    /// The larger one; NaN wins.
    Max,
    /// Power. Floats only.
    Pow,
    /// Bitwise and for integers, logical for bool. Not for floats, as all below.
    And,
    /// Bitwise or, logical for bool.
    Or,
    /// Bitwise exclusive or, logical for bool.
    Xor,
    /// Shift left; a shift by the width or more gives 0. Integers only.
    Shl,
    /// Shift right, arithmetic for signed; a shift by the width or more gives 0 or -1. Integers only.
    Shr,
}

impl BinaryOp {
    fn check(self, dtype: DType) -> Result<DType, Failure> {
        let fits = match self {
            Self::Add | Self::Sub | Self::Mul | Self::FloorDiv | Self::Rem => dtype != DType::Bool,
            Self::Div | Self::Pow => dtype.is_float(),
            Self::Min | Self::Max => true,
            Self::And | Self::Or | Self::Xor => !dtype.is_float(),
            Self::Shl | Self::Shr => dtype.is_int(),
        };
        if fits { Ok(dtype) } else { Err(invalid(&format!("{self:?} is not defined for {dtype}"))) }
    }
}

/// Comparisons; with NaN every one but `Ne` is false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
}

/// How all elements become one value.
///
/// The order is fixed, so the same elements give the same bits on every machine: see [`Reduction::output_dtype`] for
/// the accumulator, `holo_core::expr` for lanes and the combine order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// Sum; of nothing 0.
    Sum,
    /// Product; of nothing 1.
    Prod,
    /// Smallest; NaN wins. Of nothing an error.
    Min,
    /// Largest; NaN wins. Of nothing an error.
    Max,
}

impl Reduction {
    /// Dtype of the reduced value, as NumPy's: sums and products of bool and signed integers are `int64`, of unsigned
    /// ones `uint64`, wrapping; `float32` is accumulated in `float64` and rounded once at the end.
    pub fn output_dtype(self, element: DType) -> DType {
        match self {
            Self::Min | Self::Max => element,
            Self::Sum | Self::Prod if element.is_float() => element,
            Self::Sum | Self::Prod if element.is_unsigned_int() => DType::U64,
            Self::Sum | Self::Prod => DType::I64,
        }
    }

    /// Dtype of partial values on their way to the result.
    pub fn accumulator_dtype(self, element: DType) -> DType {
        match (self, element) {
            (Self::Sum | Self::Prod, DType::F32) => DType::F64,
            _ => self.output_dtype(element),
        }
    }
}

fn invalid(why: &str) -> Failure {
    Failure::new(ErrorCode::ExpressionInvalid, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn x(dtype: DType) -> Vec<Input> {
        vec![Input { name: "x".into(), dtype }]
    }

    #[test]
    fn a_well_typed_program_knows_its_dtypes() {
        let ops = vec![
            Op::Input(0),
            Op::Const(Scalar::f32(1.0)),
            Op::Binary(BinaryOp::Mul, NodeIndex(0), NodeIndex(0)),
            Op::Binary(BinaryOp::Add, NodeIndex(2), NodeIndex(1)),
            Op::Unary(UnaryOp::Sqrt, NodeIndex(3)),
        ];
        let program = Program::new(x(DType::F32), ops, NodeIndex(4), Some(Reduction::Sum)).unwrap();
        assert_eq!(program.output_dtype(), DType::F32);
        assert_eq!(Reduction::Sum.accumulator_dtype(DType::F32), DType::F64);
        assert_eq!(Reduction::Sum.output_dtype(DType::Bool), DType::I64);
    }

    #[test]
    fn ill_typed_programs_are_refused() {
        let refused = |dtype, ops: Vec<Op>, root| {
            Program::new(x(dtype), ops, NodeIndex(root), None).unwrap_err().code
        };
        let mixed =
            vec![Op::Input(0), Op::Index, Op::Binary(BinaryOp::Add, NodeIndex(0), NodeIndex(1))];
        assert_eq!(refused(DType::F64, mixed, 2), ErrorCode::ExpressionInvalid);
        assert_eq!(
            refused(DType::I64, vec![Op::Unary(UnaryOp::Sqrt, NodeIndex(0))], 0),
            ErrorCode::ExpressionInvalid
        );
        assert_eq!(refused(DType::I64, vec![Op::Input(1)], 0), ErrorCode::ExpressionInvalid);
        assert_eq!(refused(DType::I64, vec![Op::Input(0)], 1), ErrorCode::ExpressionInvalid);
        assert_eq!(
            refused(DType::I64, vec![Op::Index; limits::EXPR_NODES_MAX + 1], 0),
            ErrorCode::TooLarge
        );
    }
}
