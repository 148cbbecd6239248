//! An operator before it becomes a node, and how its output's pixels depend on its input's.

use super::proto::Attr;

/// How the rows and columns of an output depend on those of its inputs. It is the contribution of an operator to the receptive
/// field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rows {
    /// Row i may depend on all rows.
    All,
    /// Row i on row i.
    Same,
    /// Row i on rows i·stride − before ..= i·stride − before + kernel − 1.
    Window { kernel: usize, stride: usize, before: usize },
    /// Row i on row i/n.
    Upsampled(usize),
    /// Row i on rows i·n ..= i·n + n − 1.
    Blocks(usize),
}

/// A node's operator and attributes, before it has inputs and outputs.
pub(super) struct Op {
    pub(super) kind: &'static str,
    pub(super) domain: &'static str,
    pub(super) name: Option<String>,
    pub(super) attrs: Vec<(&'static str, Attr)>,
    pub(super) rows: Rows,
}

impl Op {
    /// An operator of ONNX's own domain, of which nothing is known about rows.
    pub(super) fn new(kind: &'static str) -> Self {
        Self { kind, domain: "", name: None, attrs: vec![], rows: Rows::All }
    }

    /// An operator whose output has the rows and columns of its inputs.
    pub(super) fn pointwise(kind: &'static str) -> Self {
        Self { rows: Rows::Same, ..Self::new(kind) }
    }

    pub(super) fn rows(self, rows: Rows) -> Self {
        Self { rows, ..self }
    }

    pub(super) fn domain(mut self, domain: &'static str) -> Self {
        self.domain = domain;
        self
    }

    pub(super) fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    pub(super) fn attr(mut self, name: &'static str, value: Attr) -> Self {
        self.attrs.push((name, value));
        self
    }

    pub(super) fn int(self, name: &'static str, value: usize) -> Self {
        self.attr(name, Attr::Int(value as i64))
    }

    pub(super) fn ints(self, name: &'static str, values: &[usize]) -> Self {
        self.attr(name, Attr::Ints(values.iter().map(|&v| v as i64).collect()))
    }

    pub(super) fn float(self, name: &'static str, value: f32) -> Self {
        self.attr(name, Attr::Float(value))
    }

    pub(super) fn text(self, name: &'static str, value: &'static str) -> Self {
        self.attr(name, Attr::Str(value))
    }
}
