//! The latent of a video → its pictures, one latent frame at a time.

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
};

use ndarray::{Array3, ArrayD, Axis, Slice};

use super::{Tiling, caches::Caches, floating, from_signed, planes, tile_file::TileFile};
use crate::{
    error::{At, Error, Result},
    progress::{Progress, Task, Unit},
    runtime::{Held, InputValue, Network, finite},
    tensor::Tensor,
    tiling::{Tiles, crop},
};

/// The networks of a video decoder. The feature networks turn a latent frame into the small features of several pictures; the
/// picture networks turn the features of one picture into the picture.
pub struct DecoderNetworks {
    /// The first latent frame → its features.
    pub first_features: Network,
    /// Each later latent frame → its features.
    pub later_features: Network,
    /// The features of the first picture → the picture.
    pub first_picture: Network,
    /// The features of each later picture → the picture.
    pub later_picture: Network,
}

/// A video decoder.
pub struct VideoDecoder<'p> {
    networks: DecoderNetworks,
    tiling: Option<Tiling>,
    temporary: PathBuf,
    progress: &'p dyn Progress,
}

impl<'p> VideoDecoder<'p> {
    /// Binds loaded networks. With `tiling`, each tile is decoded through all frames before the next tile, and decoded tiles wait
    /// in an unnamed file in the folder `temporary`.
    pub fn new(
        networks: DecoderNetworks,
        tiling: Option<Tiling>,
        temporary: PathBuf,
        progress: &'p dyn Progress,
    ) -> Self {
        Self { networks, tiling, temporary, progress }
    }

    /// The pictures of an unscaled latent [1, c, t, h, w] in order: planes [3, h·f, w·f] in 0..=1, clamped. Pictures are decoded
    /// on demand; with tiles, the first one waits for all tiles. Memory does not grow with the number of frames. After an error
    /// the iterator ends.
    pub fn frames(&mut self, latent: ArrayD<f32>) -> DecodedFrames<'_> {
        let (h, w) = (latent.shape()[3], latent.shape()[4]);
        let tiled = self.tiling.and_then(|t| Some((t.tiles((h * t.factor, w * t.factor), t.factor)?, t.factor)));
        let state = match tiled {
            None => State::Whole(LatentStream::new(latent)),
            Some((tiles, factor)) => {
                State::Tiled(TileJob { latent, tiles, factor, temporary: &self.temporary, progress: self.progress })
            }
        };
        DecodedFrames { networks: &mut self.networks, state }
    }
}

/// The pictures of a video, decoded on demand.
pub struct DecodedFrames<'a> {
    networks: &'a mut DecoderNetworks,
    state: State<'a>,
}

enum State<'a> {
    /// Without tiles.
    Whole(LatentStream),
    /// With tiles, nothing decoded yet.
    Tiled(TileJob<'a>),
    /// With tiles, all decoded.
    Decoded(DecodedTiles),
    Done,
}

impl DecodedFrames<'_> {
    fn advance(&mut self) -> Result<Option<Array3<f32>>> {
        if let State::Tiled(job) = &self.state {
            self.state = State::Decoded(job.decode(self.networks)?);
        }
        match &mut self.state {
            State::Whole(stream) => stream.next(self.networks),
            State::Decoded(decoded) => decoded.next(),
            State::Tiled(_) | State::Done => Ok(None),
        }
    }
}

impl Iterator for DecodedFrames<'_> {
    type Item = Result<Array3<f32>>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if !matches!(next, Ok(Some(_))) {
            self.state = State::Done;
        }
        next.map(|picture| picture.map(from_signed)).transpose()
    }
}

/// A latent [1, c, t, h, w] that is to be decoded in tiles.
struct TileJob<'a> {
    latent: ArrayD<f32>,
    /// In latent pixels.
    tiles: Tiles,
    factor: usize,
    temporary: &'a Path,
    progress: &'a dyn Progress,
}

impl TileJob<'_> {
    /// Decodes every tile through all frames.
    fn decode(&self, networks: &mut DecoderNetworks) -> Result<DecodedTiles> {
        let (latent, factor) = (&self.latent, self.factor);
        let file = TileFile::create(self.temporary)?;
        let steps = self.tiles.count() * latent.shape()[2];
        let mut task = Task::new(self.progress, "decode tiles", Some(steps as u64), Unit::Steps);
        let (mut offsets, mut end, mut pictures) = (HashMap::new(), 0, 0);
        for (rows, columns) in self.tiles.windows() {
            offsets.insert((rows.start * factor, columns.start * factor), end);
            let mut stream = LatentStream::new(crop(latent, rows, columns));
            pictures = 0;
            let mut frames = 0;
            while let Some(picture) = stream.next(networks).at(format!("the tile at {rows:?}, {columns:?}"))? {
                file.write(end, &picture)?;
                end += picture.len();
                pictures += 1;
                task.step((stream.next - frames) as u64)?;
                frames = stream.next;
            }
        }
        Ok(DecodedTiles { file, tiles: self.tiles.scaled(factor), offsets, pictures, next: 0 })
    }
}

/// All tiles of all pictures, decoded.
struct DecodedTiles {
    file: TileFile,
    /// In pixels.
    tiles: Tiles,
    /// Elements in the file before a tile's first picture, by the tile's first row and column.
    offsets: HashMap<(usize, usize), usize>,
    pictures: usize,
    next: usize,
}

impl DecodedTiles {
    /// Assembles the next picture, planes [3, h, w] in about −1..=1.
    fn next(&mut self) -> Result<Option<Array3<f32>>> {
        if self.next == self.pictures {
            return Ok(None);
        }
        let k = self.next;
        self.next += 1;
        let whole = self.tiles.assemble(|rows, columns| {
            let shape = (3, rows.len(), columns.len());
            let offset = self.offsets.get(&(rows.start, columns.start)).ok_or_else(|| {
                Error::failed(format!("no tile starts at row {}, column {} of the video", rows.start, columns.start))
            })?;
            Ok(self.file.read(offset + k * 3 * rows.len() * columns.len(), shape)?.into_dyn())
        });
        planes(whole?).map(Some)
    }
}

/// A latent [1, c, t, h, w] that is decoded frame by frame. Memory does not grow with the number of frames.
struct LatentStream {
    latent: ArrayD<f32>,
    next: usize,
    feature_caches: Caches,
    picture_caches: Caches,
    /// Features of pictures that are not decoded yet.
    waiting: VecDeque<Held>,
}

impl LatentStream {
    fn new(latent: ArrayD<f32>) -> Self {
        let [feature_caches, picture_caches] = [Caches::default(), Caches::default()];
        Self { latent, next: 0, feature_caches, picture_caches, waiting: VecDeque::new() }
    }

    /// The next picture, planes [3, h·f, w·f] in about −1..=1; `None` after the last.
    fn next(&mut self, networks: &mut DecoderNetworks) -> Result<Option<Array3<f32>>> {
        if self.waiting.is_empty() {
            if self.next == self.latent.shape()[2] {
                return Ok(None);
            }
            self.next += 1;
            self.advance(networks).at(format!("latent frame {}", self.next))?;
        }
        let Some(features) = self.waiting.pop_front() else { return Ok(None) };
        let network =
            if self.picture_caches.is_empty() { &mut networks.first_picture } else { &mut networks.later_picture };
        let picture = self.picture_caches.step(network, ("features", InputValue::Held(&features)))?.pop();
        let Some((name, picture)) = picture else {
            return Err(Error::failed(format!("{}: no output picture", network.name())));
        };
        let picture = picture.read()?;
        finite(&format!("{} {name} of latent frame {}", network.name(), self.next), &picture)?;
        floating(network, picture).map(Some)
    }

    /// Computes the features of latent frame `next − 1`.
    fn advance(&mut self, networks: &mut DecoderNetworks) -> Result<()> {
        let frame = self.latent.slice_axis(Axis(2), Slice::from(self.next - 1..self.next));
        let frame = Tensor::F32(frame.index_axis_move(Axis(2), 0).as_standard_layout().into_owned());
        let network =
            if self.feature_caches.is_empty() { &mut networks.first_features } else { &mut networks.later_features };
        let features = self.feature_caches.step(network, ("latents", InputValue::Tensor(&frame)))?;
        self.waiting.extend(features.into_iter().map(|(_, value)| value));
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Two tiles of 3 × 4 × 4 samples, the second with and without its place in the file.
    #[test]
    fn a_tile_that_was_not_decoded_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let decoded = |offsets: &[((usize, usize), usize)]| {
            let file = TileFile::create(folder.path()).unwrap();
            file.write(0, &Array3::zeros((3, 4, 4))).unwrap();
            file.write(48, &Array3::ones((3, 4, 4))).unwrap();
            let (tiles, offsets) = (Tiles::faded((4, 8), 4, 0), offsets.iter().copied().collect());
            DecodedTiles { file, tiles, offsets, pictures: 1, next: 0 }.next()
        };
        let whole = decoded(&[((0, 0), 0), ((0, 4), 48)]).unwrap().unwrap();
        assert_eq!((whole.dim(), whole[[2, 3, 3]], whole[[0, 0, 4]]), ((3, 4, 8), 0.0, 1.0));
        let error = decoded(&[((0, 0), 0)]).unwrap_err().to_string();
        assert_eq!(error, "no tile starts at row 0, column 4 of the video");
    }
}
