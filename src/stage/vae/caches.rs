//! Temporal caches of a video network, carried from one call to the next.

use crate::{
    error::{Error, Result},
    runtime::{Held, InputValue, Network},
};

/// The cache inputs of the next call: `cache.0`, `cache.1`, … The values stay with ONNX Runtime.
#[derive(Default)]
pub(super) struct Caches(Vec<Held>);

impl Caches {
    /// Whether no call has been made yet.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Runs a network on an input and the caches, stores its `next.N` outputs as the new caches, and returns its other outputs.
    /// A cache without a `next` output takes the value of the cache after it; at the first call, zeros.
    pub(super) fn step(&mut self, network: &mut Network, input: (&str, InputValue<'_>)) -> Result<Vec<(String, Held)>> {
        let names: Vec<String> = (0..self.0.len()).map(|i| format!("cache.{i}")).collect();
        let caches = names.iter().zip(&self.0).map(|(name, held)| (name.as_str(), InputValue::Held(held)));
        let outputs = network.run_held(&[input].into_iter().chain(caches).collect::<Vec<_>>())?;
        let number = |name: &str| name.strip_prefix("next.").and_then(|n| n.parse::<usize>().ok());
        let (mut next, rest): (Vec<_>, Vec<_>) = outputs.into_iter().partition(|(name, _)| number(name).is_some());
        let count = next.iter().filter_map(|(name, _)| number(name)).max().map_or(0, |last| last + 1);
        let mut old: Vec<Option<Held>> = std::mem::take(&mut self.0).into_iter().map(Some).collect();
        old.resize_with(count + 1, || None);
        next.reverse();
        for i in 0..count {
            let own = next.pop_if(|(name, _)| number(name) == Some(i)).map(|(_, value)| value);
            let value = match (own, old[i + 1].take(), next.last()) {
                (Some(value), ..) | (None, Some(value), _) => value,
                (None, None, Some((_, after))) => after.zeros_like()?,
                (None, None, None) => return Err(Error::failed(format!("{}: no output next.{i}", network.name()))),
            };
            self.0.push(value);
        }
        Ok(rest)
    }
}
