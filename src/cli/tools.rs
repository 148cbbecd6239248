//! `export`, `inspect` and `models`.

use std::path::{Path, PathBuf};

use super::{
    report::{ModelRow, ModelsReport, Pulled, Removed, Report, Usage, UsageRow},
    shared::Shared,
    value,
};
use crate::{
    catalog,
    error::{Error, Result},
    hub::{Hub, Need, cache},
    plan::ExportPlan,
    progress::Progress,
};
use clap::{Args, Subcommand};

/// Flags of `export`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExportArgs {
    /// Checkpoint: folder, file, repository or short name
    #[arg(value_name = "MODEL")]
    pub model: String,

    /// Output folder [default: models/NAME/]
    #[arg(short, long, value_name = "FOLDER")]
    pub output: Option<PathBuf>,

    /// Use standard ONNX operators only, for other engines
    #[arg(long)]
    pub portable: bool,

    /// Picture size of the fixed-shape transformers, in pixels [default: the model's]
    #[arg(long, value_name = "WxH", value_parser = value::size)]
    pub output_size: Option<(usize, usize)>,

    /// Number of levels below that size, each half of the next, that also get a fixed-shape transformer
    #[arg(long, value_name = "N", default_value = "1", value_parser = value::count("progressive_levels"))]
    pub progressive_levels: usize,

    /// Replace existing files
    #[arg(short = 'y', long)]
    pub overwrite: bool,
}

impl ExportArgs {
    /// Finds the checkpoint and chooses the output folder.
    pub(crate) fn resolve(self, shared: &Shared, hub: &Hub) -> Result<ExportPlan> {
        let model = hub.resolve(&self.model, Need::Any)?;
        let output = match self.output {
            Some(output) => output,
            None => Path::new("models").join(short_name(&self.model, &model)?),
        };
        if output.is_file() {
            return Err(Error::usage(format!("-o {} is a file; give a folder", output.display())));
        }
        Ok(ExportPlan {
            name: self.model,
            model,
            output,
            portable: self.portable,
            overwrite: self.overwrite,
            size: self.output_size,
            levels: self.progressive_levels,
            runtime: shared.runtime(),
        })
    }
}

/// `flux1-dev` for a model of the catalogue, else the last part of the repository, folder or file, without extension.
fn short_name(name: &str, path: &Path) -> Result<String> {
    if let Some(entry) = catalog::find(name) {
        return Ok(entry.id.clone());
    }
    // As typed; only `.` and `..` have no file name.
    let canonical = Path::new(name).canonicalize().ok();
    let typed = Path::new(name);
    let from = if typed.file_name().is_some() { typed } else { canonical.as_deref().unwrap_or(typed) };
    let part = if path.is_dir() { from.file_name() } else { from.file_stem() };
    part.and_then(|p| p.to_str())
        .map(|p| p.rsplit(':').next().unwrap_or(p).to_owned())
        .ok_or_else(|| Error::usage(format!("the output folder cannot be named after {name}; give -o FOLDER")))
}

/// Flags of `inspect`.
#[derive(Debug, Clone, Args)]
pub(crate) struct InspectArgs {
    /// Checkpoint or graph: file, folder, repository or short name
    #[arg(value_name = "FILE|FOLDER")]
    pub path: String,
}

/// `models …`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ModelsCommand {
    /// List the short names of the catalogue and whether they are cached
    List,
    /// Download a model
    Pull {
        /// Short name, repository, repository:file or URL
        name: String,
    },
    /// Remove a model from the cache
    Rm {
        /// Short name or repository
        name: String,
    },
    /// Show the disk usage of the cache
    Du,
}

impl ModelsCommand {
    /// Runs the action.
    pub(crate) fn run(self, shared: &Shared, progress: &dyn Progress) -> Result<Box<dyn Report>> {
        let hub = Hub::from_env(shared.offline, progress);
        Ok(match self {
            Self::List => Box::new(ModelsReport {
                models: catalog::entries()
                    .iter()
                    .map(|entry| ModelRow { entry, bytes: entry.bytes(), cached: hub.cached(entry) })
                    .collect(),
            }),
            Self::Pull { name } => {
                let path = match catalog::find(&name) {
                    Some(entry) => hub.pull(entry)?,
                    None => hub.resolve(&name, Need::Any)?,
                };
                Box::new(Pulled { name, path })
            }
            Self::Rm { name } => {
                let bytes = hub.remove(&name)?;
                Box::new(Removed { name, bytes })
            }
            Self::Du => {
                let row = |(repo, bytes): (String, u64)| UsageRow {
                    known: catalog::find(&repo).map(|e| e.id.as_str()),
                    repo,
                    bytes,
                };
                let cache = cache::hub_cache()?;
                let own = cache::own_cache()?;
                Box::new(Usage {
                    repos: cache::usage(&cache).into_iter().map(row).collect(),
                    urls_bytes: cache::bytes_under(&own.join("urls")),
                    cache,
                    own_cache: own,
                })
            }
        })
    }
}
