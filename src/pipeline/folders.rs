//! Folders of output files.

use std::{fs, path::Path};

use crate::error::{Error, Result};

/// Creates the folder of an output file.
pub fn create_folder_of(output: &Path) -> Result<()> {
    let Some(folder) = output.parent().filter(|p| !p.as_os_str().is_empty()) else { return Ok(()) };
    fs::create_dir_all(folder).map_err(|e| Error::io("creating the folder", folder, &e))
}
