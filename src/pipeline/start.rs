//! A start from a picture: encode, spectral enlargement of its latent, noise.

use ndarray::ArrayD;

use super::{context::Context, resolved::Resolved, vae::Way};
use crate::{
    error::{At, Error, Result},
    media::{
        picture,
        resize::{Filter, resize},
    },
    onnx::Model,
    plan::Start,
    spectral::{Growth, Transform},
    stage::decode,
};

/// The picture's latent at the run's full size, scaled as the transformer takes it. A picture of the run's size is encoded as it is; a
/// smaller one is encoded at its own size and its latent grown in the frequency domain; a larger one is reduced first.
pub fn latent(start: &Start, r: &Resolved, cx: &Context<'_>, encoder: &Model) -> Result<ArrayD<f32>> {
    let place = start.image.display();
    let read = picture::read(&start.image)?;
    let planes = read.frame.planes().slice_move(ndarray::s![..3, .., ..]);
    let (_, h, w) = planes.dim();
    let (height, width) = (r.size.height, r.size.width);
    let stretch = (h * width) as f64 / (w * height) as f64;
    if !(0.98..=1.02).contains(&stretch) {
        let fits = (width as f64 * h as f64 / w as f64).round();
        return Err(Error::usage(format!(
            "--image-path {place} has {w}×{h} pixels, of another shape than {width}×{height}; crop it, or ask for {width}×{fits} or so"
        )));
    }
    let multiple = r.family.factor() * r.family.patch();
    let snap = |n: usize, most: usize| (n.div_ceil(multiple) * multiple).min(most);
    let (eh, ew) = (snap(h, height), snap(w, width));
    let planes = resize(&planes, eh, ew, Filter::Bicubic)?;
    let mut network = cx.load_large("vae encoder", encoder)?;
    let mean = decode::encode(&mut network, &planes, r.vae.announced(Way::Encode, (eh, ew), cx))
        .at(format!("--image-path {place}"))?;
    let latent = r.family.scale(&mean);
    if (eh, ew) == (height, width) {
        return Ok(latent);
    }
    // At σ = 0 the rewind is the plain amplitude factor of the enlargement, and no noise enters.
    let nothing = ArrayD::zeros(r.family.latent_shape(r.size));
    let growth = Growth { transform: Transform::Dct, rewind: true };
    Ok(growth.grow(&latent, &nothing, 0.0)?.0)
}
