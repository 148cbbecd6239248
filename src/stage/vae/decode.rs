//! A video's latent → its pictures, latent frame by latent frame.

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
};

use ndarray::{Array3, ArrayD, Axis, Slice};

use super::{Tiles, Tiling, caches::Caches, floating, scratch::Scratch, shown};
use crate::{
    error::{At, Error, Result},
    progress::{Progress, Task, Unit},
    runtime::{Held, Input, Network, finite},
    tensor::Tensor,
};

/// The networks of a video's decoder. What makes a latent frame into several pictures works on features that are small; what
/// makes each of these large works on one picture at a time.
pub struct Networks {
    /// The first latent frame → its features.
    pub first_features: Network,
    /// Each of those after it.
    pub later_features: Network,
    /// The features of the first picture → the picture.
    pub first_picture: Network,
    /// Of each of those after it.
    pub later_picture: Network,
}

/// A video's decoder.
pub struct VideoDecoder<'p> {
    networks: Networks,
    tiling: Option<Tiling>,
    scratch: PathBuf,
    progress: &'p dyn Progress,
}

impl<'p> VideoDecoder<'p> {
    /// Binds loaded networks. With `tiling`, a tile's pictures are decoded before the next tile's and wait for each other in a file
    /// in the folder `scratch`: what the network keeps of a tile takes more than its pictures, and would be held for all tiles
    /// at once if they were decoded picture by picture.
    pub fn new(networks: Networks, tiling: Option<Tiling>, scratch: PathBuf, progress: &'p dyn Progress) -> Self {
        Self { networks, tiling, scratch, progress }
    }

    /// The pictures of an un-scaled latent [1, c, t, h, w] in order: planes [3, h·f, w·f] in 0..=1, clamped. They are decoded as
    /// they are asked for, in tiles all when the first is; what is held in memory does not grow with their number. After an
    /// error there are no more.
    pub fn frames(&mut self, latent: ArrayD<f32>) -> Frames<'_> {
        let size = (latent.shape()[3], latent.shape()[4]);
        let tiled = self.tiling.and_then(|t| t.of_picture((size.0 * t.factor, size.1 * t.factor)));
        let source = match tiled {
            None => Source::Stream(Stream::new(latent)),
            Some(tiling) => Source::Tiles { latent, tiling, scratch: &self.scratch, progress: self.progress },
        };
        Frames { networks: &mut self.networks, source }
    }
}

/// A video while it is decoded.
pub struct Frames<'a> {
    networks: &'a mut Networks,
    source: Source<'a>,
}

enum Source<'a> {
    Stream(Stream),
    Tiles { latent: ArrayD<f32>, tiling: Tiling, scratch: &'a Path, progress: &'a dyn Progress },
    Decoded(Decoded),
    Done,
}

impl Frames<'_> {
    fn advance(&mut self) -> Result<Option<Array3<f32>>> {
        if let Source::Tiles { latent, tiling, scratch, progress } = &self.source {
            self.source = Source::Decoded(Decoded::new(latent, *tiling, self.networks, scratch, *progress)?);
        }
        match &mut self.source {
            Source::Stream(stream) => stream.next(self.networks),
            Source::Decoded(decoded) => decoded.next(),
            Source::Tiles { .. } | Source::Done => Ok(None),
        }
    }
}

impl Iterator for Frames<'_> {
    type Item = Result<Array3<f32>>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if !matches!(next, Ok(Some(_))) {
            self.source = Source::Done;
        }
        next.map(|picture| picture.map(shown)).transpose()
    }
}

/// All tiles of all pictures, decoded.
struct Decoded {
    scratch: Scratch,
    tiles: Tiles,
    size: (usize, usize),
    /// Elements before each tile's first picture, tiles by row, then column.
    starts: HashMap<(usize, usize), usize>,
    pictures: usize,
    next: usize,
}

impl Decoded {
    fn new(
        latent: &ArrayD<f32>,
        Tiling { tiles, factor, .. }: Tiling,
        networks: &mut Networks,
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let scratch = Scratch::create(folder)?;
        let (h, w) = (latent.shape()[3], latent.shape()[4]);
        let (rows, columns) = (tiles.over(factor).spans(h), tiles.over(factor).spans(w));
        let steps = rows.len() * columns.len() * latent.shape()[2];
        let mut task = Task::new(progress, "decode tiles", Some(steps as u64), Unit::Steps);
        let (mut starts, mut end, mut pictures) = (HashMap::new(), 0, 0);
        for (row, column) in rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column))) {
            starts.insert((row.start * factor, column.start * factor), end);
            let part = latent.slice_axis(Axis(3), row.clone().into());
            let mut stream = Stream::new(part.slice_axis(Axis(4), column.clone().into()).to_owned());
            pictures = 0;
            let mut frames = 0;
            while let Some(picture) = stream.next(networks).at(format!("the tile at {row:?}, {column:?}"))? {
                scratch.write(end, &picture)?;
                end += picture.len();
                pictures += 1;
                task.step((stream.next - frames) as u64)?;
                frames = stream.next;
            }
        }
        Ok(Self { scratch, tiles, size: (h * factor, w * factor), starts, pictures, next: 0 })
    }

    /// The next picture, planes [3, h, w] in about −1..=1.
    fn next(&mut self) -> Result<Option<Array3<f32>>> {
        if self.next == self.pictures {
            return Ok(None);
        }
        let k = self.next;
        self.next += 1;
        let whole = self.tiles.assemble(self.size, |rows, columns| {
            let shape = (3, rows.len(), columns.len());
            let start = self.starts.get(&(rows.start, columns.start)).copied().unwrap_or(0);
            self.scratch.read(start + k * 3 * rows.len() * columns.len(), shape)
        });
        whole.map(Some)
    }
}

/// A latent [1, c, t, h, w] while it is decoded. What is held does not grow with its number of frames.
pub(super) struct Stream {
    latent: ArrayD<f32>,
    next: usize,
    features: Caches,
    pictures: Caches,
    /// Features of pictures that were not yet asked for.
    waiting: VecDeque<Held>,
}

impl Stream {
    /// Nothing is decoded yet.
    pub fn new(latent: ArrayD<f32>) -> Self {
        let [features, pictures] = [Caches::default(), Caches::default()];
        Self { latent, next: 0, features, pictures, waiting: VecDeque::new() }
    }

    /// The next picture, planes [3, h·f, w·f] in about −1..=1; `None` after the last.
    pub fn next(&mut self, networks: &mut Networks) -> Result<Option<Array3<f32>>> {
        if self.waiting.is_empty() {
            if self.next == self.latent.shape()[2] {
                return Ok(None);
            }
            self.next += 1;
            self.advance(networks).at(format!("latent frame {}", self.next))?;
        }
        let Some(features) = self.waiting.pop_front() else { return Ok(None) };
        let network = if self.pictures.is_empty() { &mut networks.first_picture } else { &mut networks.later_picture };
        let picture = self.pictures.step(network, ("features", Input::Held(&features)))?.pop();
        let Some((name, picture)) = picture else {
            return Err(Error::failed(format!("{}: no output picture", network.name())));
        };
        let picture = picture.read()?;
        finite(&format!("{} {name} of latent frame {}", network.name(), self.next), &picture)?;
        floating(network, picture).map(Some)
    }

    /// Makes the features of latent frame `next − 1`.
    fn advance(&mut self, networks: &mut Networks) -> Result<()> {
        let frame = self.latent.slice_axis(Axis(2), Slice::from(self.next - 1..self.next));
        let frame = Tensor::F32(frame.index_axis_move(Axis(2), 0).as_standard_layout().into_owned());
        let network =
            if self.features.is_empty() { &mut networks.first_features } else { &mut networks.later_features };
        let features = self.features.step(network, ("latents", Input::Tensor(&frame)))?;
        self.waiting.extend(features.into_iter().map(|(_, value)| value));
        Ok(())
    }
}
