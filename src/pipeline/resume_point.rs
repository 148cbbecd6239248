//! The state of the stages of a video between two output frames.

use serde::{Deserialize, Serialize};

use crate::{
    media::video::Timing,
    stage::timeline::{Timeline, TimelineState},
};

/// Everything that a later run needs to continue before an output frame. The pixels it needs are decoded again. The serialized
/// field names are part of the journal format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ResumePoint {
    /// Time stamp of the output frame.
    pub from: i64,
    /// Number of the next source frame.
    pub number: u64,
    /// Position of the source frame before it.
    pub before: i64,
    /// Number of the last distinct source frame.
    pub anchor: u64,
    /// Its time stamp in the stream.
    pub stamp: i64,
    /// [`media::hash`](crate::media::hash) of its planes.
    pub hash: String,
    /// Duration in ticks of the source frame before `number`, used if it is the last.
    pub(super) last: i64,
    /// Bits of [`ChangeDetector::usual`](crate::stage::scene_change::ChangeDetector::usual).
    pub(super) usual: u32,
    #[serde(rename = "standing")]
    pub timeline: TimelineState,
}

impl ResumePoint {
    /// Whether a run of a video with these times can have left the point. A damaged journal may hold any numbers.
    pub(crate) fn fits(&self, timeline: &Timeline, timing: &Timing) -> bool {
        timeline.can_resume(&self.timeline, self.number, self.before, self.anchor)
            && self.last == timing.last
            && f32::from_bits(self.usual).is_finite()
    }
}
