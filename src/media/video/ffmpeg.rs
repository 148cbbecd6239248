//! Helpers for FFmpeg's C interface: initialisation, log, errors, strings, lists of codecs.

use std::{
    cell::{Cell, RefCell},
    ffi::{CStr, CString, c_char, c_int, c_void},
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr,
    sync::Once,
};

use ffmpeg_next::{Codec, ffi, media};

use super::rational::Rational;
use crate::error::{Error, Result};

thread_local! {
    /// The last error line that FFmpeg logged on this thread. It often explains an error code.
    static LAST_LINE: RefCell<Option<String>> = const { RefCell::new(None) };
    /// Whether FFmpeg skipped a QuickTime track whose samples are in another file.
    static EXTERNAL_TRACK: Cell<bool> = const { Cell::new(false) };
}

impl From<ffi::AVRational> for Rational {
    fn from(r: ffi::AVRational) -> Self {
        Self::new(r.num, r.den)
    }
}

impl From<Rational> for ffi::AVRational {
    fn from(r: Rational) -> Self {
        Self { num: r.num, den: r.den }
    }
}

/// Initialises FFmpeg and installs the log callback, once.
pub(crate) fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = ffmpeg_next::init();
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the callback has the signature that FFmpeg expects and is a static function.
        unsafe {
            ffi::av_log_set_callback(Some(keep_line));
        }
        // On other targets Rust cannot name the C type of the arguments, so the line is lost.
        #[cfg(not(target_arch = "x86_64"))]
        // SAFETY: sets one integer.
        unsafe {
            ffi::av_log_set_level(ffi::AV_LOG_QUIET);
        }
    });
}

#[cfg(target_arch = "x86_64")]
unsafe extern "C" fn keep_line(
    context: *mut c_void,
    level: c_int,
    format: *const c_char,
    arguments: *mut ffi::__va_list_tag,
) {
    // SAFETY: FFmpeg calls this with a valid format and its arguments. The arguments are used once.
    unsafe {
        if level > ffi::AV_LOG_WARNING {
            return;
        }
        let (mut line, mut prefix) = ([0 as c_char; 512], 0);
        ffi::av_log_format_line2(context, level, format, arguments, line.as_mut_ptr(), 512, &mut prefix);
        let line = CStr::from_ptr(line.as_ptr()).to_string_lossy().trim().trim_end_matches('.').to_owned();
        if line.contains("Skipped opening external track") {
            let _ = EXTERNAL_TRACK.try_with(|found| found.set(true));
        }
        if !line.is_empty() && level <= ffi::AV_LOG_ERROR {
            keep(line);
        }
    }
}

/// Clears the last error line. Call it before an operation whose failure the line would explain.
pub(crate) fn clear_line() {
    LAST_LINE.take();
    EXTERNAL_TRACK.set(false);
}

/// Keeps an error line as if FFmpeg had logged it.
pub(crate) fn keep(line: String) {
    let _ = LAST_LINE.try_with(|last| last.replace(Some(line)));
}

/// Whether FFmpeg has skipped a QuickTime track whose samples are in another file since [`clear_line`].
pub(crate) fn external_track() -> bool {
    EXTERNAL_TRACK.get()
}

/// FFmpeg's last error line on this thread since [`clear_line`].
pub(crate) fn last_line() -> Option<String> {
    LAST_LINE.with_borrow(Clone::clone)
}

/// The text of an error code, with FFmpeg's last error line if there is one.
pub(crate) fn reason(code: c_int) -> String {
    let mut text = [0 as c_char; 256];
    // SAFETY: FFmpeg writes at most 256 bytes, including the terminating zero.
    let text = unsafe {
        ffi::av_strerror(code, text.as_mut_ptr(), text.len());
        CStr::from_ptr(text.as_ptr()).to_string_lossy()
    };
    // FFmpeg's codes for errors of the operating system are negated errno values.
    let full = [libc::ENOSPC, libc::EFBIG, libc::EDQUOT].contains(&-code);
    let advice = if full { "; free some space or write somewhere else" } else { "" };
    match last_line() {
        Some(line) => format!("{text}: {line}{advice}"),
        None => format!("{text}{advice}"),
    }
}

/// `Ok` for a code that is not negative, else its [`reason`].
pub(crate) fn check(code: c_int) -> Result<c_int, String> {
    if code < 0 { Err(reason(code)) } else { Ok(code) }
}

/// A path as a URL with the prefix `file:`, so that FFmpeg does not read a colon as a protocol.
pub(crate) fn url(path: &Path) -> Result<CString> {
    let bytes = [b"file:", path.as_os_str().as_bytes()].concat();
    CString::new(bytes).map_err(|_| Error::usage(format!("{}: the path contains a zero byte", path.display())))
}

/// A C string. Text after a zero byte is dropped; command-line arguments cannot contain one.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

/// A Rust string from a C string that FFmpeg owns; empty for a null pointer.
pub(crate) fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: the string ends with a zero byte and lives as long as the library or the structure it is borrowed from.
    unsafe { CStr::from_ptr(pointer).to_string_lossy().into_owned() }
}

/// Reads an enum field of a C structure as a number. A file can contain values that Rust's enum does not have.
///
/// # Safety
/// `field` points to a readable 32-bit enum.
pub(crate) unsafe fn number<T>(field: *const T) -> c_int {
    const { assert!(size_of::<T>() == size_of::<c_int>()) };
    // SAFETY: guaranteed by the caller.
    unsafe { field.cast::<c_int>().read() }
}

/// The version of the linked FFmpeg: `5.1.9-0+deb12u1`.
pub fn ffmpeg_version() -> String {
    // SAFETY: returns a constant.
    text(unsafe { ffi::av_version_info() })
}

/// Names of the video encoders of the linked FFmpeg, sorted.
pub fn video_encoders() -> Vec<String> {
    codecs(Codec::is_encoder)
}

/// Names of the video decoders of the linked FFmpeg, sorted.
pub fn video_decoders() -> Vec<String> {
    codecs(Codec::is_decoder)
}

fn codecs(wanted: fn(&Codec) -> bool) -> Vec<String> {
    let mut position = ptr::null_mut();
    // SAFETY: FFmpeg keeps the position in the variable and returns static codecs, then null.
    let mut names: Vec<_> = std::iter::from_fn(|| unsafe {
        let codec = ffi::av_codec_iterate(&mut position);
        (!codec.is_null()).then(|| Codec::wrap(codec))
    })
    .filter(|codec| wanted(codec) && codec.medium() == media::Type::Video)
    .map(|codec| codec.name().to_owned())
    .collect();
    names.sort();
    names.dedup();
    names
}
