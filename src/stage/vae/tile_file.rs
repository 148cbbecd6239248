//! Decoded tiles of a video on disk, until the pictures are assembled.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use ndarray::Array3;

use crate::error::{Error, Result};

/// f32 values in an unnamed temporary file. The operating system removes it when the process ends, however it ends.
pub(super) struct TileFile {
    file: File,
    folder: PathBuf,
}

impl TileFile {
    /// Creates an empty file in `folder`.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(folder);
        let file = file.map_err(|e| Error::io("creating a temporary file in", folder, &e))?;
        Ok(Self { file, folder: folder.into() })
    }

    /// Writes values from element `at`.
    pub(super) fn write(&self, at: usize, values: &Array3<f32>) -> Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
        let written = self.file.write_all_at(&bytes, 4 * at as u64);
        written.map_err(|e| Error::io("writing decoded tiles to a temporary file in", &self.folder, &e))
    }

    /// Reads values of a shape from element `at`.
    pub(super) fn read(&self, at: usize, shape: (usize, usize, usize)) -> Result<Array3<f32>> {
        let mut bytes = vec![0; 4 * shape.0 * shape.1 * shape.2];
        let read = self.file.read_exact_at(&mut bytes, 4 * at as u64);
        read.map_err(|e| Error::io("reading decoded tiles from a temporary file in", &self.folder, &e))?;
        let values = bytes.as_chunks().0.iter().map(|&b| f32::from_ne_bytes(b)).collect();
        Array3::from_shape_vec(shape, values).map_err(|e| Error::failed(format!("decoded tiles: {e}")))
    }
}
