//! Arithmetic of two values with broadcasting, casts and comparison.

use std::ops::{Add, Div, Mul, Neg, Sub};

use crate::{
    onnx::{
        dim::Dim,
        graph::{Value, mismatch},
        op::Op,
        proto::{Attr, elem_type},
    },
    tensor::DType,
};

impl Value {
    /// A scalar constant of this value's element type.
    pub(super) fn scalar(&self, value: f32) -> Self {
        match self.dtype {
            DType::I64 => self.graph.integers(&[value as i64], &[1]),
            dtype => self.graph.constant(&[value], &[], dtype),
        }
    }

    fn binary(&self, kind: &'static str, other: &Self) -> Self {
        let shape = broadcast(&self.shape, &other.shape).unwrap_or_else(|| {
            self.graph.error(mismatch(&format!("{}: {kind}", self.name), &self.shape, &other.shape));
            self.shape.clone()
        });
        self.graph.node(Op::pointwise(kind), &[self, other], shape, self.dtype)
    }

    /// The value in another element type.
    pub fn cast(&self, dtype: DType) -> Self {
        if self.dtype == dtype {
            return self.clone();
        }
        let op = Op::pointwise("Cast").attr("to", Attr::Int(elem_type(dtype).into()));
        self.graph.node(op, &[self], self.shape.clone(), dtype)
    }

    /// `then` where this value exceeds `limit`, else `otherwise`. Both have one shape, to which this value broadcasts.
    pub fn if_above(&self, limit: f32, then: &Self, otherwise: &Self) -> Self {
        let limit = self.scalar(limit);
        let above = self.graph.node(Op::pointwise("Greater"), &[self, &limit], self.shape.clone(), DType::Bool);
        self.graph.node(Op::pointwise("Where"), &[&above, then, otherwise], then.shape.clone(), then.dtype)
    }
}

/// NumPy's broadcasting; `None` if the extents do not match.
pub(super) fn broadcast(a: &[Dim], b: &[Dim]) -> Option<Vec<Dim>> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let offset = long.len() - short.len();
    let one = Dim::from(1);
    let fit = |i: usize| {
        let x = &long[i];
        let Some(y) = i.checked_sub(offset).map(|j| &short[j]) else { return Some(x.clone()) };
        match (x == &one, y == &one) {
            (true, _) => Some(y.clone()),
            (_, true) => Some(x.clone()),
            _ => (x == y).then(|| x.clone()),
        }
    };
    (0..long.len()).map(fit).collect()
}

macro_rules! operator {
    ($($trait:ident $method:ident $kind:literal),*) => {$(
        impl $trait<&Value> for &Value {
            type Output = Value;
            fn $method(self, other: &Value) -> Value {
                self.binary($kind, other)
            }
        }
        impl $trait<Value> for &Value {
            type Output = Value;
            fn $method(self, other: Value) -> Value {
                self.binary($kind, &other)
            }
        }
        impl $trait<&Value> for Value {
            type Output = Value;
            fn $method(self, other: &Value) -> Value {
                self.binary($kind, other)
            }
        }
        impl $trait<Value> for Value {
            type Output = Value;
            fn $method(self, other: Value) -> Value {
                self.binary($kind, &other)
            }
        }
        impl $trait<f32> for &Value {
            type Output = Value;
            fn $method(self, other: f32) -> Value {
                self.binary($kind, &self.scalar(other))
            }
        }
        impl $trait<f32> for Value {
            type Output = Value;
            fn $method(self, other: f32) -> Value {
                self.binary($kind, &self.scalar(other))
            }
        }
    )*};
}

operator!(Add add "Add", Sub sub "Sub", Mul mul "Mul", Div div "Div");

impl Neg for &Value {
    type Output = Value;
    fn neg(self) -> Value {
        self.map(Op::pointwise("Neg"))
    }
}

impl Neg for Value {
    type Output = Value;
    fn neg(self) -> Value {
        -&self
    }
}
