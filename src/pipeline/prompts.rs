//! Prompts → conditioning of the transformer.

use std::time::Instant;

use super::{
    components::subgraph_of,
    context::{Context, Role},
    diagnose::name_damaged_tensor,
    timings::Timings,
};
use crate::{
    compile::Subgraph,
    error::Result,
    family::{Conditioning, Family},
    model::ModelFolder,
    progress::{Task, Unit},
    stage::text,
};

/// The conditioning of each text, in order. One text encoder is loaded at a time, once for all texts. Truncated prompts are warnings.
pub(crate) fn encode(
    texts: &[&str],
    folder: &ModelFolder,
    family: &dyn Family,
    cx: &Context<'_>,
    timings: &mut Timings,
) -> Result<Vec<Conditioning>> {
    let mut notes = Vec::new();
    let calls = texts.iter().map(|t| family.tokenize(t, &mut notes)).collect::<Result<Vec<_>>>()?;
    notes.iter().for_each(|n| tracing::warn!("{n}"));
    let mut outputs: Vec<Vec<_>> = vec![vec![]; texts.len()];
    for k in 0..calls.first().map_or(0, Vec::len) {
        let component = calls[0][k].component;
        let begin = Instant::now();
        let model = cx.graph(folder, component, subgraph_of(family, component, Subgraph::Full), Role::Transformer)?;
        let mut network = cx.load(component, &model)?;
        let mut task = Task::new(cx.progress, component, Some(texts.len() as u64), Unit::Steps);
        for (outputs, calls) in outputs.iter_mut().zip(&calls) {
            let output = text::encode(&mut network, &calls[k]);
            outputs.push(output.map_err(name_damaged_tensor(&folder.root().join(component)))?);
            task.step(1)?;
        }
        timings.add(component, begin.elapsed().as_secs_f64());
    }
    outputs.into_iter().map(|outputs| family.conditioning(outputs)).collect()
}
