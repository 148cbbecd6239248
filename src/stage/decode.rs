//! Latents → pictures, and back.

use ndarray::{Array3, ArrayD, Axis};

use crate::{
    error::{Error, Result},
    runtime::{Network, finite},
    tensor::Tensor,
};

/// One un-scaled latent [1, c, h, w] → planes [3, h·f, w·f] in 0..=1, clamped.
pub fn decode(network: &mut Network, latent: ArrayD<f32>) -> Result<Array3<f32>> {
    let picture = only(network, "latents", latent)?;
    let planes = picture.mapv(|v| (v * 0.5 + 0.5).clamp(0.0, 1.0));
    first_item(planes, network.name())
}

/// Planes [3, h, w] in 0..=1 → the mean of the latent's distribution [1, c, h/f, w/f], not yet scaled.
pub fn encode(network: &mut Network, picture: &Array3<f32>) -> Result<ArrayD<f32>> {
    let input = picture.mapv(|v| v * 2.0 - 1.0).insert_axis(Axis(0)).into_dyn();
    only(network, "picture", input)
}

fn only(network: &mut Network, input: &str, value: ArrayD<f32>) -> Result<ArrayD<f32>> {
    let value = Tensor::F32(value);
    let answer = network.run(&[(input, &value)])?.into_iter().next();
    let Some((name, tensor)) = answer else {
        return Err(Error::failed(format!("{}: no output", network.name())));
    };
    finite(&format!("{} {name}", network.name()), &tensor)?;
    match tensor {
        Tensor::F32(a) => Ok(a),
        Tensor::I64(_) => Err(Error::failed(format!("{}: output {name} is not floating", network.name()))),
    }
}

/// Item 0 of [1, c, h, w].
pub(crate) fn first_item(a: ArrayD<f32>, name: &str) -> Result<Array3<f32>> {
    let shape = a.shape().to_vec();
    a.index_axis_move(Axis(0), 0)
        .into_dimensionality()
        .map_err(|_| Error::failed(format!("{name}: {shape:?} where [1, c, h, w] was wanted")))
}
