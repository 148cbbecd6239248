//! The VAE encoder of a family: pictures or clips → latents as the transformer takes them.

use ndarray::{Array3, ArrayD};

use crate::{
    compile::Subgraph,
    error::{Error, Result},
    family::Family,
    model::ModelFolder,
    onnx::Model,
    pipeline::context::{Context, Role},
    runtime,
    stage::vae::{self, Tiling, VideoEncoder},
};

/// The graphs of a VAE encoder.
#[derive(Debug)]
pub(super) struct EncoderGraphs {
    first: Model,
    later: Option<Model>,
}

impl EncoderGraphs {
    /// Builds the graphs.
    pub(super) fn new(folder: &ModelFolder, family: &dyn Family, cx: &Context<'_>) -> Result<Self> {
        let graph = |part| cx.graph(folder, "vae", part, Role::Exact);
        Ok(Self {
            first: graph(Subgraph::Encoder)?,
            later: family.is_video().then(|| graph(Subgraph::CachedEncoder)).transpose()?,
        })
    }
}

/// A loaded VAE encoder. It encodes pictures into normalized latents, [1, c, h, w] or [1, c, t, h, w]: the mean of the distribution.
pub(super) struct VaeEncoder<'a> {
    family: &'a dyn Family,
    network: Networks,
    tiling: Option<Tiling>,
}

enum Networks {
    Picture(runtime::Network),
    Video(Box<VideoEncoder>),
}

impl<'a> VaeEncoder<'a> {
    /// The family of the latents.
    pub(super) fn family(&self) -> &'a dyn Family {
        self.family
    }

    /// Loads the networks.
    pub(super) fn load(
        graphs: &EncoderGraphs,
        family: &'a dyn Family,
        tiling: Option<Tiling>,
        cx: &Context<'_>,
    ) -> Result<Self> {
        let load = |graph| cx.load_large("vae encoder", graph);
        let first = load(&graphs.first)?;
        let network = match &graphs.later {
            Some(later) => Networks::Video(Box::new(VideoEncoder::new(first, load(later)?, tiling)?)),
            None => Networks::Picture(first),
        };
        Ok(Self { family, network, tiling })
    }

    /// Encodes planes [3, h, w] in 0..=1, whose extents are multiples of the VAE's scale factor.
    pub(super) fn picture(&mut self, planes: &Array3<f32>) -> Result<ArrayD<f32>> {
        let mean = match &mut self.network {
            Networks::Picture(network) => vae::encode(network, planes, self.tiling)?,
            Networks::Video(video) => video.encode(&mut std::iter::once(Ok(planes.clone())))?,
        };
        Ok(self.family.normalize(&mean))
    }

    /// Encodes the frames of a clip in order, each as in [`VaeEncoder::picture`]. Their number is one that the family supports.
    pub(super) fn video(&mut self, pictures: &mut dyn Iterator<Item = Result<Array3<f32>>>) -> Result<ArrayD<f32>> {
        match &mut self.network {
            Networks::Picture(_) => {
                Err(Error::failed(format!("{} encodes single pictures, got a clip", self.family.name())))
            }
            Networks::Video(video) => Ok(self.family.normalize(&video.encode(pictures)?)),
        }
    }
}
