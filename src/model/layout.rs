//! Layouts of latents, positions and other inputs that several families share.

use ndarray::{Array2, ArrayD, IxDyn};

use crate::{
    error::{Error, Result},
    tensor::Tensor,
};

/// Token ids as an input [1, n].
pub(crate) fn token_ids(ids: Vec<i64>) -> Tensor {
    Tensor::I64(Array2::from_shape_vec((1, ids.len()), ids).unwrap_or_default().into_dyn())
}

/// A number as an input [1].
pub(crate) fn scalar(value: f32) -> Tensor {
    Tensor::F32(ArrayD::from_elem(IxDyn(&[1]), value))
}

/// cos and sin of the interleaved rotary angles of integer positions. An axis of d dims has the angles p·θ^(−2j/d), computed in f64.
pub(crate) fn rotary<const N: usize>(
    ids: impl Iterator<Item = [usize; N]>,
    axes: &[usize],
    theta: f64,
) -> Vec<(&'static str, Tensor)> {
    rotary_signed(ids.map(|id| id.map(|p| p as i64)), axes, theta)
}

/// As [`rotary`], for positions that may be negative.
pub(crate) fn rotary_signed<const N: usize>(
    ids: impl Iterator<Item = [i64; N]>,
    axes: &[usize],
    theta: f64,
) -> Vec<(&'static str, Tensor)> {
    let angles: Vec<f64> = ids
        .flat_map(|id| {
            let turn = |p: i64, d: usize, j: usize| p as f64 / theta.powf(2.0 * j as f64 / d as f64);
            let axes = id.into_iter().zip(axes.to_vec());
            axes.flat_map(move |(p, d)| (0..d / 2).map(move |j| turn(p, d, j))).collect::<Vec<_>>()
        })
        .collect();
    let half = axes.iter().sum::<usize>() / 2;
    let table = |f: fn(f64) -> f64| {
        let values = angles.iter().map(|&a| f(a) as f32).collect();
        Array2::from_shape_vec((angles.len() / half, half), values).unwrap_or_default().into_dyn().into()
    };
    vec![("rope.cos", table(f64::cos)), ("rope.sin", table(f64::sin))]
}

/// Checks the shape of the transformer's output: [n, tokens, features].
pub(crate) fn check_tokens(tokens: &ArrayD<f32>, expected: [usize; 3]) -> Result<()> {
    let found = tokens.shape();
    if found == expected {
        return Ok(());
    }
    Err(Error::failed(format!("the transformer's output has the shape {found:?}, expected {expected:?}")))
}

/// [n, c, h, w] → [n, h/2·w/2, 4c]: 2×2 patches as tokens, features in the order channel, row, column.
pub(crate) fn pack(x: &ArrayD<f32>) -> ArrayD<f32> {
    let [n, c, h, w] = [0, 1, 2, 3].map(|a| x.shape()[a]);
    ArrayD::from_shape_fn(IxDyn(&[n, h / 2 * (w / 2), 4 * c]), |i| {
        let (token, feature) = (i[1], i[2]);
        let (row, column) = (token / (w / 2), token % (w / 2));
        x[[i[0], feature / 4, 2 * row + feature / 2 % 2, 2 * column + feature % 2]]
    })
}

/// The inverse of [`pack`] for a latent of shape [n, c, h, w].
pub(crate) fn unpack(tokens: &ArrayD<f32>, latent: &[usize]) -> Result<ArrayD<f32>> {
    let [n, c, h, w] = [0, 1, 2, 3].map(|a| latent[a]);
    check_tokens(tokens, [n, h / 2 * (w / 2), 4 * c])?;
    Ok(ArrayD::from_shape_fn(IxDyn(latent), |i| {
        let (row, column) = (i[2], i[3]);
        tokens[[i[0], row / 2 * (w / 2) + column / 2, 4 * i[1] + row % 2 * 2 + column % 2]]
    }))
}

/// [n, c, h, w] → [n, h·w, c]: pixels as tokens.
pub(crate) fn row_major(x: &ArrayD<f32>) -> ArrayD<f32> {
    let [n, c, h, w] = [0, 1, 2, 3].map(|a| x.shape()[a]);
    ArrayD::from_shape_fn(IxDyn(&[n, h * w, c]), |i| x[[i[0], i[2], i[1] / w, i[1] % w]])
}

/// The inverse of [`row_major`] for a latent of shape [n, c, h, w].
pub(crate) fn spatial(tokens: &ArrayD<f32>, latent: &[usize]) -> Result<ArrayD<f32>> {
    let [n, c, h, w] = [0, 1, 2, 3].map(|a| latent[a]);
    check_tokens(tokens, [n, h * w, c])?;
    Ok(ArrayD::from_shape_fn(IxDyn(latent), |i| tokens[[i[0], i[2] * w + i[3], i[1]]]))
}

/// [n, c, h, w] → [n, h/2·w/2, 4c]: 2×2 patches as tokens, features in the order row, column, channel.
pub(crate) fn pack_channels_last(x: &ArrayD<f32>) -> ArrayD<f32> {
    let [n, c, h, w] = [0, 1, 2, 3].map(|a| x.shape()[a]);
    ArrayD::from_shape_fn(IxDyn(&[n, h / 2 * (w / 2), 4 * c]), |i| {
        let (token, corner) = (i[1], i[2] / c);
        let (row, column) = (token / (w / 2), token % (w / 2));
        x[[i[0], i[2] % c, 2 * row + corner / 2, 2 * column + corner % 2]]
    })
}

/// The inverse of [`pack_channels_last`] for a latent of shape [n, c, h, w].
pub(crate) fn unpack_channels_last(tokens: &ArrayD<f32>, latent: &[usize]) -> Result<ArrayD<f32>> {
    let [n, c, h, w] = [0, 1, 2, 3].map(|a| latent[a]);
    check_tokens(tokens, [n, h / 2 * (w / 2), 4 * c])?;
    Ok(ArrayD::from_shape_fn(IxDyn(latent), |i| {
        let (row, column) = (i[2], i[3]);
        tokens[[i[0], row / 2 * (w / 2) + column / 2, (row % 2 * 2 + column % 2) * c + i[1]]]
    }))
}
