//! Opens a file for demuxing. Nothing but this file is read.
//!
//! A media file can name other files: playlists do, and so do data references of QuickTime. The file is therefore opened
//! here and handed to FFmpeg as a stream. FFmpeg learns only the extension of its name, uses only allowed demuxers
//! ([`demuxers`]), and every attempt to open something else fails.

use std::{
    ffi::{CString, c_char, c_int, c_void},
    fs::File,
    path::Path,
    ptr,
    sync::OnceLock,
};

use ffmpeg_next::{
    Dictionary, ffi,
    format::context::{Input, StreamIo},
};

use super::{
    demuxers,
    ffmpeg::{c_string, clear_line, external_track, init, keep, last_line, reason, text},
};
use crate::{
    error::{Error, Result},
    media::format::FileFormat,
};

/// Opens a file and reads its stream information.
///
/// Errors: a file that is unreadable, empty, not regular, of a container that is not read, or that refers to another
/// file.
pub(crate) fn open(path: &Path) -> Result<Input> {
    init();
    let name = path.display();
    let about = std::fs::metadata(path).map_err(|e| Error::io("reading", path, &e))?;
    if !about.is_file() {
        return Err(Error::failed(format!("{name}: is not a regular file")));
    }
    if about.len() == 0 {
        return Err(Error::failed(format!("{name}: the file is empty")));
    }
    let file = File::open(path).map_err(|e| Error::io("reading", path, &e))?;
    let failed = |code| {
        let why = match last_line() {
            Some(line) if line.starts_with(REFERENCE) => return Error::failed(format!("{name}: {line}")),
            // The demuxer of YUV4MPEG2 adds to the code of an invalid size.
            _ => reason(if code == ffi::AVERROR(libc::EBUSY) { ffi::AVERROR_INVALIDDATA } else { code }),
        };
        Error::failed(format!("{name}: is not a video that FFmpeg can read ({why}); get a complete copy"))
    };
    clear_line();
    let mut io = StreamIo::from_read_seek(file).map_err(|e| Error::failed(format!("{name}: {e}")))?;
    read_in_pieces(&mut io);
    let format = demuxer(&mut io, path).map_err(|code| match code {
        ffi::AVERROR_INVALIDDATA => Error::failed(format!("{name}: {}", no_media(path))),
        code => failed(code),
    })?;
    check_format(format, path).map_err(|why| Error::failed(format!("{name}: {why}")))?;
    // SAFETY: the context is null, or owned by `Input` at every return. FFmpeg frees it if opening fails, but not the
    // stream, which `Input` owns from then on.
    unsafe {
        let mut context = ffi::avformat_alloc_context();
        let Some(fields) = context.as_mut() else { return Err(Error::failed("out of memory")) };
        fields.pb = io.as_mut_ptr();
        fields.io_open = Some(refuse);
        let mut options = options();
        let url = url_of(path);
        let code = ffi::avformat_open_input(&mut context, url.as_ptr(), format, &mut options);
        drop(Dictionary::own(options));
        if code < 0 {
            return Err(failed(code));
        }
        let input = Input::wrap_with_custom_io(context, io);
        let code = ffi::avformat_find_stream_info(context, ptr::null_mut());
        if external_track() {
            return Err(Error::failed(format!(
                "{name}: {REFERENCE}, which is not read; make a file that contains its own frames and sound"
            )));
        }
        if code < 0 { Err(failed(code)) } else { Ok(input) }
    }
}

/// Bytes that a stream reads at once. It copies them through a block of that size, whose allocation would end the process where
/// memory is short.
const PIECE: c_int = 1 << 18;

/// FFmpeg's callback for reading.
type Read = unsafe extern "C" fn(*mut c_void, *mut u8, c_int) -> c_int;

/// Limits reads to [`PIECE`]. FFmpeg reads large packets at once, and asks again for what is missing.
fn read_in_pieces(io: &mut StreamIo) {
    // SAFETY: the context is owned and idle, and the new callback passes its arguments to the one that it replaces. That is
    // always the same function: it depends on the type of the stream, and all are files.
    unsafe {
        let context = &mut *io.as_mut_ptr();
        if let Some(read) = context.read_packet {
            READ.get_or_init(|| read);
            context.read_packet = Some(read_piece);
        }
    }
}

static READ: OnceLock<Read> = OnceLock::new();

unsafe extern "C" fn read_piece(stream: *mut c_void, bytes: *mut u8, count: c_int) -> c_int {
    // SAFETY: FFmpeg gives room for `count` bytes.
    READ.get().map_or(ffi::AVERROR_BUG, |read| unsafe { read(stream, bytes, count.min(PIECE)) })
}

/// Begin of the message about a reference.
const REFERENCE: &str = "refers to another file";

/// FFmpeg's callback for opening another file. Fails.
unsafe extern "C" fn refuse(
    _: *mut ffi::AVFormatContext,
    _: *mut *mut ffi::AVIOContext,
    url: *const c_char,
    _: c_int,
    _: *mut *mut ffi::AVDictionary,
) -> c_int {
    keep(format!("{REFERENCE} ({}), which is not read; give the video itself", text(url)));
    -libc::EACCES
}

/// The name that FFmpeg sees: only the extension, by which it prefers a demuxer if the content does not decide.
fn url_of(path: &Path) -> CString {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    c_string(&format!("input.{}", extension.replace(['%', '*', '?', '{', ':', '/'], "")))
}

/// The demuxer of the content. Errors: FFmpeg's code.
fn demuxer(io: &mut StreamIo, path: &Path) -> Result<*const ffi::AVInputFormat, c_int> {
    let mut format = ptr::null();
    // SAFETY: the stream is open. FFmpeg rewinds it and returns a static demuxer.
    let code = unsafe {
        ffi::av_probe_input_buffer2(io.as_mut_ptr(), &mut format, url_of(path).as_ptr(), ptr::null_mut(), 0, 0)
    };
    if code < 0 { Err(code) } else { Ok(format) }
}

/// Errors: a demuxer that is not used. `path` is the name, for the message.
fn check_format(format: *const ffi::AVInputFormat, path: &Path) -> Result<(), String> {
    // SAFETY: null, or a static demuxer.
    let Some(format) = (unsafe { format.as_ref() }) else { return Err("is of an unknown container".into()) };
    let (name, long) = (text(format.name), text(format.long_name));
    if demuxers::is_allowed(&name) {
        return Ok(());
    }
    if name == "image2" || name == "tty" || name.ends_with("_pipe") {
        return Err(no_media(path));
    }
    if demuxers::refers_to_others(&name) {
        return Err(format!("is no video but {long} ({name}), which refers to other files; give the video itself"));
    }
    Err(format!("is {long} ({name}), which is not read; convert it to .mkv"))
}

/// The message for a file of unknown content. Only a name that promises a picture or a video is a reason to look for a better copy.
fn no_media(path: &Path) -> String {
    let advice = if FileFormat::of_path(path).is_some() { ", despite its name; get a complete copy" } else { "" };
    format!("is neither a picture nor a video{advice}")
}

/// Options for all demuxers, in addition to the refused references.
fn options() -> *mut ffi::AVDictionary {
    let whitelist = demuxers::whitelist();
    let rows = [
        ("format_whitelist", whitelist.as_str()),
        ("protocol_whitelist", "file,pipe"),
        ("enable_drefs", "0"),
        ("use_absolute_path", "0"),
    ];
    let options: Dictionary = rows.into_iter().collect();
    // SAFETY: the caller owns the dictionary.
    unsafe { options.disown() }
}
