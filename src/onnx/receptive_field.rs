//! Receptive field: the input pixels that an output pixel depends on.
//!
//! Every operator records how its rows depend on its input's ([`Rows`]). The graph is followed back from the output, and the range of
//! rows that each value contributes is widened by each operator. Rows stand for columns too: kernels are square.

use std::collections::{HashMap, HashSet};

use super::{graph::Graph, op::Rows};

/// Rows first ..= last.
type Range = (i64, i64);

/// The input rows that a range of output rows depends on; `None` if they may be all.
fn back(rows: Rows, (first, last): Range) -> Option<Range> {
    match rows {
        Rows::All => None,
        Rows::Same => Some((first, last)),
        Rows::Window { kernel, stride, before } => {
            let (stride, before) = (stride as i64, before as i64);
            Some((first * stride - before, last * stride - before + kernel as i64 - 1))
        }
        Rows::Upsampled(n) => Some((first.div_euclid(n as i64), last.div_euclid(n as i64))),
        Rows::Blocks(n) => Some((first * n as i64, last * n as i64 + n as i64 - 1)),
    }
}

impl Graph {
    /// Receptive field beyond a block of `unit` × `unit` input pixels, in pixels to each side, of the `unit·scale` × `unit·scale`
    /// output pixels that it produces. `None` if an operator between them uses the whole picture, or if none connects them.
    pub fn receptive_field(&self, input: &str, output: &str, unit: usize, scale: usize) -> Option<usize> {
        let g = self.0.borrow();
        let mut of_picture = HashSet::from([input]);
        for node in &g.nodes {
            if node.input.iter().any(|i| of_picture.contains(i.as_str())) {
                of_picture.extend(node.output.iter().map(String::as_str));
            }
        }
        let mut needed: HashMap<&str, Range> = HashMap::from([(output, (0, (unit * scale) as i64 - 1))]);
        // Nodes follow their inputs, so in reverse order the range of a value is complete before its inputs' are computed.
        for node in g.nodes.iter().rev() {
            let Some((name, range)) = node.output.iter().find_map(|o| Some((o, *needed.get(o.as_str())?))) else {
                continue;
            };
            let (from, rows) = g.rows.get(name)?;
            let range = back(*rows, range)?;
            let inputs = from.as_ref().map_or(node.input.as_slice(), std::slice::from_ref);
            for name in inputs.iter().filter(|name| of_picture.contains(name.as_str())) {
                let known = needed.entry(name).or_insert(range);
                *known = (known.0.min(range.0), known.1.max(range.1));
            }
        }
        let (first, last) = *needed.get(input)?;
        Some((-first).max(last - (unit as i64 - 1)).max(0) as usize)
    }
}
