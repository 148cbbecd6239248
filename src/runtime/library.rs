//! Finds and loads the shared library of ONNX Runtime, once per process.

use std::{
    env,
    ffi::{CStr, CString, c_void},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use ort::{environment::Environment, logging::LogLevel};

use crate::{
    error::{Error, Result},
    sync::lock,
};

/// The version this program is built for. Later 1.x versions work too.
pub const WANTED: &str = "1.31.1";
const NAMES: [&str; 2] = ["libonnxruntime.so.1.31.1", "libonnxruntime.so"];
const CUDA_PROVIDER: &str = "libonnxruntime_providers_cuda.so";

/// The loaded library.
pub(super) struct Library {
    pub path: PathBuf,
    pub version: String,
    pub environment: Environment,
}

static LOADED: Mutex<Option<&'static Library>> = Mutex::new(None);
/// The last error in the library's log. If a provider fails to load, only the log contains the cause.
static LAST_ERROR: Mutex<Option<String>> = Mutex::new(None);

/// Disables the library's telemetry. `main` calls it before it starts threads; [`super::Engine::start`] calls it too.
pub fn disable_telemetry() {
    const KEY: &str = "ORT_DISABLE_TELEMETRY";
    if env::var_os(KEY).as_deref() != Some("1".as_ref()) {
        // SAFETY: no thread may read the environment through C meanwhile. `main` calls this before it starts threads; in tests
        // it runs before the library, the only C code here that reads variables, is loaded.
        unsafe { env::set_var(KEY, "1") };
    }
}

/// Takes the last error of the library's log.
pub(super) fn take_logged_error() -> Option<String> {
    lock(&LAST_ERROR).take()
}

/// Loads the library at `requested` (a file or its folder), else the first supported one in [`locations`]. Loads at most once.
pub(super) fn open(requested: Option<&Path>, wants_gpu: bool) -> Result<&'static Library> {
    let mut loaded = lock(&LOADED);
    if let Some(library) = *loaded {
        return match requested
            .map(|path| in_folder(path).into_iter().find(|p| p.exists()).unwrap_or_else(|| path.into()))
        {
            Some(path) if path.canonicalize().ok() != library.path.canonicalize().ok() => Err(Error::failed(format!(
                "ONNX Runtime: {} is requested, but {} is already loaded; a process can load only one",
                path.display(),
                library.path.display()
            ))),
            _ => Ok(library),
        };
    }
    disable_telemetry();
    let (path, version) = find(requested, wants_gpu)?;
    let library: &'static Library = Box::leak(Box::new(load(path, version)?));
    *loaded = Some(library);
    Ok(library)
}

fn load(path: PathBuf, version: String) -> Result<Library> {
    preload_cuda(&path);
    let builder = ort::init_from(&path).map_err(|e| Error::failed(format!("loading ONNX Runtime: {e}")))?;
    let failed =
        |e: ort::Error| Error::failed(format!("starting ONNX Runtime {version} ({}): {}", path.display(), e.message()));
    let environment =
        builder.with_name("crescendo").with_telemetry(false).with_logger(Arc::new(log)).build().map_err(failed)?;
    environment.set_log_level(match tracing::level_filters::LevelFilter::current() {
        tracing::level_filters::LevelFilter::TRACE => LogLevel::Info,
        _ => LogLevel::Warning,
    });
    Ok(Library { path, version, environment })
}

/// Forwards the library's log. Errors are also returned as results; warnings concern authors of graphs.
fn log(level: LogLevel, _category: &str, id: &str, _location: &str, message: &str) {
    match level {
        LogLevel::Error | LogLevel::Fatal => {
            tracing::debug!(target: "onnxruntime", "{id}: {message}");
            *lock(&LAST_ERROR) = Some(message.to_owned());
        }
        LogLevel::Warning => tracing::debug!(target: "onnxruntime", "{id}: {message}"),
        LogLevel::Info | LogLevel::Verbose => tracing::trace!(target: "onnxruntime", "{id}: {message}"),
    }
}

/// Finds the first supported library. The error lists every searched location and its problem.
pub(super) fn find(requested: Option<&Path>, wants_gpu: bool) -> Result<(PathBuf, String)> {
    let mut causes = Vec::new();
    for (location, candidates) in locations(requested, wants_gpu) {
        let present: Vec<_> =
            candidates.iter().filter(|path| path.parent() == Some(Path::new("")) || path.is_file()).collect();
        let mut cause = if present.is_empty() { "not found".to_owned() } else { String::new() };
        for path in present {
            match version_of(path) {
                Ok((path, version)) if is_supported(&version) => return Ok((path, version)),
                Ok((path, version)) => cause = format!("{} is version {version}", path.display()),
                Err(failure) => cause = failure,
            }
        }
        causes.push(format!("{location}: {cause}"));
    }
    Err(Error::failed(format!(
        "ONNX Runtime {WANTED} or a later 1.x is required but was not found ({}); run scripts/setup, or set the library's path \
         with --onnxruntime or ORT_DYLIB_PATH",
        causes.join("; ")
    )))
}

/// The locations to search, in order. An explicitly named library is the only location.
fn locations(requested: Option<&Path>, wants_gpu: bool) -> Vec<(String, Vec<PathBuf>)> {
    let named = |from: &str, path: &Path| vec![(format!("{from} {}", path.display()), in_folder(path))];
    if let Some(path) = requested {
        return named("--onnxruntime", path);
    }
    if let Some(path) = env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return named("ORT_DYLIB_PATH", Path::new(&path));
    }
    let mut folders = Vec::new();
    if let Some(beside) = env::current_exe().ok().as_deref().and_then(Path::parent) {
        folders.extend([beside.to_owned(), beside.join("../lib/crescendo")]);
    }
    let data = env::var_os("XDG_DATA_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(data) = data.or_else(|| env::home_dir().map(|home| home.join(".local/share"))) {
        let installed = data.join("crescendo/onnxruntime");
        let gpu = installed.join(format!("{WANTED}-cuda"));
        if wants_gpu && gpu.join(CUDA_PROVIDER).is_file() {
            folders.push(gpu);
        }
        folders.push(installed.join(WANTED));
    }
    let mut locations: Vec<_> =
        folders.into_iter().map(|folder| (folder.display().to_string(), in_folder(&folder))).collect();
    locations.push(("system libraries".into(), NAMES.map(PathBuf::from).to_vec()));
    locations
}

/// The libraries of a folder, or the file's absolute path: the loader searches elsewhere for a bare name.
fn in_folder(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() || (!path.is_file() && path.extension().is_none()) {
        NAMES.iter().map(|name| path.join(name)).collect()
    } else {
        vec![if path.is_file() {
            std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
        } else {
            path.to_owned()
        }]
    }
}

/// Whether a version is 1.31 or a later 1.x. Later libraries of a major version support every earlier interface.
fn is_supported(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    parts.next() == Some(1) && parts.next() >= Some(ort::MINOR_VERSION)
}

/// Whether NVIDIA's driver library can be loaded.
pub(super) fn has_nvidia_driver() -> bool {
    // SAFETY: the name is a C string; loading the driver's library runs its initializers, as the CUDA provider does.
    unsafe {
        let handle = libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        !handle.is_null() && libc::dlclose(handle) == 0
    }
}

/// Returns the path and version of a library without initialization: `ort` panics if a library lacks its interface.
fn version_of(path: &Path) -> Result<(PathBuf, String), String> {
    let name =
        CString::new(path.as_os_str().as_bytes()).map_err(|_| format!("{} has a NUL in its name", path.display()))?;
    // SAFETY: `name` is a C string. Loading runs the initializers of a library that the user or the system chose, as loading
    // it later does.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        return Err(last_loader_error());
    }
    // SAFETY: `handle` is open and the symbol's name is a C string.
    let symbol = unsafe { libc::dlsym(handle, c"OrtGetApiBase".as_ptr()) };
    let result = if symbol.is_null() {
        Err(format!("{} is not ONNX Runtime", path.display()))
    } else {
        // SAFETY: `OrtGetApiBase` of every version is `const OrtApiBase*(void)`; version string and base are static.
        let version = unsafe {
            let base = std::mem::transmute::<*mut c_void, extern "C" fn() -> *const ort::sys::OrtApiBase>(symbol)();
            CStr::from_ptr(((*base).GetVersionString)()).to_string_lossy().into_owned()
        };
        Ok((full_path(path, symbol), version))
    };
    // SAFETY: `handle` is from `dlopen` above; nothing uses the library afterwards.
    unsafe { libc::dlclose(handle) };
    result
}

/// The path where the loader found a library that was named without a folder.
fn full_path(path: &Path, symbol: *mut c_void) -> PathBuf {
    // SAFETY: `Dl_info` is plain C data; `dladdr` fills it for an address inside a loaded library.
    let found = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        (libc::dladdr(symbol, &mut info) != 0 && !info.dli_fname.is_null())
            .then(|| PathBuf::from(std::ffi::OsStr::from_bytes(CStr::from_ptr(info.dli_fname).to_bytes())))
    };
    found.and_then(|p| p.canonicalize().ok()).unwrap_or_else(|| path.to_owned())
}

fn last_loader_error() -> String {
    // SAFETY: `dlerror` returns null or a C string that is valid until the next call on this thread.
    unsafe {
        let message = libc::dlerror();
        if message.is_null() { "unknown error".into() } else { CStr::from_ptr(message).to_string_lossy().into_owned() }
    }
}

/// Loads NVIDIA's libraries in the folder of a GPU build of ONNX Runtime, so that no `LD_LIBRARY_PATH` is needed. The system's
/// loader searches for missing ones; the provider reports those that fail to load.
fn preload_cuda(library: &Path) {
    let Some(folder) = library.parent().filter(|folder| folder.join(CUDA_PROVIDER).is_file()) else { return };
    for name in ort::ep::cuda::CUDA_DYLIBS.iter().chain(ort::ep::cuda::CUDNN_DYLIBS) {
        let path = folder.join(name);
        if path.is_file()
            && let Err(cause) = ort::util::preload_dylib(&path)
        {
            tracing::debug!("{}: {cause}", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn supported_versions() {
        let table = [
            ("1.31.1", true),
            ("1.31.0", true),
            ("1.40.2", true),
            ("1.30.9", false),
            ("1.9", false),
            ("2.0.0", false),
            ("", false),
        ];
        for (version, want) in table {
            assert_eq!(is_supported(version), want, "{version:?}");
        }
    }

    #[test]
    fn other_libraries_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("libonnxruntime.so");
        std::fs::write(&text, "no library").unwrap();
        let none = folder.path().join("none");
        let table: [(&Path, &str); 4] = [
            (&text, "libonnxruntime.so: file too short"),
            (folder.path(), "libonnxruntime.so: file too short"),
            (&none, "none: not found"),
            (Path::new("libc.so.6"), "libc.so.6 is not ONNX Runtime"),
        ];
        for (path, want) in table {
            let message = find(Some(path), false).unwrap_err().to_string();
            for part in [want, "1.31.1", "scripts/setup", "--onnxruntime"] {
                assert!(message.contains(part), "{message:?} lacks {part:?}");
            }
        }
    }
}
