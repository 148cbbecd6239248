//! Symbolic extents as values, computed at run time from the shapes of the inputs.

use super::{
    dim::Dim,
    graph::{Graph, Value},
    op::Op,
    proto::Attr,
};
use crate::tensor::DType;

impl Graph {
    /// 0, 1, … extent−1 as i64 `[extent]`.
    pub fn range(&self, extent: &Dim) -> Value {
        let (zero, one) = (self.integers(&[0], &[]), self.integers(&[1], &[]));
        let end = self.extent(extent).reshape(&[]);
        self.node(Op::new("Range"), &[&zero, &end, &one], vec![extent.clone()], DType::I64)
    }

    /// An extent as a one-element i64 value.
    pub(super) fn extent(&self, dim: &Dim) -> Value {
        if let Some(n) = dim.known() {
            return self.integers(&[n as i64], &[1]);
        }
        let computed = |name| Value { graph: self.clone(), name, shape: vec![1.into()], dtype: DType::I64 };
        if let Some(name) = self.0.borrow().extents.get(dim) {
            return computed(name.clone());
        }
        let scope = std::mem::replace(&mut self.0.borrow_mut().scope, "extents".into());
        let value = self.computed_extent(dim);
        let mut g = self.0.borrow_mut();
        g.scope = scope;
        g.extents.insert(dim.clone(), value.name.clone());
        computed(value.name)
    }

    fn computed_extent(&self, dim: &Dim) -> Value {
        let mut total: Option<Value> = None;
        for (symbols, coefficient) in dim.terms() {
            let mut term = (coefficient != 1 || symbols.is_empty()).then(|| self.integers(&[coefficient], &[1]));
            for symbol in symbols {
                let lone = Dim::symbol(symbol);
                let value = if lone == *dim { self.symbol(symbol) } else { self.extent(&lone) };
                term = Some(term.map_or(value.clone(), |t| t * &value));
            }
            total = match (total, term) {
                (Some(sum), Some(term)) => Some(sum + term),
                (sum, term) => sum.or(term),
            };
        }
        total.unwrap_or_else(|| self.integers(&[0], &[1]))
    }

    fn symbol(&self, symbol: &str) -> Value {
        let Some((input, axis, factor)) = self.0.borrow().symbols.get(symbol).cloned() else {
            self.error(format!("no input defines the extent {symbol}"));
            return self.integers(&[1], &[1]);
        };
        let source = Value { graph: self.clone(), name: input, shape: vec![], dtype: DType::I64 };
        let axis = axis as i64;
        let op = Op::new("Shape").attr("start", Attr::Int(axis)).attr("end", Attr::Int(axis + 1));
        let extent = self.node(op, &[&source], vec![1.into()], DType::I64);
        if factor == 1 { extent } else { &extent / &self.integers(&[factor as i64], &[1]) }
    }
}
