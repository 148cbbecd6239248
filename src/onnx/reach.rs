//! How far a network sees: which input pixels an output pixel depends on, followed back through the graph.

use std::collections::{HashMap, HashSet};

use super::{graph::Graph, value::Value};

/// How a value's rows and columns come from those of its one spatial input.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seen {
    /// Row i from rows i·stride − before ..= i·stride − before + kernel − 1.
    Kernel { kernel: usize, stride: usize, before: usize },
    /// Row i from row i/n.
    Enlarged(usize),
    /// Row i from rows i·n ..= i·n + n − 1.
    Blocks(usize),
}

/// Operators of which a row is made from the same row of all inputs.
const POINTWISE: [&str; 12] =
    ["Add", "Cast", "Clip", "Concat", "Div", "Identity", "LeakyRelu", "Mul", "PRelu", "Relu", "Sigmoid", "Sub"];

/// Rows first ..= last.
type Rows = (i64, i64);

impl Seen {
    fn back(self, (first, last): Rows) -> Rows {
        match self {
            Self::Kernel { kernel, stride, before } => {
                let (stride, before) = (stride as i64, before as i64);
                (first * stride - before, last * stride - before + kernel as i64 - 1)
            }
            Self::Enlarged(n) => (first.div_euclid(n as i64), last.div_euclid(n as i64)),
            Self::Blocks(n) => (first * n as i64, last * n as i64 + n as i64 - 1),
        }
    }
}

impl Graph {
    /// Notes how the rows and columns of `value` come from those of `input`.
    pub(super) fn sees(&self, value: &Value, input: &Value, seen: Seen) {
        self.0.borrow_mut().seen.insert(value.name.clone(), (input.name.clone(), seen));
    }

    /// Input pixels to each side of a block of `unit` × `unit` of them that its part of the output, `unit` · `scale` pixels each
    /// way, depends on. None where an operator on the way sees the whole picture, or none leads to the input.
    pub fn receptive_field(&self, input: &str, output: &str, unit: usize, scale: usize) -> Option<usize> {
        let g = self.0.borrow();
        let mut of_picture = HashSet::from([input]);
        for node in g.made() {
            if node.input.iter().any(|i| of_picture.contains(i.as_str())) {
                of_picture.extend(node.output.iter().map(String::as_str));
            }
        }
        let mut wanted: HashMap<&str, Rows> = HashMap::from([(output, (0, (unit * scale) as i64 - 1))]);
        // Nodes stand after what they use, so in reverse every value's rows are known before those of its inputs are asked for.
        for node in g.made().iter().rev() {
            let Some(rows) = node.output.iter().find_map(|o| wanted.get(o.as_str()).copied()) else { continue };
            let noted = node.output.iter().find_map(|o| g.seen.get(o));
            let (inputs, rows) = match noted {
                Some((from, seen)) => (std::slice::from_ref(from), seen.back(rows)),
                None if POINTWISE.contains(&node.op_type.as_str()) => (node.input.as_slice(), rows),
                None => return None,
            };
            for name in inputs.iter().filter(|name| of_picture.contains(name.as_str())) {
                let known = wanted.entry(name).or_insert(rows);
                *known = (known.0.min(rows.0), known.1.max(rows.1));
            }
        }
        let (first, last) = *wanted.get(input)?;
        Some((-first).max(last - (unit as i64 - 1)).max(0) as usize)
    }
}
