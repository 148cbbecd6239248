//! What a network for videos keeps from one call to the next.

use crate::{
    error::{Error, Result},
    runtime::{Held, Input, Network},
};

/// What one call of a network keeps for the next: `cache.0`, `cache.1`, …
#[derive(Default)]
pub(super) struct Caches(Vec<Held>);

impl Caches {
    /// Whether nothing came before.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Runs a network on an input and the caches, which become those of the next call; what else it gives. A cache without its own
    /// `next` takes what the cache after it held; zeros where that held nothing yet.
    pub fn step(&mut self, network: &mut Network, input: (&str, Input<'_>)) -> Result<Vec<(String, Held)>> {
        let names: Vec<String> = (0..self.0.len()).map(|i| format!("cache.{i}")).collect();
        let caches = names.iter().zip(&self.0).map(|(name, held)| (name.as_str(), Input::Held(held)));
        let answer = network.run_held(&[input].into_iter().chain(caches).collect::<Vec<_>>())?;
        let number = |name: &str| name.strip_prefix("next.").and_then(|n| n.parse::<usize>().ok());
        let (mut fresh, rest): (Vec<_>, Vec<_>) = answer.into_iter().partition(|(name, _)| number(name).is_some());
        let count = fresh.iter().filter_map(|(name, _)| number(name)).max().map_or(0, |last| last + 1);
        let mut old: Vec<Option<Held>> = std::mem::take(&mut self.0).into_iter().map(Some).collect();
        old.resize_with(count + 1, || None);
        fresh.reverse();
        for i in 0..count {
            let here = fresh.pop_if(|(name, _)| number(name) == Some(i)).map(|(_, value)| value);
            let value = match (here, old[i + 1].take(), fresh.last()) {
                (Some(value), ..) | (None, Some(value), _) => value,
                (None, None, Some((_, after))) => after.zeros_like()?,
                (None, None, None) => return Err(Error::failed(format!("{}: no next.{i}", network.name()))),
            };
            self.0.push(value);
        }
        Ok(rest)
    }
}
