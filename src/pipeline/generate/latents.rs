//! Intermediate latents for `--save-latents`.

use std::{collections::BTreeMap, path::Path};

use ndarray::ArrayD;
use safetensors::{Dtype, SafeTensorError, tensor::TensorView};

use crate::{
    error::{Error, Result},
    media::PendingFile,
};

/// Latents by name, and the file to save them to; without a file, nothing is stored.
pub(super) struct Latents<'a> {
    path: Option<&'a Path>,
    overwrite: bool,
    latents: BTreeMap<String, ArrayD<f32>>,
}

impl<'a> Latents<'a> {
    /// No latents yet.
    pub(super) fn new(path: Option<&'a Path>, overwrite: bool) -> Self {
        Self { path, overwrite, latents: BTreeMap::new() }
    }

    /// Stores a latent.
    pub(super) fn add(&mut self, name: String, latent: &ArrayD<f32>) {
        if self.path.is_some() {
            self.latents.insert(name, latent.clone());
        }
    }

    /// Writes all latents as f32 tensors to a safetensors file.
    pub(super) fn write(&self) -> Result<()> {
        let Some(path) = self.path else { return Ok(()) };
        let bytes: Vec<(&String, Vec<u8>, &ArrayD<f32>)> =
            self.latents.iter().map(|(n, x)| (n, x.iter().flat_map(|v| v.to_le_bytes()).collect(), x)).collect();
        let failed = |e: SafeTensorError| Error::failed(format!("{}: {e}", path.display()));
        let view = |x: &ArrayD<f32>, bytes| TensorView::new(Dtype::F32, x.shape().to_vec(), bytes).map_err(failed);
        let views = bytes.iter().map(|(name, bytes, x)| Ok((name.as_str(), view(x, bytes)?)));
        let file = safetensors::serialize(views.collect::<Result<Vec<_>>>()?, None).map_err(failed)?;
        let mut pending = PendingFile::create(path, self.overwrite)?;
        pending.write(&file)?;
        pending.commit()?;
        Ok(())
    }
}
