//! Reads a finished file back to find tags that the container did not store.

use std::path::Path;

use ffmpeg_next::format::context;

use crate::{
    error::Result,
    media::video::{
        animation::webp::WebP,
        decode::info,
        open::open,
        pixel::color::{Color, ColorRange},
        rational::Rational,
        side_data::{SideData, rotation},
    },
};

/// Tags that a finished file should have.
pub(crate) struct ExpectedTags {
    side_data: Vec<SideData>,
    color: Color,
    is_rgb: bool,
    aspect: Rational,
    chapters: usize,
    metadata: Vec<String>,
}

impl ExpectedTags {
    /// Reads the tags from a container before it is closed. `color`: the encoder's tags; `is_rgb`: whether matrix and
    /// range are those of RGB.
    pub(crate) fn of(target: &context::Output, side_data: &[SideData], color: Color, is_rgb: bool) -> Self {
        // SAFETY: the caller owns the context. Its first stream is the video.
        let (aspect, chapters, metadata) = unsafe {
            let context = &*target.as_ptr();
            ((**context.streams).sample_aspect_ratio, context.nb_chapters as usize, info::pairs(context.metadata))
        };
        let metadata = metadata.into_iter().map(|(key, _)| key.to_ascii_lowercase()).filter(|key| key != "encoder");
        let metadata = metadata.collect();
        Self { side_data: side_data.to_vec(), color, is_rgb, aspect: aspect.into(), chapters, metadata }
    }

    /// Tags that the file at `path` does not have, each a phrase.
    pub(crate) fn missing(&self, path: &Path) -> Result<Vec<String>> {
        let (found, chapters) = match WebP::open(path)? {
            Some(webp) => (webp.info.clone(), 0),
            None => {
                let input = open(path)?;
                // SAFETY: a field of the container that `input` owns.
                (info::of_input(&input, path)?, unsafe { (*input.as_ptr()).nb_chapters as usize })
            }
        };
        let mut missing = Vec::new();
        let turned = rotation(&self.side_data);
        if turned != found.rotation {
            missing.push(format!("the rotation by {turned} degrees"));
        }
        let square = |r: Rational| if r.is_known() { r.value() } else { 1.0 };
        if (square(self.aspect) / square(found.sample_aspect_ratio) - 1.0).abs() > 1e-3 {
            missing.push(format!("the sample aspect ratio {}", self.aspect));
        }
        missing.extend(self.colours(&found.color));
        let has = |kind| found.side_data.iter().any(|s| s.kind == kind);
        let lost = self.side_data.iter().filter(|s| !has(s.kind) && !s.is_rotation());
        missing.extend(lost.map(|s| s.name().to_owned()));
        if chapters < self.chapters {
            missing.push(format!("{} of {} chapters", self.chapters - chapters, self.chapters));
        }
        let kept = |key: &String| found.metadata.iter().any(|(k, _)| k.eq_ignore_ascii_case(key));
        let lost: Vec<_> = self.metadata.iter().filter(|key| !kept(key)).map(String::as_str).collect();
        if !lost.is_empty() {
            missing.push(format!("metadata: {}", lost.join(", ")));
        }
        let container = container(path);
        Ok(missing.into_iter().map(|what| format!("{what} (.{container} does not store it)")).collect())
    }

    fn colours(&self, found: &Color) -> Option<String> {
        let (asked, rgb) = (self.color, self.is_rgb);
        let lost = [
            ("primaries", asked.primaries != 2 && asked.primaries != found.primaries),
            ("transfer", asked.transfer != 2 && asked.transfer != found.transfer),
            ("matrix", !rgb && asked.matrix != 2 && asked.matrix != found.matrix),
            ("range", !rgb && asked.range == ColorRange::Full && found.range != ColorRange::Full),
        ];
        let lost: Vec<_> = lost.iter().filter(|(_, lost)| *lost).map(|(name, _)| *name).collect();
        (!lost.is_empty()).then(|| format!("the colour tags of {}", lost.join(", ")))
    }
}

fn container(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().into_owned()
}
