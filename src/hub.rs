//! Names of models → local files: paths, hub repositories, `repo:file`, URLs.
