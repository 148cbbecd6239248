//! A scope: the prefix of weights in a checkpoint and of node names in a graph.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    rc::Rc,
};

use super::{
    graph::{Graph, Value},
    model::Model,
    op::Op,
};
use crate::{
    error::Result,
    weights::{Checkpoint, Stored},
};

/// A prefix in a checkpoint and in a graph. Clones share both.
#[derive(Clone)]
pub(crate) struct Scope {
    graph: Graph,
    weights: Rc<Weights>,
    path: String,
}

struct Weights {
    checkpoint: Checkpoint,
    /// A second checkpoint that is blended in, and the share of the first.
    blend: Option<(Checkpoint, f32)>,
    made: RefCell<BTreeMap<String, Value>>,
    ignored: RefCell<BTreeSet<String>>,
}

impl Scope {
    /// The root of a checkpoint, over an empty graph.
    pub(crate) fn new(graph: &Graph, checkpoint: &Checkpoint) -> Self {
        Self::over(graph, checkpoint, None)
    }

    /// The root of two checkpoints of one network. The graph computes every weight as share·own + (1 − share)·other.
    pub(crate) fn blended(graph: &Graph, own: &Checkpoint, other: &Checkpoint, share: f32) -> Self {
        let foreign: Vec<&str> = other.names().filter(|n| !own.contains(n)).collect();
        if let Some(first) = foreign.first() {
            let (count, origin) = (foreign.len(), other.origin().display());
            graph.error(format!("{origin}: {count} weights, such as {first}, belong to another network"));
        }
        Self::over(graph, own, Some((other.clone(), share)))
    }

    fn over(graph: &Graph, checkpoint: &Checkpoint, blend: Option<(Checkpoint, f32)>) -> Self {
        let (made, ignored) = (RefCell::default(), RefCell::default());
        let weights = Weights { checkpoint: checkpoint.clone(), blend, made, ignored };
        Self { graph: graph.clone(), weights: Rc::new(weights), path: String::new() }
    }

    /// A nested scope: `w.at("attn")`, `w.at("blocks").at(3)`.
    pub(crate) fn at(&self, segment: impl Display) -> Self {
        Self { path: self.join(&segment.to_string()), ..self.clone() }
    }

    /// The graph that this scope writes to.
    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() { name.into() } else { format!("{}.{name}", self.path) }
    }

    /// The node name of a prefix: `transformer_blocks.3.attn` → `transformer_blocks.3/attn`. An index stays with its list.
    fn node_name(path: &str) -> String {
        let mut out = String::new();
        for part in path.split('.') {
            let index = part.bytes().all(|b| b.is_ascii_digit());
            out.push_str(if out.is_empty() {
                ""
            } else if index {
                "."
            } else {
                "/"
            });
            out.push_str(part);
        }
        out
    }

    /// A stored tensor in this scope; `None` if it is missing.
    pub(crate) fn stored(&self, name: &str) -> Option<&Stored> {
        self.weights.checkpoint.get(&self.join(name))
    }

    /// Whether the checkpoint has this tensor.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.stored(name).is_some()
    }

    /// Marks a tensor as unused on purpose, so that it is not reported.
    pub(crate) fn ignore(&self, name: &str) {
        self.weights.ignored.borrow_mut().insert(self.join(name));
    }

    /// Marks every tensor below a prefix as unused on purpose.
    pub(crate) fn ignore_below(&self, name: &str) {
        let prefix = format!("{}.", self.join(name));
        let names = self.weights.checkpoint.names().filter(|n| n.starts_with(&prefix));
        self.weights.ignored.borrow_mut().extend(names.map(str::to_string));
    }

    /// A weight of the given shape. If it is missing or misshapen, the error is recorded and a placeholder returned.
    pub(crate) fn weight(&self, name: &str, shape: &[usize]) -> Value {
        self.weight_as(name, shape, shape)
    }

    /// A weight of shape `shape`, reinterpreted as `view` without a copy. One view per graph.
    pub(crate) fn weight_as(&self, name: &str, shape: &[usize], view: &[usize]) -> Value {
        let full = self.join(name);
        let placeholder = || Value {
            graph: self.graph.clone(),
            name: full.clone(),
            shape: view.iter().map(|&d| d.into()).collect(),
            dtype: self.graph.target().compute,
        };
        let Some(stored) = self.weights.checkpoint.get(&full) else {
            self.graph.error(format!("{full} {shape:?} is missing"));
            return placeholder();
        };
        if stored.shape != shape {
            self.graph.error(format!("{full} must be {shape:?} and is {:?}", stored.shape));
            self.ignore(name);
            return placeholder();
        }
        if !stored.dtype.is_float() {
            self.graph.error(format!("{full} must be floating and is {}", stored.dtype.name()));
            self.ignore(name);
            return placeholder();
        }
        if let Some(value) = self.weights.made.borrow().get(&full) {
            return value.clone();
        }
        let value = self.graph.weight(&full, &Stored { shape: view.to_vec(), ..stored.clone() });
        let value = match &self.weights.blend {
            Some((other, share)) => self.blend(&full, value, other, *share, view),
            None => value,
        };
        self.weights.made.borrow_mut().insert(full, value.clone());
        value
    }

    fn blend(&self, full: &str, own: Value, other: &Checkpoint, share: f32, view: &[usize]) -> Value {
        let stored = other.get(full).filter(|s| s.elements() == view.iter().product::<usize>() && s.dtype.is_float());
        let Some(stored) = stored else {
            self.graph.error(format!(
                "{}: {full} {view:?} is missing; the checkpoints are of different networks",
                other.origin().display()
            ));
            return own;
        };
        let other = self.graph.weight(&format!("{full}.other"), &Stored { shape: view.to_vec(), ..stored.clone() });
        own * share + other * (1.0 - share)
    }

    /// Names the next nodes after this scope.
    pub(crate) fn enter(&self) {
        self.graph.enter(&Self::node_name(&self.path));
    }

    /// Names the nodes that `make` appends after the nested scope `name`.
    pub(super) fn named(&self, name: &str, make: impl FnOnce() -> Value) -> Value {
        self.at(name).enter();
        let value = make();
        self.enter();
        value
    }

    /// An operator named after a layer of this scope.
    pub(super) fn op(&self, kind: &'static str, name: &str) -> Op {
        self.enter();
        Op::new(kind).named(Self::node_name(&self.join(name)))
    }

    /// Number of modules in a list of this scope.
    pub(crate) fn count(&self, name: &str) -> usize {
        let full = self.join(name);
        let found = self.weights.checkpoint.children(&full).len();
        self.weights.checkpoint.sequence_len(&full).unwrap_or(0).min(2 * found)
    }

    /// The finished model.
    ///
    /// # Errors
    /// All missing, misshapen and unused weights, in one message.
    pub(crate) fn finish(self) -> Result<Model> {
        let made = self.weights.made.borrow();
        let ignored = self.weights.ignored.borrow();
        let unused: Vec<&str> =
            self.weights.checkpoint.names().filter(|n| !made.contains_key(*n) && !ignored.contains(*n)).collect();
        for name in unused {
            let shape = self.weights.checkpoint.get(name).map(|s| s.shape.clone()).unwrap_or_default();
            self.graph.error(format!("{name} {shape:?} is not used by this architecture"));
        }
        let origin = self.weights.checkpoint.origin().display().to_string();
        drop((made, ignored));
        self.graph.clone().finish().map_err(|e| e.at(origin))
    }
}
