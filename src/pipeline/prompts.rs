//! Prompts as a transformer takes them.

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

/// Each text's condition, in their order. One encoder is loaded at a time, once for all texts; what is cut of a text is warned of.
pub fn encode(
    texts: &[&str],
    folder: &ModelFolder,
    family: &dyn Family,
    cx: &Context<'_>,
    perf: &mut Timings,
) -> Result<Vec<Conditioning>> {
    let mut notes = Vec::new();
    let calls = texts.iter().map(|t| family.tokenize(t, &mut notes)).collect::<Result<Vec<_>>>()?;
    notes.iter().for_each(|n| tracing::warn!("{n}"));
    let mut answers: Vec<Vec<_>> = vec![vec![]; texts.len()];
    for k in 0..calls.first().map_or(0, Vec::len) {
        let component = calls[0][k].component;
        let begin = Instant::now();
        let model = cx.graph(folder, component, subgraph_of(family, component, Subgraph::Full), Role::Transformer)?;
        let mut network = cx.load(component, &model)?;
        let mut task = Task::new(cx.progress, component, Some(texts.len() as u64), Unit::Steps);
        for (answers, calls) in answers.iter_mut().zip(&calls) {
            let answer = text::encode(&mut network, &calls[k]);
            answers.push(answer.map_err(name_damaged_tensor(&folder.root().join(component)))?);
            task.step(1)?;
        }
        perf.add(component, begin.elapsed().as_secs_f64());
    }
    answers.into_iter().map(|a| family.conditioning(a)).collect()
}
