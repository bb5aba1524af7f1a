//! Collects nodes; the same operation on the same operands is one node.

use std::collections::BTreeMap;

use crate::expr::{NodeIndex, Op};

/// A growing list of operations in topological order, without duplicates.
#[derive(Clone, Debug, Default)]
pub(super) struct Builder {
    ops: Vec<Op>,
    known: BTreeMap<[u64; 4], NodeIndex>,
}

impl Builder {
    /// The node of an operation, an old one when there is one.
    pub(super) fn push(&mut self, op: Op) -> NodeIndex {
        let next = NodeIndex(u32::try_from(self.ops.len()).unwrap_or(u32::MAX));
        let node = *self.known.entry(key(&op)).or_insert(next);
        if node == next {
            self.ops.push(op);
        }
        node
    }

    /// How many nodes there are.
    pub(super) fn len(&self) -> usize {
        self.ops.len()
    }

    /// The operation of a node.
    pub(super) fn op(&self, node: NodeIndex) -> Option<Op> {
        self.ops.get(node.0 as usize).copied()
    }

    /// What `root` needs, in order, with `root` last; the rest is dropped.
    pub(super) fn into_ops(self, root: NodeIndex) -> (Vec<Op>, NodeIndex) {
        let mut needed = vec![false; self.ops.len()];
        if let Some(root) = needed.get_mut(root.0 as usize) {
            *root = true;
        }
        for (index, op) in self.ops.iter().enumerate().rev() {
            if needed[index] {
                for operand in op.operands().into_iter().flatten() {
                    needed[operand.0 as usize] = true;
                }
            }
        }
        let mut places = vec![NodeIndex(0); self.ops.len()];
        let mut kept = Vec::new();
        for (index, op) in self.ops.into_iter().enumerate().filter(|(index, _)| needed[*index]) {
            places[index] = NodeIndex(u32::try_from(kept.len()).unwrap_or(u32::MAX));
            kept.push(op.with_operands(|node| places[node.0 as usize]));
        }
        let root = places.get(root.0 as usize).copied().unwrap_or(root);
        (kept, root)
    }
}

/// Equal for equal operations only.
fn key(op: &Op) -> [u64; 4] {
    let [a, b, c] = op.operands().map(|node| node.map_or(0, |node| u64::from(node.0)));
    let (kind, code) = match *op {
        Op::Input(input) => (1, u64::from(input)),
        Op::Index => (2, 0),
        Op::Const(value) => return [3, u64::from(value.dtype().to_byte()), value.bits(), 0],
        Op::Unary(op, _) => (4, op as u64),
        Op::Binary(op, _, _) => (5, op as u64),
        Op::Compare(op, _, _) => (6, op as u64),
        Op::Select { .. } => (7, 0),
        Op::Cast(dtype, _) => (8, u64::from(dtype.to_byte())),
        Op::Reinterpret(dtype, _) => (9, u64::from(dtype.to_byte())),
    };
    [kind << 32 | code, a, b, c]
}
