//! Tiles of a video's pictures on disk, from when they are decoded until the pictures are put together.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicUsize, Ordering},
};

use ndarray::Array3;

use crate::error::{Error, Result};

/// Numbers in a file that has no name any more: it vanishes with the process, however that ends.
pub(super) struct Scratch {
    file: File,
    path: PathBuf,
}

impl Scratch {
    /// An empty file in `folder`.
    pub fn create(folder: &Path) -> Result<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".crescendo-{}-{number}.tiles", process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(|e| Error::io("making the file of decoded tiles", &path, &e))?;
        std::fs::remove_file(&path).map_err(|e| Error::io("unlinking", &path, &e))?;
        Ok(Self { file, path })
    }

    /// Writes from element `at` on.
    pub fn write(&self, at: usize, values: &Array3<f32>) -> Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
        let written = self.file.write_all_at(&bytes, 4 * at as u64);
        written.map_err(|e| Error::io("writing decoded tiles to", &self.path, &e))
    }

    /// Reads what was written at element `at`.
    pub fn read(&self, at: usize, shape: (usize, usize, usize)) -> Result<Array3<f32>> {
        let mut bytes = vec![0; 4 * shape.0 * shape.1 * shape.2];
        let read = self.file.read_exact_at(&mut bytes, 4 * at as u64);
        read.map_err(|e| Error::io("reading decoded tiles from", &self.path, &e))?;
        let values = bytes.as_chunks().0.iter().map(|&b| f32::from_ne_bytes(b)).collect();
        Array3::from_shape_vec(shape, values).map_err(|e| Error::failed(format!("{}: {e}", self.path.display())))
    }
}
