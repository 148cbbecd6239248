//! Parsers of flag values. Messages begin with the flag's name in Python; [`as_typed`] replaces it by the flag as typed.

use std::{ffi::OsStr, ops::RangeInclusive, str::FromStr};

use clap::{
    Arg, Command,
    builder::{PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser},
    error::ErrorKind,
};

use crate::{
    error::Error,
    media::resize::Filter,
    plan::{Quality, Rate, UpscaleTarget},
};

/// A flag with a fixed set of values.
#[derive(Clone, Copy)]
pub(super) struct Choice<T: 'static> {
    /// The flag in messages. `None`: clap's message.
    flag: Option<&'static str>,
    /// Name, help, value. An entry without help is a hidden alias.
    values: &'static [(&'static str, &'static str, T)],
}

impl<T> Choice<T> {
    /// Name, help and value of each choice. An entry without help is a hidden alias.
    pub(super) const fn new(values: &'static [(&'static str, &'static str, T)]) -> Self {
        Self { flag: None, values }
    }

    /// With the message `{flag} must be one of 'a', 'b', or 'c', got …`.
    pub(super) const fn named(flag: &'static str, values: &'static [(&'static str, &'static str, T)]) -> Self {
        Self { flag: Some(flag), values }
    }
}

impl<T: Copy + Send + Sync + 'static> Choice<T> {
    fn find(self, typed: &str) -> Option<T> {
        self.values.iter().find(|(name, ..)| *name == typed).map(|(.., value)| *value)
    }

    fn rule(self, flag: &str, typed: &str) -> String {
        let names: Vec<String> = self.values.iter().map(|(name, ..)| format!("'{name}'")).collect();
        let (last, first) =
            names.split_last().map_or((String::new(), String::new()), |(l, f)| (l.clone(), f.join(", ")));
        format!("{flag} must be one of {first}, or {last}, got {}", shown(typed))
    }

    fn names(self) -> impl Iterator<Item = PossibleValue> {
        self.values.iter().map(|(name, help, _)| match *help {
            "" => PossibleValue::new(*name).hide(true),
            help => PossibleValue::new(*name).help(help),
        })
    }
}

impl<T: Copy + Send + Sync + 'static> TypedValueParser for Choice<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, typed: &OsStr) -> Result<T, clap::Error> {
        let choice = *self;
        let Some(flag) = self.flag else {
            let name = PossibleValuesParser::new(self.names()).parse_ref(command, arg, typed)?;
            return self.find(&name).ok_or_else(|| clap::Error::new(ErrorKind::InvalidValue));
        };
        let parser =
            StringValueParser::new().try_map(move |typed| choice.find(&typed).ok_or_else(|| choice.rule(flag, &typed)));
        parser.parse_ref(command, arg, typed)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.names()))
    }
}

/// `--quality`.
pub(super) const QUALITIES: Choice<Quality> = Choice::new(&[
    ("exact", "The reference's arithmetic", Quality::Exact),
    ("lossless", "Faster arithmetic, equal within rounding", Quality::Lossless),
    ("high", "Approximations without visible difference; refused, because none is implemented", Quality::High),
]);

/// `--filter`.
pub(super) const FILTERS: Choice<Filter> = Choice::new(&[
    ("lanczos", "Windowed sinc of radius 3", Filter::Lanczos),
    ("bicubic", "Cubic convolution of radius 2 (Catmull-Rom)", Filter::Bicubic),
    ("bilinear", "Triangle of radius 1", Filter::Bilinear),
    ("nearest", "Nearest sample", Filter::Nearest),
]);

/// A library type with a [`FromStr`] that returns the message.
pub(super) fn parsed<T: FromStr<Err = Error>>(typed: &str) -> Result<T, String> {
    typed.parse().map_err(|e: Error| e.to_string())
}

/// A typed value for a message: a number as it is, text in quotes.
pub(super) fn shown(typed: &str) -> String {
    if typed.parse::<f64>().is_ok() { typed.into() } else { format!("'{typed}'") }
}

/// The largest count. Larger ones are typing errors, and their lists would fill the memory.
pub(super) const MOST: usize = 1_000_000;
/// The most threads, and the most items at the same time.
pub(super) const MOST_THREADS: usize = 1024;

/// An integer from 1 to [`MOST`]: `{name} must be a positive int, got …`.
pub(super) fn positive(name: &'static str) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    positive_to(name, MOST)
}

/// As [`positive`], up to `most`.
pub(super) fn positive_to(
    name: &'static str,
    most: usize,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |typed| match typed.parse::<usize>() {
        Ok(n) if n > most => Err(format!("{name} must be at most {most}, got {n}")),
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("{name} must be a positive int, got {}", shown(typed))),
    }
}

/// An integer of at least 0: `{name} must be an int of at least 0, got …`.
pub(super) fn count(name: &'static str) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |typed| typed.parse().map_err(|_| format!("{name} must be an int of at least 0, got {}", shown(typed)))
}

/// An integer in a closed range: `{name} must be an int in [a, b], got …`.
pub(super) fn int_in(
    name: &'static str,
    range: RangeInclusive<u32>,
) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    move |typed| match typed.parse::<u32>() {
        Ok(n) if range.contains(&n) => Ok(n),
        _ => Err(format!("{name} must be an int in [{}, {}], got {}", range.start(), range.end(), shown(typed))),
    }
}

/// A number in a closed range: `{name} must be in [a, b], got …`, bounds as written in `bounds`.
pub(super) fn float_in(
    name: &'static str,
    range: RangeInclusive<f64>,
    bounds: &'static str,
) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync + 'static {
    move |typed| match typed.parse::<f64>() {
        Ok(x) if range.contains(&x) => Ok(x),
        _ => Err(format!("{name} must be in {bounds}, got {}", shown(typed))),
    }
}

/// A finite number of at least 0: `{name} must be a finite number >= 0, got …`.
pub(super) fn non_negative(name: &'static str) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync + 'static {
    move |typed| match typed.parse::<f64>() {
        Ok(x) if x.is_finite() && x >= 0.0 => Ok(x),
        _ => Err(format!("{name} must be a finite number >= 0, got {}", shown(typed))),
    }
}

/// A finite number above 0: `{name} must be a positive number, got …`.
pub(super) fn positive_float(
    name: &'static str,
) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync + 'static {
    move |typed| match typed.parse::<f64>() {
        Ok(x) if x.is_finite() && x > 0.0 => Ok(x),
        _ => Err(format!("{name} must be a positive number, got {}", shown(typed))),
    }
}

/// A seed, in 0..2⁶⁴.
pub(super) fn seed(typed: &str) -> Result<u64, String> {
    typed.parse().map_err(|_| format!("seed must be a non-negative int or list of ints, got {}", shown(typed)))
}

/// `--progressive-delta`, in (0, 1).
pub(super) fn delta(typed: &str) -> Result<f64, String> {
    match typed.parse::<f64>() {
        Ok(x) if x > 0.0 && x < 1.0 => Ok(x),
        _ => Err(format!("progressive_delta must be in (0, 1), got {}", shown(typed))),
    }
}

/// `16`, `23.976` or `24000/1001` → frames per second.
pub(super) fn frame_rate(typed: &str) -> Result<f64, String> {
    let number = match typed.split_once('/') {
        Some((n, d)) => n.parse::<f64>().ok().zip(d.parse::<f64>().ok()).map(|(n, d)| n / d),
        None => typed.parse::<f64>().ok(),
    };
    number
        .filter(|x| x.is_finite() && *x > 0.0)
        .ok_or_else(|| format!("fps must be a positive number such as 16, 23.976 or 24000/1001, got {}", shown(typed)))
}

/// `WxH` in pixels → (width, height).
pub(super) fn size(typed: &str) -> Result<(usize, usize), String> {
    typed
        .split_once(['x', 'X', '×'])
        .and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)))
        .filter(|(w, h): &(usize, usize)| *w > 0 && *h > 0)
        .ok_or_else(|| format!("output_size must be WIDTHxHEIGHT in pixels such as 1280x720, got {}", shown(typed)))
}

/// `8GB`, `512MiB`, `1.5G`, `1000000` → bytes. K, M, G, T are powers of 1000, Ki, Mi, Gi, Ti powers of 1024; the B is optional.
pub(super) fn memory(typed: &str) -> Result<u64, String> {
    let wrong = || format!("memory_limit must be a size such as 8GB, 512MiB or 1000000, got {}", shown(typed));
    let digits = typed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(typed.len());
    let number: f64 = typed[..digits].parse().map_err(|_| wrong())?;
    let unit = typed[digits..].trim().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let (prefix, base) = match unit.strip_suffix('i') {
        Some(prefix) if !prefix.is_empty() => (prefix, 1024.0_f64),
        _ => (unit, 1000.0),
    };
    let power = ["", "k", "m", "g", "t"].iter().position(|p| *p == prefix).ok_or_else(wrong)?;
    let bytes = number * base.powi(power as i32);
    if bytes >= 1.0 && bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// `KEY=VALUE`, an encoder option.
pub(super) fn key_value(typed: &str) -> Result<(String, String), String> {
    match typed.split_once('=') {
        Some((k, v)) if !k.is_empty() => Ok((k.into(), v.into())),
        _ => Err(format!("-e takes KEY=VALUE, an encoder option, got {}", shown(typed))),
    }
}

/// `90`, `1:30`, `0:01:30.5` → seconds.
pub(super) fn time(typed: &str) -> Result<f64, String> {
    let wrong = || format!("a time must be seconds or [HH:]MM:SS[.mmm], got {}", shown(typed));
    let parts: Vec<f64> = typed.split(':').map(|p| p.parse::<f64>()).collect::<Result<_, _>>().map_err(|_| wrong())?;
    if parts.len() > 3 || parts.iter().any(|p| !p.is_finite() || *p < 0.0) || parts.iter().skip(1).any(|p| *p >= 60.0) {
        return Err(wrong());
    }
    Ok(parts.iter().fold(0.0, |seconds, part| seconds * 60.0 + part))
}

/// `2x`, `60fps` → factor or frame rate of interpolation.
pub(super) fn rate(typed: &str) -> Result<Rate, String> {
    let wrong = || format!("interpolate must be a factor such as 2x or a rate such as 60fps, got {}", shown(typed));
    if let Some(fps) = typed.strip_suffix("fps") {
        return frame_rate(fps).map(Rate::Fps).map_err(|_| wrong());
    }
    match (typed.strip_suffix(['x', 'X']).map(str::parse::<u32>), typed.parse::<f64>()) {
        (Some(Ok(n)), _) if n >= 2 => Ok(Rate::Times(n)),
        (None, Ok(n)) if n.is_finite() && n > 0.0 => Err(format!("{}; write {typed}x or {typed}fps", wrong())),
        _ => Err(wrong()),
    }
}

/// `2`, `1.5x`, `3840x2160`, `2160p`, `4k` → output size of upscaling.
pub(super) fn upscale(typed: &str) -> Result<UpscaleTarget, String> {
    let wrong =
        || format!("upscale must be a factor, WIDTHxHEIGHT or a height such as 2160p or 4k, got {}", shown(typed));
    if let Some((_, rows)) = HEIGHTS.iter().find(|(name, _)| name.eq_ignore_ascii_case(typed)) {
        return Ok(UpscaleTarget::Height(*rows));
    }
    if let Some(height) = typed.strip_suffix(['p', 'P']) {
        return positive("upscale")(height).map(UpscaleTarget::Height).map_err(|_| wrong());
    }
    let factor = typed.strip_suffix(['x', 'X']).unwrap_or(typed);
    if factor.contains(['x', 'X', '×']) {
        return size(typed)
            .map(|(width, height)| UpscaleTarget::Size { width, height })
            .map_err(|m| m.replacen("output_size", "upscale", 1));
    }
    match factor.parse::<f64>() {
        Ok(n) if !(1.0..=8.0).contains(&n) => Err(format!("upscale must be a factor in [1, 8], got {}", shown(typed))),
        Ok(n) if n.fract() == 0.0 => Ok(UpscaleTarget::Times(n as usize)),
        Ok(n) => Ok(UpscaleTarget::Factor(n)),
        Err(_) => Err(wrong()),
    }
}

/// Names of heights, with SGLang's rows.
const HEIGHTS: [(&str, usize); 3] = [("2k", 1440), ("4k", 2160), ("8k", 4320)];

/// SGLang's flags. Their messages are SGLang's sentences, which begin with the flag's name in Python.
const SGLANG: [&str; 20] = [
    "cfg_normalization",
    "flow_shift",
    "fps",
    "frame_interpolation_exp",
    "frame_interpolation_scale",
    "guidance_scale",
    "height",
    "max_sequence_length",
    "num_frames",
    "num_inference_steps",
    "num_outputs_per_prompt",
    "output_compression",
    "output_size",
    "progressive_delta",
    "progressive_levels",
    "progressive_mode",
    "seed",
    "upscaling_scale",
    "width",
    "x264_preset",
];

/// The message of a parser with the flag as typed, `--scene-threshold must be …`. Messages of SGLang's flags stay as they are.
pub(super) fn as_typed(message: String, flag: &str) -> String {
    let name = flag.trim_start_matches('-').replace('-', "_");
    match message.strip_prefix(&name) {
        Some(_) if SGLANG.contains(&name.as_str()) => message,
        Some(rest) => format!("{flag}{rest}"),
        None if message.starts_with(flag) || SGLANG.iter().any(|known| message.starts_with(known)) => message,
        None => format!("{flag}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let mut bad = Vec::new();
        let mut row = |what: &str, got: String, want: &str| {
            if got != want {
                bad.push(format!("{what}: wanted {want}, got {got}"));
            }
        };
        for (typed, want) in [
            ("8GB", "Ok(8000000000)"),
            ("512MiB", "Ok(536870912)"),
            ("1.5G", "Ok(1500000000)"),
            ("1000000", "Ok(1000000)"),
            ("2 GiB", "Ok(2147483648)"),
            ("16kib", "Ok(16384)"),
        ] {
            row(typed, format!("{:?}", memory(typed)), want);
        }
        for typed in ["", "GB", "8XB", "-1GB", "i", "8ib", "1e400", "0"] {
            row(typed, memory(typed).is_err().to_string(), "true");
        }
        for (typed, want) in [("90", "Ok(90.0)"), ("1:30", "Ok(90.0)"), ("1:00:00.5", "Ok(3600.5)")] {
            row(typed, format!("{:?}", time(typed)), want);
        }
        for typed in ["1:70", "a", "-1", "1:2:3:4", ""] {
            row(typed, time(typed).is_err().to_string(), "true");
        }
        for (typed, want) in [
            ("2x", "Ok(Times(2))"),
            ("60x", "Ok(Times(60))"),
            (
                "60",
                "Err(\"interpolate must be a factor such as 2x or a rate such as 60fps, got 60; write 60x or 60fps\")",
            ),
            ("1x", "Err(\"interpolate must be a factor such as 2x or a rate such as 60fps, got '1x'\")"),
            ("60fps", "Ok(Fps(60.0))"),
            ("30000/1001fps", "Ok(Fps(29.97002997002997))"),
        ] {
            row(typed, format!("{:?}", rate(typed)), want);
        }
        for (typed, want) in [
            ("2", "Ok(Times(2))"),
            ("4x", "Ok(Times(4))"),
            ("3840x2160", "Ok(Size { width: 3840, height: 2160 })"),
            ("2160p", "Ok(Height(2160))"),
            ("4k", "Ok(Height(2160))"),
            ("2K", "Ok(Height(1440))"),
            ("1.5", "Ok(Factor(1.5))"),
            ("1.5x", "Ok(Factor(1.5))"),
            ("2.0", "Ok(Times(2))"),
            ("9", "Err(\"upscale must be a factor in [1, 8], got 9\")"),
            ("0.5x", "Err(\"upscale must be a factor in [1, 8], got '0.5x'\")"),
            ("5k", "Err(\"upscale must be a factor, WIDTHxHEIGHT or a height such as 2160p or 4k, got '5k'\")"),
        ] {
            row(typed, format!("{:?}", upscale(typed)), want);
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }
}
